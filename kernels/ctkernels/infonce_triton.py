"""Device code of `infonce`: one launch from raw features to the loss and all gradients, for up to 64 pairs.

The formulas are those of infonce_closed.py, this kernel's slow twin. Every program computes all logits again
(2 B^2 E operations, 4 million at 64 x 512) and owns one slice of the joint dimension of both feature gradients: no
barrier between programs, no atomics, the same bits every time.

This file checks nothing. It has been compiled for sm_90 and run in Triton's interpreter, not on a GPU.

Axes: B pairs, E joint dimension, R rows whose features want a gradient.
"""

# Triton's functions take more than their Python signatures say.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctkernels.infonce_closed import Gradients
from ctkernels.pairing import Pairing
from ctkernels.tile import (
    cosine_tile,
    load_flags,
    load_ids,
    logsumexp,
    matmul,
    sigmoid,
    sigmoid_term,
    sigmoid_weights,
    softmax_cells,
    softplus,
    spread,
)

MAX_PAIRS = 64
# (padded B, products in float32) -> columns of the gradients that one program owns, warps. The fastest are for a GPU to
# tell; these are the largest slices that compile for sm_90 without spilling registers, whatever the options.
LAUNCH = {
    (16, False): (64, 4), (32, False): (64, 8), (64, False): (64, 8),
    (16, True): (64, 4), (32, True): (32, 8), (64, True): (32, 8),
}  # fmt: skip


@triton.jit
def plain_slope(logits, own, is_own, is_pair, axis: tl.constexpr):
    """Cross-entropy and its gradient by the logits where the diagonal is positive and all else negative."""
    negatives = tl.where(is_pair[:, None] & is_pair[None, :] & ~is_own, logits, float("-inf"))
    surprise = logsumexp(negatives, axis) - own
    rest = softplus(surprise)
    slope = tl.exp(negatives - spread(own + rest, axis))
    slope = tl.where(is_own, -spread(tl.where(is_pair, sigmoid(surprise), 0.0), axis), slope)
    return tl.where(is_pair, rest, 0.0), slope


@triton.jit
def grouped_slope(logits, own, positive, negative, axis: tl.constexpr):
    """As plain_slope for any positives and negatives; nothing where a row has no positive."""
    count = tl.sum(positive.to(tl.float32), axis)
    is_active = count > 0
    share = 1.0 / tl.maximum(count, 1.0)
    logits = logits - spread(own, axis)
    mean = tl.sum(tl.where(positive, logits, 0.0), axis) * share
    logits = logits - spread(mean, axis)
    base = tl.where(is_active, logsumexp(tl.where(positive, logits, float("-inf")), axis), 0.0)
    surprise = logsumexp(tl.where(negative, logits, float("-inf")), axis) - base
    rest = softplus(surprise)
    of_positive = tl.exp(logits - spread(base, axis)) * spread(1.0 - sigmoid(surprise), axis) - spread(share, axis)
    alone = spread(count, axis) == 1.0  # then its share is 1, and 1 - p keeps its digits
    of_positive = tl.where(alone, -spread(sigmoid(surprise), axis), of_positive)
    slope = tl.where(negative, tl.exp(logits - spread(base + rest, axis)), tl.where(positive, of_positive, 0.0))
    return tl.where(is_active, base + rest, 0.0), slope


