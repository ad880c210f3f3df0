"""Device code of `infonce` for any number of pairs: two launches, logits never stored.

First launch: every program walks a strip of one side's tile and keeps running sums per row (largest, sum of
exponentials, their first moment), for rows and for columns of the logits alike. Second launch: the same tiles again,
turned by the finished sums into gradients of the rows asked for; one further program adds up the loss and the scalars'
gradients. No atomics: the same bits every time. Formulas as in infonce_closed.py.

This file checks nothing. It has been compiled for sm_90 and run in Triton's interpreter, not on a GPU.

Axes: N pairs, E joint dimension, R rows whose features want a gradient, S strips.
"""

# Triton's functions take more than their Python signatures say.
# ruff: noqa: SIM102 (what is known when a kernel is compiled stays a statement of its own)
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctkernels.infonce_closed import Gradients
from ctkernels.infonce_triton import columns_of, constants_of, empty_gradients, weights_of
from ctkernels.pairing import Pairing
from ctkernels.tile import (
    count_flags,
    load_flags,
    load_ids,
    matmul,
    sigmoid,
    sigmoid_term,
    sigmoid_weights,
    softmax_cells,
    softplus,
)

# Products in float32 -> rows of a tile, columns of a tile, columns of the gradient that one program owns, columns of
# the features loaded at once for the dot products. As in infonce_triton.py, the largest that compile for sm_90 without
# spilling registers, whatever the options, by triton 3.6 and 3.9.
LAUNCH = {False: (64, 32, 128, 32), True: (64, 16, 64, 32)}
NUM_WARPS = 8
PROGRAMS = 264  # strips are made until the first launch has about this many programs: two for each of 132 processors
SUMS = 8  # kept per row: of negatives largest, sum, moment; of positives largest, sum, moment, total, count
CELL_SUMS = 3  # kept per row of the images: loss of the cells, their gradient by log scale, by bias


@triton.jit
def _cosine_tile(
    x_ptr, y_ptr, row, column, num_pairs, E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CHUNK: tl.constexpr,
    IS_UPCAST: tl.constexpr,
):  # fmt: skip
    """Cosines (BM, BN) of rows of x with rows of y, and the inverse norms of both."""
    along = tl.arange(0, CHUNK)
    dots = tl.zeros([BM, BN], tl.float32)
    x_square = tl.zeros([BM], tl.float32)
    y_square = tl.zeros([BN], tl.float32)
    for start in range(0, E, CHUNK):
        inside = start + along[None, :] < E
        x = tl.load(
            x_ptr + row[:, None] * E + start + along[None, :], mask=inside & (row < num_pairs)[:, None], other=0.0
        )
        y = tl.load(
            y_ptr + column[:, None] * E + start + along[None, :], mask=inside & (column < num_pairs)[:, None], other=0.0
        )
        if IS_UPCAST:
            x, y = x.to(tl.float32), y.to(tl.float32)
        dots = tl.dot(x, tl.trans(y), dots, input_precision="tf32x3")
        x_square += tl.sum(x.to(tl.float32) * x.to(tl.float32), 1)
        y_square += tl.sum(y.to(tl.float32) * y.to(tl.float32), 1)
    x_inverse = 1.0 / tl.maximum(tl.sqrt(x_square), 1e-12)
    y_inverse = 1.0 / tl.maximum(tl.sqrt(y_square), 1e-12)
    return dots * x_inverse[:, None] * y_inverse[None, :], x_inverse, y_inverse


@triton.jit
def _running(largest, total, moment, logits, mask):
    """Largest, sum of exp(z - largest) and its first moment after one more tile."""
    shown = tl.where(mask, logits, float("-inf"))
    bound = tl.maximum(largest, tl.max(shown, 1))
    base = tl.where(bound == float("-inf"), 0.0, bound)
    shrink = tl.exp(largest - base)
    weight = tl.exp(shown - base[:, None])
    moment = moment * shrink + tl.sum(weight * logits, 1)
    return bound, total * shrink + tl.sum(weight, 1), moment


