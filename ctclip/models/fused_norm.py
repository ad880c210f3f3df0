"""Batch norm with what follows it, in one call of ctkernels.bn_act: the image tower's `norm = "fused"`.

Parameters, buffers and their names are those of nn.BatchNorm3d, and on the CPU so are the numbers. On a GPU it is
opt-in: whether it is faster than what torch.compile makes of the three is for a measured row to say.
"""

from torch import Tensor, nn
from torch.nn import functional

from ctkernels import bn_act


class FusedBatchNorm(nn.BatchNorm3d):
    """nn.BatchNorm3d that also adds a residual and applies ReLU."""

    def forward(self, input: Tensor, residual: Tensor | None = None, *, has_relu: bool = False) -> Tensor:
        """(B, C, D, H, W) of the same shape: [ReLU](batch_norm(input) [+ residual])."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        if self.training:
            self.num_batches_tracked.add_(1)
        return bn_act(
            input,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            residual=residual,
            has_relu=has_relu,
            momentum=self.momentum,
            eps=self.eps,
            is_training=self.training,
        )


def norm_act(norm: nn.Module, hidden: Tensor, residual: Tensor | None = None) -> Tensor:
    """relu(norm(hidden) [+ residual]) of either batch norm, (B, C, D, H, W)."""
    if isinstance(norm, FusedBatchNorm):
        return norm(hidden, residual, has_relu=True)
    normalised = norm(hidden)
    return functional.relu(normalised if residual is None else normalised + residual, inplace=True)
