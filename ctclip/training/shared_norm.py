"""Batch norm whose statistics several ranks share, for a bn_group beyond one rank's part.

torch's SyncBatchNorm does this on GPUs only; this one is plain torch with two small sums over ranks each way, so
that it is the same function on every device. It holds more for the backward pass than the fused batch norm does:
where memory allows, a bn_group of one rank's studies is the faster choice.
"""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ctclip.training.distributed import World


class SharedBatchNorm(nn.BatchNorm3d):
    """nn.BatchNorm3d over the studies of all ranks of a group; in evaluation mode the same as without a group."""

    group: dist.ProcessGroup

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, D, H, W) in and out; statistics over B of every rank, D, H and W."""
        if not self.training:
            return super().forward(input)
        x_BCDHW = input.float()
        count = x_BCDHW.numel() // x_BCDHW.shape[1] * dist.get_world_size(self.group)
        mean_C = _SumOverRanks.apply(x_BCDHW.sum((0, 2, 3, 4)), self.group) / count
        centred_BCDHW = x_BCDHW - _spread(mean_C)
        variance_C = _SumOverRanks.apply(centred_BCDHW.square().sum((0, 2, 3, 4)), self.group) / count
        self._remember(mean_C.detach(), variance_C.detach() * (count / (count - 1)))
        scale_C = self.weight * torch.rsqrt(variance_C + self.eps)
        return (centred_BCDHW * _spread(scale_C) + _spread(self.bias)).to(input.dtype)

    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.data.lerp_(mean_C, self.momentum)
        self.running_var.data.lerp_(variance_C, self.momentum)
        self.num_batches_tracked.data.add_(1)


def share_batch_norm(model: nn.Module, world: World, ranks_per_group: int) -> None:
    """Let every nn.BatchNorm3d of a model share its statistics among groups of consecutive ranks, in place.

    Every rank calls it. Names in the state_dict stay as they are.

    Args:
        model: Without wrappers.
        world: This rank among all.
        ranks_per_group: Divides the number of ranks.
    """
    groups = [dist.new_group(range(first, first + ranks_per_group)) for first in range(0, world.size, ranks_per_group)]
    own = cast(dist.ProcessGroup, groups[world.rank // ranks_per_group])
    for module in model.modules():
        if type(module) is nn.BatchNorm3d:
            module.__class__ = SharedBatchNorm
            cast(SharedBatchNorm, module).group = own


def _spread(values_C: Tensor) -> Tensor:
    return values_C[:, None, None, None]


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        total = grad_outputs[0].clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None