@triton.jit(do_not_specialize=["num_pairs", "num_tiles"])
def sums_kernel(
    image_ptr, text_ptr, scale_ptr, sums_ptr, cell_sums_ptr, positive_ptr, ignore_ptr, active_ptr, normal_ptr,
    sigmoid_scale_ptr, sigmoid_bias_ptr, num_pairs, num_tiles, sigmoid_weight,
    E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CHUNK: tl.constexpr, IS_UPCAST: tl.constexpr,
    REDUCTION: tl.constexpr, IGNORES_ABNORMAL: tl.constexpr, SUMS: tl.constexpr, CELL_SUMS: tl.constexpr,
):  # fmt: skip
    """sums (2, S, SUMS, N) over the columns of each strip, by direction; cell_sums (S, CELL_SUMS, N)."""
    strip, direction = tl.program_id(1), tl.program_id(2)
    num_strips = tl.num_programs(1)
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    is_row = row < num_pairs
    if direction == 0:
        x_ptr, y_ptr = image_ptr, text_ptr
    else:
        x_ptr, y_ptr = text_ptr, image_ptr
    scale = tl.exp(tl.load(scale_ptr).to(tl.float32))
    row_positive, row_ignore = load_ids(positive_ptr, row, is_row), load_ids(ignore_ptr, row, is_row)
    row_active = load_flags(active_ptr, row, is_row, True)
    if normal_ptr is not None:
        row_normal = load_flags(normal_ptr, row, is_row, False)
        num_normal = count_flags(normal_ptr, num_pairs, 1024)
        on, off = sigmoid_weights(num_normal, num_pairs, sigmoid_weight, REDUCTION, IGNORES_ABNORMAL)
        own_scale = tl.exp(tl.load(sigmoid_scale_ptr).to(tl.float32))
        bias = tl.load(sigmoid_bias_ptr).to(tl.float32)

    negative_max = tl.full([BM], float("-inf"), tl.float32)
    positive_max = tl.full([BM], float("-inf"), tl.float32)
    negative_sum = tl.zeros([BM], tl.float32)
    negative_moment, positive_sum, positive_moment = negative_sum, negative_sum, negative_sum
    total, count = negative_sum, negative_sum
    cell_loss, cell_scale, cell_bias = negative_sum, negative_sum, negative_sum
    for tile in range(strip, num_tiles, num_strips):
        column = tile * BN + tl.arange(0, BN)
        is_column = column < num_pairs
        cosines, _x_inverse, _y_inverse = _cosine_tile(
            x_ptr, y_ptr, row, column, num_pairs, E, BM, BN, CHUNK, IS_UPCAST
        )
        logits = scale * cosines
        is_own = row[:, None] == column[None, :]
        positive, negative = softmax_cells(
            is_own, row_positive, load_ids(positive_ptr, column, is_column), row_ignore,
            load_ids(ignore_ptr, column, is_column), row_active, load_flags(active_ptr, column, is_column, True),
        )  # fmt: skip
        negative_max, negative_sum, negative_moment = _running(
            negative_max, negative_sum, negative_moment, logits, negative
        )
        positive_max, positive_sum, positive_moment = _running(
            positive_max, positive_sum, positive_moment, logits, positive
        )
        total += tl.sum(tl.where(positive, logits, 0.0), 1)
        count += tl.sum(positive.to(tl.float32), 1)
        if normal_ptr is not None:
            column_normal = load_flags(normal_ptr, column, is_column, False)
            cells, by_logit = sigmoid_term(
                cosines, is_own, is_row[:, None] & is_column[None, :], row_normal, column_normal, own_scale, bias, on,
                off, IGNORES_ABNORMAL,
            )  # fmt: skip
            cell_loss += tl.sum(cells, 1)
            cell_scale += own_scale * tl.sum(by_logit * cosines, 1)
            cell_bias += tl.sum(by_logit, 1)

    into = sums_ptr + (direction * num_strips + strip) * SUMS * num_pairs + row
    tl.store(into, negative_max, mask=is_row)
    tl.store(into + num_pairs, negative_sum, mask=is_row)
    tl.store(into + 2 * num_pairs, negative_moment, mask=is_row)
    tl.store(into + 3 * num_pairs, positive_max, mask=is_row)
    tl.store(into + 4 * num_pairs, positive_sum, mask=is_row)
    tl.store(into + 5 * num_pairs, positive_moment, mask=is_row)
    tl.store(into + 6 * num_pairs, total, mask=is_row)
    tl.store(into + 7 * num_pairs, count, mask=is_row)
    if normal_ptr is not None:
        if direction == 0:
            into = cell_sums_ptr + strip * CELL_SUMS * num_pairs + row
            tl.store(into, cell_loss, mask=is_row)
            tl.store(into + num_pairs, cell_scale, mask=is_row)
            tl.store(into + 2 * num_pairs, cell_bias, mask=is_row)