@triton.jit(do_not_specialize=["num_pairs", "start_row", "stop_row"])
def small_kernel(
    image_ptr, text_ptr, scale_ptr, loss_ptr, d_image_ptr, d_text_ptr, d_scale_ptr, d_sigmoid_ptr,
    positive_ptr, ignore_ptr, active_ptr, normal_ptr, sigmoid_scale_ptr, sigmoid_bias_ptr,
    num_pairs, start_row, stop_row, weight, sigmoid_weight,
    E: tl.constexpr, BM: tl.constexpr, BE: tl.constexpr, IS_UPCAST: tl.constexpr, ROW_SHARE: tl.constexpr,
    COLUMN_SHARE: tl.constexpr, REDUCTION: tl.constexpr, IGNORES_ABNORMAL: tl.constexpr, WANTS_ROWS: tl.constexpr,
):  # fmt: skip
    """Loss (), d_image (R, E), d_text (R, E), d_scale () and d_sigmoid (2,), float32, of contiguous features (B, E)."""
    pair = tl.arange(0, BM)
    column = tl.arange(0, BE)
    is_pair = pair < num_pairs
    cosines, image_inverse, text_inverse = cosine_tile(
        image_ptr, text_ptr, pair, pair, num_pairs, E, BM, BM, BE, IS_UPCAST
    )
    scale = tl.exp(tl.load(scale_ptr).to(tl.float32))
    logits = scale * cosines
    is_own = pair[:, None] == pair[None, :]
    own = tl.sum(tl.where(is_own, logits, 0.0), 1)

    loss = 0.0
    slope = tl.zeros([BM, BM], tl.float32)
    IS_PLAIN: tl.constexpr = positive_ptr is None and ignore_ptr is None and active_ptr is None
    active = load_flags(active_ptr, pair, is_pair, True)
    mean = weight / tl.maximum(tl.sum(active.to(tl.float32), 0), 1.0)
    if not IS_PLAIN:
        groups, ignored = load_ids(positive_ptr, pair, is_pair), load_ids(ignore_ptr, pair, is_pair)
        positive, negative = softmax_cells(is_own, groups, groups, ignored, ignored, active, active)
    if ROW_SHARE > 0.0:
        if IS_PLAIN:
            each, part = plain_slope(logits, own, is_own, is_pair, 1)
        else:
            each, part = grouped_slope(logits, own, positive, negative, 1)
        loss += ROW_SHARE * mean * tl.sum(each, 0)
        slope += ROW_SHARE * mean * part
    if COLUMN_SHARE > 0.0:
        if IS_PLAIN:
            each, part = plain_slope(logits, own, is_own, is_pair, 0)
        else:
            each, part = grouped_slope(logits, own, positive, negative, 0)
        loss += COLUMN_SHARE * mean * tl.sum(each, 0)
        slope += COLUMN_SHARE * mean * part
    slope *= scale
    d_scale = tl.sum(tl.sum(slope * cosines, 1), 0)

    if normal_ptr is not None:
        normal = load_flags(normal_ptr, pair, is_pair, False)
        on, off = sigmoid_weights(
            tl.sum(normal.to(tl.float32), 0), num_pairs, sigmoid_weight, REDUCTION, IGNORES_ABNORMAL
        )
        own_scale = tl.exp(tl.load(sigmoid_scale_ptr).to(tl.float32))
        bias = tl.load(sigmoid_bias_ptr).to(tl.float32)
        cells, by_logit = sigmoid_term(
            cosines, is_own, is_pair[:, None] & is_pair[None, :], normal, normal, own_scale, bias, on, off,
            IGNORES_ABNORMAL,
        )  # fmt: skip
        loss += tl.sum(tl.sum(cells, 1), 0)
        if tl.program_id(0) == 0:
            tl.store(d_sigmoid_ptr, own_scale * tl.sum(tl.sum(by_logit * cosines, 1), 0))
            tl.store(d_sigmoid_ptr + 1, tl.sum(tl.sum(by_logit, 1), 0))
        slope += own_scale * by_logit
    elif tl.program_id(0) == 0:
        tl.store(d_sigmoid_ptr + tl.arange(0, 2), tl.zeros([2], tl.float32))
    if tl.program_id(0) == 0:
        tl.store(loss_ptr, loss)
        tl.store(d_scale_ptr, d_scale)

    if WANTS_ROWS:
        moment = slope * cosines
        row_moment, column_moment = tl.sum(moment, 1), tl.sum(moment, 0)
        slope = slope * image_inverse[:, None] * text_inverse[None, :]
        start = tl.program_id(0) * BE
        at = pair[:, None] * E + start + column[None, :]
        inside = is_pair[:, None] & (start + column[None, :] < E)
        image = tl.load(image_ptr + at, mask=inside, other=0.0)
        text = tl.load(text_ptr + at, mask=inside, other=0.0)
        mine = inside & (pair >= start_row)[:, None] & (pair < stop_row)[:, None]
        into = (pair - start_row)[:, None] * E + start + column[None, :]
        d_image = matmul(slope, text, IS_UPCAST)
        d_image -= (row_moment * image_inverse * image_inverse)[:, None] * image.to(tl.float32)
        tl.store(d_image_ptr + into, d_image, mask=mine)
        d_text = matmul(tl.trans(slope), image, IS_UPCAST)
        d_text -= (column_moment * text_inverse * text_inverse)[:, None] * text.to(tl.float32)
        tl.store(d_text_ptr + into, d_text, mask=mine)


