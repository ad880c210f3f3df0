"""Batch norm's running statistics: updated once per optimizer step, whatever the number of forward passes.

A forward pass in training mode moves the running mean and variance m of the way to the statistics of its studies.
With several groups per step, in turn or on several ranks, they end where one update by the mean of the groups'
statistics would have taken them: the mean over groups of what each group alone would have made of them. A second
forward pass over the same studies (gradient cache, recomputing) changes nothing.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ctclip.training.distributed import World


class RunningStatistics:
    """Running means and variances of a model's batch norms, held as one vector over a step.

    Args:
        model: Its batch norms in training mode are looked after; a model without any costs nothing.
        world: Ranks whose groups are averaged.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.training]
        self._floats: list[Tensor] = []
        self._counts: list[Tensor] = []
        for norm in norms:
            if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
                # `.data`: writing is not noted by autograd, whose backward pass in training mode does not read them.
                self._floats += [norm.running_mean.data, norm.running_var.data]
                self._counts.append(norm.num_batches_tracked.data)
        self._sizes = [part.numel() for part in self._floats]
        self._world = world
        self._is_collecting = False

    @torch.no_grad()
    def begin(self) -> None:
        """Before the first forward pass of a step."""
        if not self._floats:
            return
        self._before, self._counts_before = self._read(), torch.stack(self._counts)
        self._total, self._num_groups = torch.zeros_like(self._before), 0
        self._is_collecting = True

    @torch.no_grad()
    def collect(self) -> None:
        """After the forward pass of one group."""
        if not self._is_collecting:
            return
        self._total += self._read()
        self._num_groups += 1
        self._write(self._before)

    def stop_collecting(self) -> None:
        """Later forward passes of this step are of studies that were seen."""
        self._is_collecting = False

    @torch.no_grad()
    def finish(self, is_bad: Tensor) -> None:
        """After the last forward pass: put the step's statistics in place, the former ones where it was bad.

        Args:
            is_bad: Scalar bool on the device: the step is skipped.
        """
        self._is_collecting = False
        if not self._floats:
            return
        after = self._total / self._num_groups
        if self._world.size > 1:
            dist.all_reduce(after)
            after /= self._world.size
        self._write(torch.where(is_bad, self._before, after))
        counts = self._counts_before + (~is_bad).to(self._counts_before.dtype)
        torch._foreach_copy_(self._counts, list(counts.unbind()))

    def _read(self) -> Tensor:
        return torch.cat(self._floats)

    def _write(self, values: Tensor) -> None:
        torch._foreach_copy_(self._floats, list(values.split(self._sizes)))