@triton.jit
def _merge(largest, total, moment, other_max, other_sum, other_moment):
    bound = tl.maximum(largest, other_max)
    base = tl.where(bound == float("-inf"), 0.0, bound)
    mine, theirs = tl.exp(largest - base), tl.exp(other_max - base)
    return bound, total * mine + other_sum * theirs, moment * mine + other_moment * theirs


@triton.jit
def _finished(sums_ptr, index, inside, num_pairs, STRIPS: tl.constexpr, SUMS: tl.constexpr, BLOCK: tl.constexpr):
    """Of each row: its loss, first moment of its slope, and what turns a logit into a slope.

    Returns:
        loss; moment sum_j slope_ij z_ij; log-sum-exp of the positives; of all; probability of the negatives; 1 / count.
    """
    negative_max = tl.full([BLOCK], float("-inf"), tl.float32)
    positive_max = tl.full([BLOCK], float("-inf"), tl.float32)
    negative_sum = tl.zeros([BLOCK], tl.float32)
    negative_moment, positive_sum, positive_moment = negative_sum, negative_sum, negative_sum
    total, count = negative_sum, negative_sum
    for strip in range(0, STRIPS):
        at = sums_ptr + strip * SUMS * num_pairs + index
        negative_max, negative_sum, negative_moment = _merge(
            negative_max, negative_sum, negative_moment,
            tl.load(at, mask=inside, other=float("-inf")), tl.load(at + num_pairs, mask=inside, other=0.0),
            tl.load(at + 2 * num_pairs, mask=inside, other=0.0),
        )  # fmt: skip
        positive_max, positive_sum, positive_moment = _merge(
            positive_max, positive_sum, positive_moment,
            tl.load(at + 3 * num_pairs, mask=inside, other=float("-inf")),
            tl.load(at + 4 * num_pairs, mask=inside, other=0.0), tl.load(at + 5 * num_pairs, mask=inside, other=0.0),
        )  # fmt: skip
        total += tl.load(at + 6 * num_pairs, mask=inside, other=0.0)
        count += tl.load(at + 7 * num_pairs, mask=inside, other=0.0)
    is_active = count > 0
    share = 1.0 / tl.maximum(count, 1.0)
    mean = total * share
    positive_lse = tl.where(is_active, positive_max, 0.0) + tl.log(tl.where(is_active, positive_sum, 1.0))
    negative_base = tl.where(negative_sum > 0, negative_max, 0.0)
    surprise = negative_base + tl.log(negative_sum) - positive_lse
    rest = softplus(surprise)
    unlikely = sigmoid(surprise)
    loss = tl.where(is_active, positive_lse - mean + rest, 0.0)
    of_negatives = negative_moment / tl.where(negative_sum > 0, negative_sum, 1.0)
    of_positives = positive_moment / tl.where(is_active, positive_sum, 1.0)
    moment = tl.where(is_active, unlikely * (of_negatives - of_positives) + (of_positives - mean), 0.0)
    return loss, moment, positive_lse, positive_lse + rest, unlikely, share