def padded_pairs(num_pairs: int) -> int:
    """The kernel's block of pairs: 16, 32 or 64."""
    return max(16, 1 << (num_pairs - 1).bit_length())


def infonce_small(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    pairing: Pairing,
    rows: tuple[int, int],
    *,
    is_upcast: bool | None = None,
) -> Gradients:
    """One launch of `small_kernel`.

    Args:
        image: (B, E) contiguous, B <= MAX_PAIRS, float32, bfloat16 or float16.
        text: As image.
        logit_scale: Scalar of any floating type.
        pairing: Options, checked.
        rows: Start and stop of the rows whose features want a gradient.
        is_upcast: Multiply in float32; when not given, all but bfloat16 features are.
    """
    num_pairs, dim = image.shape
    upcast = not image.dtype == text.dtype == torch.bfloat16 if is_upcast is None else is_upcast
    width, num_warps = LAUNCH[padded_pairs(num_pairs), upcast]
    made = empty_gradients(image, rows)
    num_programs = triton.cdiv(dim, width) if rows[1] > rows[0] else 1
    small_kernel[(num_programs,)](
        image, text, logit_scale, *made, *columns_of(pairing), num_pairs, *rows,
        *weights_of(pairing), E=dim, BM=padded_pairs(num_pairs), BE=width, IS_UPCAST=upcast,
        WANTS_ROWS=rows[1] > rows[0], **constants_of(pairing), num_warps=num_warps,
    )  # fmt: skip
    return made


def empty_gradients(image: Tensor, rows: tuple[int, int]) -> Gradients:
    """Uninitialised float32 outputs."""
    shapes = ((), (rows[1] - rows[0], image.shape[1]), (rows[1] - rows[0], image.shape[1]), (), (2,))
    return Gradients(*(torch.empty(shape, device=image.device, dtype=torch.float32) for shape in shapes))


def columns_of(pairing: Pairing) -> tuple[Tensor | None, ...]:
    """Tables of the pairs and scalars of the sigmoid term, as the kernels take them: flags as bytes, or None."""
    term = pairing.sigmoid
    active = None if pairing.is_active is None else pairing.is_active.contiguous().view(torch.uint8)
    groups = [None if ids is None else ids.contiguous() for ids in (pairing.positive_id, pairing.ignore_id)]
    if term is None:
        return (*groups, active, None, None, None)
    return (*groups, active, term.is_normal.contiguous().view(torch.uint8), term.log_scale, term.bias)


def weights_of(pairing: Pairing) -> tuple[float, float]:
    """Weights of the softmax term and of the sigmoid term."""
    return pairing.weight, 0.0 if pairing.sigmoid is None else pairing.sigmoid.weight


def constants_of(pairing: Pairing) -> dict[str, object]:
    """What a kernel is compiled for."""
    term = pairing.sigmoid
    row_share, column_share = {"both": (0.5, 0.5), "image_to_text": (1.0, 0.0), "text_to_image": (0.0, 1.0)}[
        pairing.direction
    ]
    return {
        "ROW_SHARE": row_share,
        "COLUMN_SHARE": column_share,
        "REDUCTION": "mean" if term is None else term.reduction,
        "IGNORES_ABNORMAL": term is not None and term.ignores_abnormal,
    }
