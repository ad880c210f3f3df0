"""Batch norm, residual add and ReLU of NDHWC volumes in one call: dispatch and autograd.

Opt-in: no model uses it until a measured row shows that it is faster than what torch.compile makes of the three.

Axes: B studies, C channels, D, H, W voxels.
"""

import torch
from torch import Tensor

from ctkernels.bn_act_reference import bn_act_reference
from ctkernels.infonce_library import is_for_triton

torch.library.define(
    "ctkernels::bn_act",
    "(Tensor x, Tensor? residual, Tensor weight, Tensor bias, Tensor(a!) running_mean, Tensor(b!) running_var, "
    "float momentum, float eps, bool has_relu) -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "ctkernels::bn_act_backward",
    "(Tensor d_y, Tensor x, Tensor y, Tensor weight, Tensor mean, Tensor inverse, bool has_relu, bool has_residual) "
    "-> (Tensor, Tensor, Tensor)",
)


def bn_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    residual: Tensor | None = None,
    has_relu: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    is_training: bool = True,
) -> Tensor:
    """[ReLU](batch_norm(x) [+ residual]), with the arithmetic in float32.

    On an NVIDIA GPU, in training mode, for dense channels_last_3d volumes, five Triton launches do forward and backward
    together; everything else runs torch's own calls. `num_batches_tracked` is the caller's.

    Args:
        x: (B, C, D, H, W).
        weight: (C,).
        bias: (C,).
        running_mean: (C,) float32, moved in place in training mode.
        running_var: (C,) float32, moved in place in training mode towards the unbiased variance.
        residual: As x, added before the ReLU.
        has_relu: Whether negative results become 0.
        momentum: Share of the batch in the running statistics.
        eps: Added to the variance.
        is_training: Statistics of the batch; else the running ones.

    Returns:
        As x.

    Raises:
        ValueError: Shapes that do not fit.

    Example:
        >>> import torch
        >>> x = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1)
        >>> ones, zeros = torch.ones(1), torch.zeros(1)
        >>> bn_act(x, ones, zeros, zeros.clone(), ones.clone()).flatten().round(decimals=3)
        tensor([0., 1.])
    """
    if x.ndim != 5 or any(tensor.shape != x.shape[1:2] for tensor in (weight, bias, running_mean, running_var)):
        shapes = [tuple(tensor.shape) for tensor in (x, weight, bias, running_mean, running_var)]
        raise ValueError(f"bn_act needs x (B, C, D, H, W) and four tensors (C,), got {shapes}")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"bn_act needs a residual of x's shape {tuple(x.shape)}, got {tuple(residual.shape)}")
    volumes = (x,) if residual is None else (x, residual)
    is_dense = all(volume.is_contiguous(memory_format=torch.channels_last_3d) for volume in volumes)
    if is_training and is_dense and is_for_triton(*volumes):
        return _BnAct.apply(x, residual, weight, bias, running_mean, running_var, momentum, eps, has_relu)
    return bn_act_reference(
        x, weight, bias, running_mean, running_var,
        residual=residual, has_relu=has_relu, momentum=momentum, eps=eps, is_training=is_training,
    )  # fmt: skip


class _BnAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, residual, weight, bias, running_mean, running_var, momentum, eps, has_relu) -> Tensor:
        y, mean, inverse = torch.ops.ctkernels.bn_act.default(
            x, residual, weight, bias, running_mean, running_var, momentum, eps, has_relu
        )
        ctx.save_for_backward(x, y, weight, mean, inverse)
        ctx.has_relu, ctx.has_residual = has_relu, residual is not None
        return y

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        x, y, weight, mean, inverse = ctx.saved_tensors
        d_y = grad_outputs[0].contiguous(memory_format=torch.channels_last_3d)
        d_x, d_residual, sums = torch.ops.ctkernels.bn_act_backward.default(
            d_y, x, y, weight, mean, inverse, ctx.has_relu, ctx.has_residual
        )
        d_bias, d_weight = sums.to(weight.dtype).unbind()
        return d_x, d_residual if ctx.has_residual else None, d_weight, d_bias, *[None] * 5


@torch.library.impl("ctkernels::bn_act", "CUDA")
def _forward(*arguments) -> tuple[Tensor, ...]:
    from ctkernels.bn_act_triton import launch_forward  # an optional package, and only for CUDA

    with torch.cuda.device(arguments[0].device):
        return tuple(launch_forward(*arguments))


@torch.library.impl("ctkernels::bn_act_backward", "CUDA")
def _backward(*arguments) -> tuple[Tensor, ...]:
    from ctkernels.bn_act_triton import launch_backward

    with torch.cuda.device(arguments[0].device):
        return launch_backward(*arguments)


@torch.library.register_fake("ctkernels::bn_act")
def _forward_shapes(x: Tensor, *arguments) -> tuple[Tensor, ...]:
    per_channel = [x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2)]
    return torch.empty_like(x), *per_channel


@torch.library.register_fake("ctkernels::bn_act_backward")
def _backward_shapes(d_y: Tensor, x: Tensor, *arguments) -> tuple[Tensor, ...]:
    d_residual = torch.empty_like(x) if arguments[-1] else x.new_empty(0)
    return torch.empty_like(x), d_residual, x.new_empty(2, x.shape[1], dtype=torch.float32)
