"""Device code of `infonce` for any number of pairs, first launch: running sums over strips of the logits, and how the
second launch puts them together.

Every program walks a strip of one side's tiles and keeps per row the largest, the sum of exponentials and their first
moment, for rows and for columns of the logits alike.

Axes: N pairs, E joint dimension, S strips.
"""

# Triton's functions take more than their Python signatures say.
# ruff: noqa: SIM102 (what is known when a kernel is compiled stays a statement of its own)
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

import triton
import triton.language as tl

from ctkernels.tile import load_flags, load_ids, paired_tile, sigmoid, sigmoid_scalars, sigmoid_term, softplus


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
        on, off, own_scale, bias = sigmoid_scalars(
            normal_ptr, sigmoid_scale_ptr, sigmoid_bias_ptr, num_pairs, sigmoid_weight, REDUCTION, IGNORES_ABNORMAL
        )

    negative_max = tl.full([BM], float("-inf"), tl.float32)
    positive_max = tl.full([BM], float("-inf"), tl.float32)
    negative_sum = tl.zeros([BM], tl.float32)
    negative_moment, positive_sum, positive_moment = negative_sum, negative_sum, negative_sum
    total, count = negative_sum, negative_sum
    cell_loss, cell_scale, cell_bias = negative_sum, negative_sum, negative_sum
    for tile in range(strip, num_tiles, num_strips):
        column = tile * BN + tl.arange(0, BN)
        is_column = column < num_pairs
        cosines, _row_inverse, _column_inverse, is_own, positive, negative = paired_tile(
            x_ptr, y_ptr, positive_ptr, ignore_ptr, active_ptr, row, column, is_column, row_positive, row_ignore,
            row_active, num_pairs, E, BM, BN, CHUNK, IS_UPCAST,
        )  # fmt: skip
        logits = scale * cosines
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
def finished(sums_ptr, index, inside, num_pairs, STRIPS: tl.constexpr, SUMS: tl.constexpr, BLOCK: tl.constexpr):
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