@triton.jit
def _slope(logits, positive, negative, positive_lse, all_lse, unlikely, share):
    """Gradient of the cross-entropy by each logit; the last four are shaped to meet the tile."""
    of_positive = tl.exp(logits - positive_lse) * (1.0 - unlikely) - share
    of_positive = tl.where(share == 1.0, -unlikely, of_positive)  # alone: 1 - p keeps its digits
    return tl.where(negative, tl.exp(logits - all_lse), tl.where(positive, of_positive, 0.0))


@triton.jit(do_not_specialize=["num_pairs", "num_tiles", "start_row", "stop_row"])
def gradients_kernel(
    image_ptr, text_ptr, scale_ptr, sums_ptr, cell_sums_ptr, loss_ptr, d_image_ptr, d_text_ptr, d_scale_ptr,
    d_sigmoid_ptr, positive_ptr, ignore_ptr, active_ptr, normal_ptr, sigmoid_scale_ptr, sigmoid_bias_ptr,
    num_pairs, num_tiles, start_row, stop_row, weight, sigmoid_weight,
    E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr, CHUNK: tl.constexpr,
    IS_UPCAST: tl.constexpr, ROW_SHARE: tl.constexpr, COLUMN_SHARE: tl.constexpr, REDUCTION: tl.constexpr,
    IGNORES_ABNORMAL: tl.constexpr, STRIPS: tl.constexpr, SUMS: tl.constexpr, CELL_SUMS: tl.constexpr,
):  # fmt: skip
    """loss (), d_scale (), d_sigmoid (2,) by the last program of axis 0; d_image, d_text (R, E) by the others."""
    direction = tl.program_id(2)
    mean = weight / tl.maximum(count_flags(active_ptr, num_pairs, 1024), 1.0)
    by_text = STRIPS * SUMS * num_pairs  # offset of the second direction's sums
    if tl.program_id(0) == tl.num_programs(0) - 1:
        if (tl.program_id(1) == 0) & (direction == 0):
            _scalars(
                sums_ptr, cell_sums_ptr, normal_ptr, loss_ptr, d_scale_ptr, d_sigmoid_ptr, num_pairs, mean, by_text,
                ROW_SHARE, COLUMN_SHARE, STRIPS, SUMS, CELL_SUMS,
            )  # fmt: skip
        return
    row = start_row + tl.program_id(0) * BM + tl.arange(0, BM)
    is_row = row < stop_row
    if direction == 0:
        x_ptr, y_ptr, out_ptr = image_ptr, text_ptr, d_image_ptr
        own_sums, other_sums = sums_ptr, sums_ptr + by_text
        own_weight, other_weight = ROW_SHARE * mean, COLUMN_SHARE * mean
    else:
        x_ptr, y_ptr, out_ptr = text_ptr, image_ptr, d_text_ptr
        own_sums, other_sums = sums_ptr + by_text, sums_ptr
        own_weight, other_weight = COLUMN_SHARE * mean, ROW_SHARE * mean
    scale = tl.exp(tl.load(scale_ptr).to(tl.float32))
    row_positive, row_ignore = load_ids(positive_ptr, row, is_row), load_ids(ignore_ptr, row, is_row)
    row_active = load_flags(active_ptr, row, is_row, True)
    _row_loss, _row_moment, row_lse, row_all, row_unlikely, row_share = _finished(
        own_sums, row, is_row, num_pairs, STRIPS, SUMS, BM
    )
    if normal_ptr is not None:
        row_normal = load_flags(normal_ptr, row, is_row, False)
        num_normal = count_flags(normal_ptr, num_pairs, 1024)
        on, off = sigmoid_weights(num_normal, num_pairs, sigmoid_weight, REDUCTION, IGNORES_ABNORMAL)
        own_scale = tl.exp(tl.load(sigmoid_scale_ptr).to(tl.float32))
        bias = tl.load(sigmoid_bias_ptr).to(tl.float32)

    owned = tl.program_id(1) * BE + tl.arange(0, BE)
    gathered = tl.zeros([BM, BE], tl.float32)
    moment = tl.zeros([BM], tl.float32)
    row_inverse = tl.zeros([BM], tl.float32)
    for tile in range(0, num_tiles):
        column = tile * BN + tl.arange(0, BN)
        is_column = column < num_pairs
        cosines, row_inverse, column_inverse = _cosine_tile(
            x_ptr, y_ptr, row, column, num_pairs, E, BM, BN, CHUNK, IS_UPCAST
        )
        logits = scale * cosines
        is_own = row[:, None] == column[None, :]
        positive, negative = softmax_cells(
            is_own, row_positive, load_ids(positive_ptr, column, is_column), row_ignore,
            load_ids(ignore_ptr, column, is_column), row_active, load_flags(active_ptr, column, is_column, True),
        )  # fmt: skip
        _column_loss, _column_moment, column_lse, column_all, column_unlikely, column_share = _finished(
            other_sums, column, is_column, num_pairs, STRIPS, SUMS, BN
        )
        slope = own_weight * _slope(
            logits, positive, negative, row_lse[:, None], row_all[:, None], row_unlikely[:, None], row_share[:, None]
        )
        slope += other_weight * _slope(
            logits, positive, negative, column_lse[None, :], column_all[None, :], column_unlikely[None, :],
            column_share[None, :],
        )  # fmt: skip
        slope *= scale
        if normal_ptr is not None:
            column_normal = load_flags(normal_ptr, column, is_column, False)
            _cells, by_logit = sigmoid_term(
                cosines, is_own, is_row[:, None] & is_column[None, :], row_normal, column_normal, own_scale, bias, on,
                off, IGNORES_ABNORMAL,
            )  # fmt: skip
            slope += own_scale * by_logit
        moment += tl.sum(slope * cosines, 1)
        slope = slope * column_inverse[None, :]
        at = column[:, None] * E + owned[None, :]
        y = tl.load(y_ptr + at, mask=is_column[:, None] & (owned < E)[None, :], other=0.0)
        gathered += matmul(slope, y, IS_UPCAST)
    inside = is_row[:, None] & (owned < E)[None, :]
    x = tl.load(x_ptr + row[:, None] * E + owned[None, :], mask=inside, other=0.0).to(tl.float32)
    made = gathered * row_inverse[:, None] - (moment * row_inverse * row_inverse)[:, None] * x
    tl.store(out_ptr + (row - start_row)[:, None] * E + owned[None, :], made, mask=inside)


