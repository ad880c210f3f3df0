"""An exponential moving average (EMA) of the weights, which is evaluated in place of the last ones."""

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages of a model's floating-point state (parameters and running statistics), on the model's device.

    average <- average + (1 - d) (weights - average), d = min(decay, (1 + step) / (10 + step)): the ramp, that of
    TensorFlow's ExponentialMovingAverage with num_updates, keeps the first random weights from lasting.

    Args:
        model: Whose state is averaged; its values now are the first average.
        decay: d after the ramp, 0 < decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        state = model.state_dict()
        self._decay = decay
        self._names = [name for name, value in state.items() if value.is_floating_point()]
        self._weights = [state[name] for name in self._names]  # state_dict shares memory with the model
        self._averages = [value.clone() for value in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimizer step number `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the names of the model's state."""
        return dict(zip(self._names, self._averages, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved averages of the same model."""
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(state[name])
