"""Device code of `infonce`: one launch from raw features to the loss and all three gradients, for up to 64 pairs.

The formulas are those of infonce_op.py, whose closed form is this kernel's slow twin. Every program computes all
logits again (2 B^2 E operations, 4 million at 64 x 512) and owns one slice of the joint dimension of both feature
gradients: no barrier between programs, no atomics, the same bits every time.

This file checks nothing and is not yet on the default path: it has been compiled for sm_90 and run in Triton's
interpreter, not on a GPU.

Axes: B pairs, E joint dimension.
"""

# Triton's functions take more than their Python signatures say.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_PAIRS = 64
# (padded B, products in float32) -> columns of the gradients that one program owns, warps. The fastest are for a GPU to
# tell; these are the largest slices that compile for sm_90 without spilling registers.
LAUNCH = {
    (16, False): (64, 4), (32, False): (64, 8), (64, False): (64, 8),
    (16, True): (64, 4), (32, True): (32, 8), (64, True): (32, 8),
}  # fmt: skip


@triton.jit
def _softplus(x):
    # log1p by Kahan's correction: plain Triton has none, and log(1 + y) loses a small y.
    y = tl.exp(-tl.abs(x))
    w = 1.0 + y
    log1p = tl.where(w == 1.0, y, tl.log(w) * (y / tl.where(w == 1.0, 1.0, w - 1.0)))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def _sigmoid(x):
    y = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, y) / (1.0 + y)


@triton.jit
def _surprise(negatives, positive, axis: tl.constexpr):
    """log(sum of negatives / positive) along an axis; -inf where there is no negative."""
    largest = tl.max(negatives, axis)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    shifted = negatives - (largest[:, None] if axis == 1 else largest[None, :])
    return tl.log(tl.sum(tl.exp(shifted), axis)) + largest - positive


@triton.jit
def _matmul(g, rows, IS_UPCAST: tl.constexpr):
    """g (B, B) float32 times rows (B, BE), to float32. In bfloat16, g goes in two parts so that it keeps 16 bits."""
    if IS_UPCAST:
        return tl.dot(g, rows.to(tl.float32), input_precision="tf32x3")
    high = g.to(rows.dtype)
    low = (g - high.to(tl.float32)).to(rows.dtype)
    return tl.dot(low, rows, tl.dot(high, rows))


@triton.jit
def small_kernel(
    image_ptr, text_ptr, scale_ptr, loss_ptr, d_image_ptr, d_text_ptr, d_scale_ptr, num_pairs,
    E: tl.constexpr, BM: tl.constexpr, BE: tl.constexpr, IS_UPCAST: tl.constexpr,
):  # fmt: skip
    """Loss (), d_image (B, E), d_text (B, E) and d_scale (), float32, of contiguous features (B, E)."""
    pair = tl.arange(0, BM)
    column = tl.arange(0, BE)
    is_pair = pair < num_pairs
    dots = tl.zeros([BM, BM], tl.float32)
    image_square = tl.zeros([BM], tl.float32)
    text_square = tl.zeros([BM], tl.float32)
    for start in range(0, E, BE):
        at = pair[:, None] * E + start + column[None, :]
        inside = is_pair[:, None] & (start + column[None, :] < E)
        image = tl.load(image_ptr + at, mask=inside, other=0.0)
        text = tl.load(text_ptr + at, mask=inside, other=0.0)
        if IS_UPCAST:
            image, text = image.to(tl.float32), text.to(tl.float32)
        dots = tl.dot(image, tl.trans(text), dots, input_precision="tf32x3")
        image_square += tl.sum(image.to(tl.float32) * image.to(tl.float32), 1)
        text_square += tl.sum(text.to(tl.float32) * text.to(tl.float32), 1)

    image_inverse = 1.0 / tl.maximum(tl.sqrt(image_square), 1e-12)
    text_inverse = 1.0 / tl.maximum(tl.sqrt(text_square), 1e-12)
    scale = tl.exp(tl.load(scale_ptr).to(tl.float32))
    logits = dots * (scale * image_inverse)[:, None] * text_inverse[None, :]

    is_own = pair[:, None] == pair[None, :]
    is_negative = is_pair[:, None] & is_pair[None, :] & (pair[:, None] != pair[None, :])
    negatives = tl.where(is_negative, logits, float("-inf"))
    positive = tl.sum(tl.where(is_own, logits, 0.0), 1)
    by_row = _surprise(negatives, positive, 1)
    by_column = _surprise(negatives, positive, 0)
    weight = 0.5 / num_pairs
    row_loss, column_loss = _softplus(by_row), _softplus(by_column)

    slope = tl.exp(negatives - (positive + row_loss)[:, None]) + tl.exp(negatives - (positive + column_loss)[None, :])
    own = tl.where(is_pair, _sigmoid(by_row) + _sigmoid(by_column), 0.0)
    slope = weight * tl.where(is_own, -own[:, None], slope)
    moment = slope * logits
    row_moment, column_moment = tl.sum(moment, 1), tl.sum(moment, 0)
    slope = slope * (scale * image_inverse)[:, None] * text_inverse[None, :]

    start = tl.program_id(0) * BE
    at = pair[:, None] * E + start + column[None, :]
    inside = is_pair[:, None] & (start + column[None, :] < E)
    image = tl.load(image_ptr + at, mask=inside, other=0.0)
    text = tl.load(text_ptr + at, mask=inside, other=0.0)
    d_image = _matmul(slope, text, IS_UPCAST)
    d_image -= (row_moment * image_inverse * image_inverse)[:, None] * image.to(tl.float32)
    d_text = _matmul(tl.trans(slope), image, IS_UPCAST)
    d_text -= (column_moment * text_inverse * text_inverse)[:, None] * text.to(tl.float32)
    tl.store(d_image_ptr + at, d_image, mask=inside)
    tl.store(d_text_ptr + at, d_text, mask=inside)
    if tl.program_id(0) == 0:
        tl.store(loss_ptr, weight * tl.sum(tl.where(is_pair, row_loss + column_loss, 0.0), 0))
        tl.store(d_scale_ptr, tl.sum(row_moment, 0))


def padded_pairs(num_pairs: int) -> int:
    """The kernel's block of pairs: 16, 32 or 64."""
    return max(16, 1 << (num_pairs - 1).bit_length())


def infonce_small(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, *, is_upcast: bool | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One launch of `small_kernel`.

    Args:
        image_features: (B, E) contiguous, B <= MAX_PAIRS, float32 or bfloat16.
        text_features: As image_features.
        logit_scale: Scalar of any floating type.
        is_upcast: Multiply in float32; when not given, only float32 features are.

    Returns:
        Loss (), its gradient by the image features (B, E), by the text features (B, E) and by logit_scale (), float32.
    """
    num_pairs, dim = image_features.shape
    block = padded_pairs(num_pairs)
    upcast = image_features.dtype == torch.float32 if is_upcast is None else is_upcast
    width, num_warps = LAUNCH[block, upcast]
    made = {"device": image_features.device, "dtype": torch.float32}
    loss, d_scale = torch.empty((), **made), torch.empty((), **made)
    d_image, d_text = torch.empty(num_pairs, dim, **made), torch.empty(num_pairs, dim, **made)
    small_kernel[(triton.cdiv(dim, width),)](
        image_features, text_features, logit_scale, loss, d_image, d_text, d_scale, num_pairs,
        E=dim, BM=block, BE=width, IS_UPCAST=upcast, num_warps=num_warps,
    )  # fmt: skip
    return loss, d_image, d_text, d_scale
