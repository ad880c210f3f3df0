"""Losses of recent steps: kept on the device, looked at when asked, refused when not finite."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ctclip.errors import DivergedError
from ctclip.text_units import FULL


@dataclass(frozen=True)
class _Unseen:
    step: int
    unit: str
    study: tuple[str, ...]
    values: Tensor  # (2,): loss and gradient norm


class LossWatch:
    """Collects each step's loss and gradient norm without waiting for the device."""

    def __init__(self) -> None:
        self._unseen: list[_Unseen] = []
        self._seen: list[tuple[str, float, float]] = []
        self.last = math.nan

    def add(self, step: int, unit: str, study: tuple[str, ...], loss: Tensor, norm: Tensor) -> None:
        """Remember a step (counted from 1) with the text unit and the studies of this rank's batch."""
        self._unseen.append(_Unseen(step, unit, study, torch.stack([loss, norm])))

    def look(self) -> None:
        """Read what was added since the last look; waits for the device.

        Raises:
            DivergedError: A loss or a norm is not finite; names the step and its studies.
        """
        if not self._unseen:
            return
        values = torch.stack([entry.values for entry in self._unseen]).tolist()
        for entry, (loss, norm) in zip(self._unseen, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise DivergedError(
                    f"step {entry.step} has loss {loss} and gradient norm {norm}, which must be finite; text unit "
                    f"{entry.unit!r}, studies {', '.join(entry.study)}. Look at these studies (`ctload verify`), or go "
                    "on from the last checkpoint with a lower optim.learning_rate or a longer optim.warmup_steps"
                )
            self._seen.append((entry.unit, loss, norm))
        self.last = values[-1][0]
        self._unseen.clear()

    def take(self) -> dict[str, float]:
        """Means over the steps seen since the last call: loss, of full reports and of sections, and the norm."""
        full = [loss for unit, loss, _ in self._seen if unit == FULL]
        sections = [loss for unit, loss, _ in self._seen if unit != FULL]
        groups = {
            "loss": full + sections,
            "loss_report": full,
            "loss_sections": sections,
            "gradient_norm": [norm for *_, norm in self._seen],
        }
        self._seen = []
        return {name: sum(values) / len(values) for name, values in groups.items() if values}
