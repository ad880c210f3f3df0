"""Device code of `bn_act`: batch norm in training mode, residual add and ReLU of NDHWC volumes, forward and backward.

The volumes are read as rows of channels. Forward: one pass for the statistics (per strip of rows, then merged), one
for the result. Backward: one pass for the two sums per channel, one for the gradients. Nothing between the passes is
stored but numbers per channel. No atomics: the same bits every time.

This file checks nothing. It has been compiled for sm_90 and run in Triton's interpreter, not on a GPU.

Axes: M voxels of all studies, C channels, S strips of voxels.
"""

# Triton's functions take more than their Python signatures say.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CHANNELS, NUM_WARPS = 64, 64, 4  # of one tile: 64 bfloat16 channels are one 128-byte line
PROGRAMS = 528  # strips are made until a pass over the channels has about this many programs
MAX_STRIPS = 256


class Normalised(NamedTuple):
    """`y` as the volume; `mean` and `inverse` (1 / standard deviation), (C,) float32."""

    y: Tensor
    mean: Tensor
    inverse: Tensor


@triton.jit
def tile_place(num_rows, C: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr):
    """Of this program's tile: its channels, which of them there are, which cells there are, and where they lie."""
    row = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    channel = tl.program_id(1) * BC + tl.arange(0, BC)
    is_channel = channel < C
    return channel, is_channel, (row < num_rows)[:, None] & is_channel[None, :], row[:, None] * C + channel[None, :]


@triton.jit
def channel_facts(weight_ptr, mean_ptr, inverse_ptr, channel, is_channel):
    """Mean, 1 / standard deviation, and that times the weight, float32."""
    mean = tl.load(mean_ptr + channel, mask=is_channel, other=0.0)
    inverse = tl.load(inverse_ptr + channel, mask=is_channel, other=0.0)
    return mean, inverse, tl.load(weight_ptr + channel, mask=is_channel, other=0.0).to(tl.float32) * inverse