@triton.jit
def _scalars(
    sums_ptr, cell_sums_ptr, normal_ptr, loss_ptr, d_scale_ptr, d_sigmoid_ptr, num_pairs, mean, by_text,
    ROW_SHARE: tl.constexpr, COLUMN_SHARE: tl.constexpr, STRIPS: tl.constexpr, SUMS: tl.constexpr,
    CELL_SUMS: tl.constexpr,
):  # fmt: skip
    BLOCK: tl.constexpr = 256
    loss = tl.zeros([BLOCK], tl.float32)
    d_scale, d_own_scale, d_bias = loss, loss, loss
    for start in range(0, num_pairs, BLOCK):
        index = start + tl.arange(0, BLOCK)
        inside = index < num_pairs
        if ROW_SHARE > 0.0:
            each, moment, _lse, _all_lse, _unlikely, _share = _finished(
                sums_ptr, index, inside, num_pairs, STRIPS, SUMS, BLOCK
            )
            loss += ROW_SHARE * mean * each
            d_scale += ROW_SHARE * mean * moment
        if COLUMN_SHARE > 0.0:
            each, moment, _lse, _all_lse, _unlikely, _share = _finished(
                sums_ptr + by_text, index, inside, num_pairs, STRIPS, SUMS, BLOCK
            )
            loss += COLUMN_SHARE * mean * each
            d_scale += COLUMN_SHARE * mean * moment
        if normal_ptr is not None:
            for strip in range(0, STRIPS):
                at = cell_sums_ptr + strip * CELL_SUMS * num_pairs + index
                loss += tl.load(at, mask=inside, other=0.0)
                d_own_scale += tl.load(at + num_pairs, mask=inside, other=0.0)
                d_bias += tl.load(at + 2 * num_pairs, mask=inside, other=0.0)
    tl.store(loss_ptr, tl.sum(loss, 0))
    tl.store(d_scale_ptr, tl.sum(d_scale, 0))
    tl.store(d_sigmoid_ptr, tl.sum(d_own_scale, 0))
    tl.store(d_sigmoid_ptr + 1, tl.sum(d_bias, 0))


