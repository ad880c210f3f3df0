"""Device code of `infonce` for any number of pairs, second launch: from finished sums to the loss and all gradients.

The same tiles again, turned into gradients of the rows asked for; one further program adds up the loss and the scalars'
gradients.

Axes: N pairs, E joint dimension, R rows whose features want a gradient, S strips.
"""

# Triton's functions take more than their Python signatures say.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

import triton
import triton.language as tl

from ctkernels.infonce_sums import finished
from ctkernels.tile import count_flags, load_flags, load_ids, matmul, paired_tile, sigmoid_scalars, sigmoid_term


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
    _row_loss, _row_moment, row_lse, row_all, row_unlikely, row_share = finished(
        own_sums, row, is_row, num_pairs, STRIPS, SUMS, BM
    )
    if normal_ptr is not None:
        row_normal = load_flags(normal_ptr, row, is_row, False)
        on, off, own_scale, bias = sigmoid_scalars(
            normal_ptr, sigmoid_scale_ptr, sigmoid_bias_ptr, num_pairs, sigmoid_weight, REDUCTION, IGNORES_ABNORMAL
        )

    owned = tl.program_id(1) * BE + tl.arange(0, BE)
    gathered = tl.zeros([BM, BE], tl.float32)
    moment = tl.zeros([BM], tl.float32)
    row_inverse = tl.zeros([BM], tl.float32)
    for tile in range(0, num_tiles):
        column = tile * BN + tl.arange(0, BN)
        is_column = column < num_pairs
        cosines, row_inverse, column_inverse, is_own, positive, negative = paired_tile(
            x_ptr, y_ptr, positive_ptr, ignore_ptr, active_ptr, row, column, is_column, row_positive, row_ignore,
            row_active, num_pairs, E, BM, BN, CHUNK, IS_UPCAST,
        )  # fmt: skip
        logits = scale * cosines
        _column_loss, _column_moment, column_lse, column_all, column_unlikely, column_share = finished(
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
            each, moment, _lse, _all_lse, _unlikely, _share = finished(
                sums_ptr, index, inside, num_pairs, STRIPS, SUMS, BLOCK
            )
            loss += ROW_SHARE * mean * each
            d_scale += ROW_SHARE * mean * moment
        if COLUMN_SHARE > 0.0:
            each, moment, _lse, _all_lse, _unlikely, _share = finished(
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