@triton.jit
def relu_slope(d_y_ptr, y_ptr, at, inside, HAS_RELU: tl.constexpr):
    """The gradient before ReLU."""
    slope = tl.load(d_y_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_RELU:
        slope = tl.where(tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32) > 0.0, slope, 0.0)
    return slope


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def moments_kernel(x_ptr, partial_ptr, num_rows, num_tiles, C: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr):
    """partial (S, 3, C): rows counted, mean, sum of squared deviations (Chan et al. 1979) of each strip."""
    strip, num_strips = tl.program_id(1), tl.num_programs(1)
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    is_channel = channel < C
    count, mean, square = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    for tile in range(strip, num_tiles, num_strips):
        row = (tile * BM + tl.arange(0, BM)).to(tl.int64)
        inside = (row < num_rows)[:, None] & is_channel[None, :]
        x = tl.load(x_ptr + row[:, None] * C + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        added = tl.sum((row < num_rows).to(tl.float32), 0)
        tile_mean = tl.sum(x, 0) / added
        apart = tl.where(inside, x - tile_mean[None, :], 0.0)
        together = count + added
        step = tile_mean - mean
        mean += step * (added / together)
        square += tl.sum(apart * apart, 0) + step * step * (count * added / together)
        count = together
    into = partial_ptr + strip * 3 * C + channel
    tl.store(into, count, mask=is_channel)
    tl.store(into + C, mean, mask=is_channel)
    tl.store(into + 2 * C, square, mask=is_channel)


@triton.jit(do_not_specialize=["num_strips"])
def statistics_kernel(
    partial_ptr, mean_ptr, inverse_ptr, running_mean_ptr, running_var_ptr, num_strips, momentum, eps,
    C: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """mean and inverse (C,) of the batch; running statistics moved in place, the variance unbiased as in torch."""
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    is_channel = channel < C
    count, mean, square = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    for strip in range(0, num_strips):
        at = partial_ptr + strip * 3 * C + channel
        added = tl.load(at, mask=is_channel, other=0.0)
        step = tl.load(at + C, mask=is_channel, other=0.0) - mean
        together = tl.maximum(count + added, 1.0)
        square += tl.load(at + 2 * C, mask=is_channel, other=0.0) + step * step * (count * added / together)
        mean += step * (added / together)
        count += added
    tl.store(mean_ptr + channel, mean, mask=is_channel)
    tl.store(inverse_ptr + channel, 1.0 / tl.sqrt(square / tl.maximum(count, 1.0) + eps), mask=is_channel)
    if running_mean_ptr is not None:
        old_mean = tl.load(running_mean_ptr + channel, mask=is_channel, other=0.0)
        old_var = tl.load(running_var_ptr + channel, mask=is_channel, other=0.0)
        unbiased = square / tl.maximum(count - 1.0, 1.0)
        tl.store(running_mean_ptr + channel, (1.0 - momentum) * old_mean + momentum * mean, mask=is_channel)
        tl.store(running_var_ptr + channel, (1.0 - momentum) * old_var + momentum * unbiased, mask=is_channel)


@triton.jit(do_not_specialize=["num_rows"])
def apply_kernel(
    x_ptr, residual_ptr, weight_ptr, bias_ptr, mean_ptr, inverse_ptr, y_ptr, num_rows,
    C: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, HAS_RELU: tl.constexpr,
):  # fmt: skip
    """y = [ReLU]((x - mean) inverse weight + bias [+ residual])."""
    channel, is_channel, inside, at = tile_place(num_rows, C, BM, BC)
    mean, _inverse, factor = channel_facts(weight_ptr, mean_ptr, inverse_ptr, channel, is_channel)
    bias = tl.load(bias_ptr + channel, mask=is_channel, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    y = (x - mean[None, :]) * factor[None, :] + bias[None, :]
    if residual_ptr is not None:
        y += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_RELU:
        y = tl.maximum(y, 0.0)
    tl.store(y_ptr + at, y, mask=inside)


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def slopes_kernel(
    d_y_ptr, x_ptr, y_ptr, mean_ptr, inverse_ptr, partial_ptr, num_rows, num_tiles,
    C: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, HAS_RELU: tl.constexpr,
):  # fmt: skip
    """partial (S, 2, C): of the gradient before ReLU, its sum and its sum times the normalised input."""
    strip, num_strips = tl.program_id(1), tl.num_programs(1)
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    is_channel = channel < C
    mean = tl.load(mean_ptr + channel, mask=is_channel, other=0.0)
    inverse = tl.load(inverse_ptr + channel, mask=is_channel, other=0.0)
    total, product = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    for tile in range(strip, num_tiles, num_strips):
        row = (tile * BM + tl.arange(0, BM)).to(tl.int64)
        inside = (row < num_rows)[:, None] & is_channel[None, :]
        at = row[:, None] * C + channel[None, :]
        slope = relu_slope(d_y_ptr, y_ptr, at, inside, HAS_RELU)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(slope, 0)
        product += tl.sum(slope * (x - mean[None, :]), 0) * inverse
    into = partial_ptr + strip * 2 * C + channel
    tl.store(into, total, mask=is_channel)
    tl.store(into + C, product, mask=is_channel)


@triton.jit(do_not_specialize=["num_rows"])
def gradients_kernel(
    d_y_ptr, x_ptr, y_ptr, weight_ptr, mean_ptr, inverse_ptr, sums_ptr, d_x_ptr, d_residual_ptr, num_rows,
    C: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, HAS_RELU: tl.constexpr,
):  # fmt: skip
    """d_x = weight inverse (slope - mean of slope - normalised x mean of slope normalised x); d_residual = slope."""
    channel, is_channel, inside, at = tile_place(num_rows, C, BM, BC)
    slope = relu_slope(d_y_ptr, y_ptr, at, inside, HAS_RELU)
    if d_residual_ptr is not None:
        tl.store(d_residual_ptr + at, slope, mask=inside)
    mean, inverse, factor = channel_facts(weight_ptr, mean_ptr, inverse_ptr, channel, is_channel)
    by_bias = tl.load(sums_ptr + channel, mask=is_channel, other=0.0) / num_rows
    by_weight = tl.load(sums_ptr + C + channel, mask=is_channel, other=0.0) / num_rows
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    normalised = (x - mean[None, :]) * inverse[None, :]
    d_x = factor[None, :] * (slope - by_bias[None, :] - normalised * by_weight[None, :])
    tl.store(d_x_ptr + at, d_x, mask=inside)


def launch_forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    has_relu: bool,
) -> Normalised:
    """Three launches. `x` and `residual` (B, C, D, H, W) dense in channels_last_3d; running statistics float32."""
    channels = x.shape[1]
    num_rows, num_tiles, blocks, strips = _grid(x)
    partial = torch.empty(strips, 3, channels, device=x.device, dtype=torch.float32)
    mean, inverse = (torch.empty(channels, device=x.device, dtype=torch.float32) for _ in range(2))
    y = torch.empty_like(x)
    tile = {"C": channels, "BM": ROWS, "BC": CHANNELS, "num_warps": NUM_WARPS}
    moments_kernel[(blocks, strips)](x, partial, num_rows, num_tiles, **tile)
    statistics_kernel[(blocks,)](
        partial, mean, inverse, running_mean, running_var, strips, momentum, eps, C=channels, BC=CHANNELS, num_warps=2
    )
    apply_kernel[(num_tiles, blocks)](
        x, residual, weight, bias, mean, inverse, y, num_rows, HAS_RELU=has_relu, **tile
    )  # fmt: skip
    return Normalised(y, mean, inverse)


def launch_backward(
    d_y: Tensor,
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    has_relu: bool,
    has_residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Two launches and one sum over the strips: gradients of x, of the residual (empty without), and (2, C): of bias
    and weight."""
    channels = x.shape[1]
    num_rows, num_tiles, blocks, strips = _grid(x)
    partial = torch.empty(strips, 2, channels, device=x.device, dtype=torch.float32)
    tile = {"C": channels, "BM": ROWS, "BC": CHANNELS, "HAS_RELU": has_relu, "num_warps": NUM_WARPS}
    slopes_kernel[(blocks, strips)](d_y, x, y, mean, inverse, partial, num_rows, num_tiles, **tile)
    sums = partial.sum(0)
    d_x = torch.empty_like(x)
    d_residual = torch.empty_like(x) if has_residual else x.new_empty(0)
    gradients_kernel[(num_tiles, blocks)](
        d_y, x, y, weight, mean, inverse, sums, d_x, d_residual if has_residual else None, num_rows, **tile
    )
    return d_x, d_residual, sums


def _grid(x: Tensor) -> tuple[int, int, int, int]:
    """Rows, tiles of rows, blocks of channels, strips."""
    num_rows = x.numel() // x.shape[1]
    num_tiles, blocks = triton.cdiv(num_rows, ROWS), triton.cdiv(x.shape[1], CHANNELS)
    return num_rows, num_tiles, blocks, max(1, min(MAX_STRIPS, num_tiles, PROGRAMS // blocks))