def num_strips(num_pairs: int, rows: int, columns: int) -> int:
    """Strips of the first launch: a power of two, about PROGRAMS programs, at least one tile each, at most 8."""
    wanted = min(8, triton.cdiv(num_pairs, columns), max(1, PROGRAMS // (2 * triton.cdiv(num_pairs, rows))))
    return 1 << (wanted.bit_length() - 1)


def infonce_tiled(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    pairing: Pairing,
    rows: tuple[int, int],
    *,
    is_upcast: bool | None = None,
) -> Gradients:
    """The launches of `sums_kernel` and `gradients_kernel`.

    Args:
        image: (N, E) contiguous, float32, bfloat16 or float16.
        text: As image.
        logit_scale: Scalar of any floating type.
        pairing: Options, checked.
        rows: Start and stop of the rows whose features want a gradient.
        is_upcast: Multiply in float32; when not given, all but bfloat16 features are.
    """
    num_pairs, dim = image.shape
    upcast = not image.dtype == text.dtype == torch.bfloat16 if is_upcast is None else is_upcast
    tile_rows, tile_columns, width, chunk = LAUNCH[upcast]
    strips, num_tiles = num_strips(num_pairs, tile_rows, tile_columns), triton.cdiv(num_pairs, tile_columns)
    made = empty_gradients(image, rows)
    sums = torch.empty(2, strips, SUMS, num_pairs, device=image.device, dtype=torch.float32)
    num_cells = strips * CELL_SUMS * num_pairs if pairing.sigmoid is not None else 1
    cell_sums = torch.empty(num_cells, device=image.device, dtype=torch.float32)
    weight, sigmoid_weight = weights_of(pairing)
    shape = {"E": dim, "BM": tile_rows, "BN": tile_columns, "CHUNK": chunk, "IS_UPCAST": upcast}
    shape |= {"SUMS": SUMS, "CELL_SUMS": CELL_SUMS}
    constants = constants_of(pairing)
    kinds = {name: constants[name] for name in ("REDUCTION", "IGNORES_ABNORMAL")}
    sums_kernel[(triton.cdiv(num_pairs, tile_rows), strips, 2)](
        image, text, logit_scale, sums, cell_sums, *columns_of(pairing), num_pairs, num_tiles, sigmoid_weight,
        **shape, **kinds, num_warps=NUM_WARPS,
    )  # fmt: skip
    width = min(width, max(16, triton.next_power_of_2(dim)))
    gradients_kernel[(triton.cdiv(rows[1] - rows[0], tile_rows) + 1, triton.cdiv(dim, width), 2)](
        image, text, logit_scale, sums, cell_sums, *made, *columns_of(pairing), num_pairs, num_tiles, *rows,
        weight, sigmoid_weight, **shape, BE=width, STRIPS=strips, **constants, num_warps=NUM_WARPS,
    )  # fmt: skip
    return made
