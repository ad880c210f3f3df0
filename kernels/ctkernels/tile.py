"""Device functions that the contrastive kernels share: what one tile of cells means. Formulas as in infonce_closed.py.

Axes: a tile has BM rows (pairs by one side) and BN columns (pairs by the other). An axis of 1 is along a row.
"""

# Triton's functions take more than their Python signatures say.
# ruff: noqa: SIM108 (what is known when a kernel is compiled stays a statement of its own)
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    # log1p by Kahan's correction: plain Triton has none, and log(1 + y) loses a small y.
    y = tl.exp(-tl.abs(x))
    w = 1.0 + y
    log1p = tl.where(w == 1.0, y, tl.log(w) * (y / tl.where(w == 1.0, 1.0, w - 1.0)))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def sigmoid(x):
    y = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, y) / (1.0 + y)


@triton.jit
def finite_max(x, axis: tl.constexpr):
    """The largest along an axis; 0 where all are -inf, so that it can be subtracted."""
    largest = tl.max(x, axis)
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit
def spread(x, axis: tl.constexpr):
    """A value per row (axis 1) or per column (axis 0), shaped to meet a tile."""
    return x[:, None] if axis == 1 else x[None, :]


@triton.jit
def logsumexp(x, axis: tl.constexpr):
    """-inf where there is nothing."""
    largest = finite_max(x, axis)
    return tl.log(tl.sum(tl.exp(x - spread(largest, axis)), axis)) + largest


@triton.jit
def matmul(g, rows, IS_UPCAST: tl.constexpr):
    """g (BM, BN) float32 times rows (BN, BE), to float32. In bfloat16, g goes in two parts so that it keeps 16 bits."""
    if IS_UPCAST:
        return tl.dot(g, rows.to(tl.float32), input_precision="tf32x3")
    high = g.to(rows.dtype)
    low = (g - high.to(tl.float32)).to(rows.dtype)
    return tl.dot(low, rows, tl.dot(high, rows))


@triton.jit
def load_ids(ids_ptr, index, inside):
    """Group ids; -1 where there is no table and outside."""
    if ids_ptr is None:
        ids = tl.where(inside, -1, -1)
    else:
        ids = tl.load(ids_ptr + index, mask=inside, other=-1).to(tl.int32)
    return ids


@triton.jit
def load_flags(flags_ptr, index, inside, ABSENT: tl.constexpr):
    """Flags of pairs as int1; `ABSENT` where there is no table, and False outside."""
    if flags_ptr is None:
        flags = inside & ABSENT
    else:
        flags = (tl.load(flags_ptr + index, mask=inside, other=0) != 0) & inside
    return flags


@triton.jit
def softmax_cells(is_own, row_positive, column_positive, row_ignore, column_ignore, row_active, column_active):
    """Positive and negative cells of a tile: pairing.softmax_cells, from a few numbers per pair."""
    both = row_active[:, None] & column_active[None, :]
    group = (row_positive[:, None] == column_positive[None, :]) & (row_positive[:, None] >= 0)
    positive = is_own | group
    ignored = (row_ignore[:, None] == column_ignore[None, :]) & (row_ignore[:, None] >= 0)
    return positive & both, both & ~positive & ~ignored


@triton.jit
def cosine_tile(
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
def paired_tile(
    x_ptr, y_ptr, positive_ptr, ignore_ptr, active_ptr, row, column, is_column, row_positive, row_ignore, row_active,
    num_pairs, E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CHUNK: tl.constexpr, IS_UPCAST: tl.constexpr,
):  # fmt: skip
    """Cosines, inverse norms of rows and of columns, own pairs, positive and negative cells of a tile."""
    cosines, row_inverse, column_inverse = cosine_tile(
        x_ptr, y_ptr, row, column, num_pairs, E, BM, BN, CHUNK, IS_UPCAST
    )
    is_own = row[:, None] == column[None, :]
    positive, negative = softmax_cells(
        is_own, row_positive, load_ids(positive_ptr, column, is_column), row_ignore,
        load_ids(ignore_ptr, column, is_column), row_active, load_flags(active_ptr, column, is_column, True),
    )  # fmt: skip
    return cosines, row_inverse, column_inverse, is_own, positive, negative


@triton.jit
def count_flags(flags_ptr, num_pairs, BLOCK: tl.constexpr):
    """How many flags are set, float32; all of them where there is no table."""
    if flags_ptr is None:
        count = num_pairs * 1.0
    else:
        total = tl.zeros([BLOCK], tl.int32)
        for start in range(0, num_pairs, BLOCK):
            index = start + tl.arange(0, BLOCK)
            total += (tl.load(flags_ptr + index, mask=index < num_pairs, other=0) != 0).to(tl.int32)
        count = tl.sum(total, 0).to(tl.float32)
    return count


@triton.jit
def sigmoid_weights(num_normal, num_pairs, weight, REDUCTION: tl.constexpr, IGNORES_ABNORMAL: tl.constexpr):
    """Weight of a positive and of a negative cell: pairing.sigmoid_weights."""
    num_abnormal = num_pairs - num_normal
    num_positive = num_normal * num_normal + num_abnormal
    num_negative = num_pairs * 1.0 * num_pairs - num_positive
    if IGNORES_ABNORMAL:
        num_negative -= num_abnormal * (num_abnormal - 1.0)
    if REDUCTION == "balanced":
        on = weight / (2.0 * num_positive)
        off = weight / (2.0 * tl.maximum(num_negative, 1.0))
    elif REDUCTION == "siglip":
        on = weight / num_pairs
        off = on
    else:
        on = weight / (num_positive + num_negative)
        off = on
    return on, off


@triton.jit
def sigmoid_scalars(
    normal_ptr, scale_ptr, bias_ptr, num_pairs, weight, REDUCTION: tl.constexpr, IGNORES_ABNORMAL: tl.constexpr
):  # fmt: skip
    """Weight of a positive and of a negative cell, scale and bias of the sigmoid term."""
    num_normal = count_flags(normal_ptr, num_pairs, 1024)
    on, off = sigmoid_weights(num_normal, num_pairs, weight, REDUCTION, IGNORES_ABNORMAL)
    return on, off, tl.exp(tl.load(scale_ptr).to(tl.float32)), tl.load(bias_ptr).to(tl.float32)


@triton.jit
def sigmoid_term(
    cosines, is_own, inside, row_normal, column_normal, scale, bias, on, off, IGNORES_ABNORMAL: tl.constexpr
):  # fmt: skip
    """The loss of every cell, and its gradient by the cell's logit."""
    positive = is_own | (row_normal[:, None] & column_normal[None, :])
    negative = ~positive
    if IGNORES_ABNORMAL:
        negative = negative & (row_normal[:, None] | column_normal[None, :])
    weight = tl.where(inside, tl.where(positive, on, tl.where(negative, off, 0.0)), 0.0)
    sign = tl.where(positive, -1.0, 1.0)
    signed = sign * (scale * cosines + bias)
    return weight * softplus(signed), weight * sign * sigmoid(signed)
