"""Batch-norm statistics of a momentum copy: of its own activations, and never of the batch that is being normalised.

Keys that share batch statistics with their queries give away which key is whose (He et al. 2020, section 3.3, who
shuffle the batch among GPUs). Running statistics that follow the trained encoder's, as its weights do, are those of
neither encoder and begin at 0 and 1: keys of such a copy are all alike, and nothing is learned from them. So the copy
keeps running statistics of what flows through itself: from the first batch outright, then moved a little after each.

All sums are over studies one by one, since each is normalised by what was known before: micro-batches and ranks change
nothing but the order of sums.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ctclip.training.distributed import World
from ctclip.training.running_statistics import RunningStatistics


class KeyStatistics:
    """Looks after the running statistics of a module in evaluation mode.

    Args:
        module: The copy.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
        self._sums: list[Tensor] = []
        self._counts: list[int] = []
        self._is_collecting = False
        for place, norm in enumerate(self._norms):
            norm.register_forward_pre_hook(partial(self._collect, place))

    @property
    def is_new(self) -> bool:
        """Whether the statistics are of nothing yet. Waits for the device."""
        return any(int(norm.num_batches_tracked) == 0 for norm in self._norms if norm.num_batches_tracked is not None)

    def measure(self, passes: list[Callable[[], Tensor]], world: World) -> None:
        """Take them outright from forward passes in training mode, one per group; their mean over groups and ranks."""
        own = [norm.momentum for norm in self._norms]
        self._module.train()
        statistics = RunningStatistics(self._module, world)
        try:
            for norm in self._norms:
                norm.momentum = 1.0
            statistics.begin()
            for forward in passes:
                forward()
                statistics.collect()
            device = self._norms[0].weight.device if self._norms else None
            statistics.finish(torch.tensor(False, device=device))
        finally:
            for norm, momentum in zip(self._norms, own, strict=True):
                norm.momentum = momentum
            self._module.eval()

    def begin(self) -> None:
        """Before the forward passes of a batch."""
        self._sums = [torch.zeros(0)] * len(self._norms)
        self._counts = [0] * len(self._norms)
        self._is_collecting = True

    @torch.no_grad()
    def finish(self, world: World) -> None:
        """After them: move each norm's statistics its momentum of the way to those of the batch, over all ranks."""
        self._is_collecting = False
        if not self._norms:
            return
        sizes = [2 * norm.num_features for norm in self._norms]
        total = torch.cat(self._sums)
        if world.size > 1:
            dist.all_reduce(total)
        for norm, sums, count in zip(self._norms, total.split(sizes), self._counts, strict=True):
            number = count * world.size
            mean, square = (sums / number).chunk(2)
            variance = (square - mean * mean).clamp_min(0) * (number / max(1, number - 1))
            assert norm.running_mean is not None
            assert norm.running_var is not None
            share = 0.1 if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)

    @torch.no_grad()
    def _collect(self, place: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """What flows into the norm at this place of the list: a hook before its forward pass."""
        if not self._is_collecting:
            return
        values = inputs[0]
        axes = [axis for axis in range(values.ndim) if axis != 1]
        count = values.numel() // values.shape[1]
        variance, mean = torch.var_mean(values.float(), axes, correction=0)
        mean, variance = mean.double(), variance.double()
        sums = count * torch.cat([mean, variance + mean * mean])
        self._sums[place] = sums if self._counts[place] == 0 else self._sums[place] + sums
        self._counts[place] += count
