"""Device code of `infonce_queue`: one pass over the queue for the loss and the gradient, in two launches.

First launch: every program walks its share of the slots once, with running sums per query and the running weighted
sum of the very keys it has loaded (as in attention with K = V). Second launch: the shares merged, the positive added,
loss and gradients written. No atomics: the same bits every time. Formulas as in queue_closed.py.

This file checks nothing. It has been compiled for sm_90 and run in Triton's interpreter, not on a GPU.

Axes: B queries, K slots, E dimension, S shares.
"""

# Triton's functions take more than their Python signatures say.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false, reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctkernels.queue_closed import QueueGradients
from ctkernels.tile import matmul, sigmoid, softplus

# Keys in float32 -> dimensions at most, queries of one program, slots loaded at once, stages: the largest that compile
# for sm_90 without spilling registers.
LAUNCH = {False: (512, 32, 32, 3), True: (128, 16, 32, 2)}
NUM_WARPS = 8
PROGRAMS = 132  # shares are made until the first launch has about this many programs


@triton.jit(do_not_specialize=["num_queries", "num_slots", "num_shares"])
def queue_kernel(
    query_ptr, queue_ptr, scale_ptr, query_id_ptr, queue_id_ptr, sums_ptr, weighted_ptr,
    num_queries, num_slots, num_shares,
    E: tl.constexpr, EP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, IS_UPCAST: tl.constexpr,
):  # fmt: skip
    """sums (S, 3, B): largest logit, sum, first moment; weighted (S, B, E): sum of exp(z - largest) key."""
    share = tl.program_id(0)
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    along = tl.arange(0, EP)
    is_row, is_column = row < num_queries, along < E
    query = tl.load(
        query_ptr + row[:, None] * E + along[None, :], mask=is_row[:, None] & is_column[None, :], other=0.0
    ).to(tl.float32)
    square = tl.sum(query * query, 1)
    factor = tl.exp(tl.load(scale_ptr).to(tl.float32)) / tl.maximum(tl.sqrt(square), 1e-12)
    query_id = tl.load(query_id_ptr + row, mask=is_row, other=-1)
    high = query.to(queue_ptr.dtype.element_ty)
    low = (query - high.to(tl.float32)).to(queue_ptr.dtype.element_ty)
    largest = tl.full([BM], float("-inf"), tl.float32)
    total, moment = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    weighted = tl.zeros([BM, EP], tl.float32)
    for start in range(share * BN, num_slots, num_shares * BN):
        slot = start + tl.arange(0, BN)
        is_slot = slot < num_slots
        key = tl.load(
            queue_ptr + slot[:, None] * E + along[None, :], mask=is_slot[:, None] & is_column[None, :], other=0.0
        )
        slot_id = tl.load(queue_id_ptr + slot, mask=is_slot, other=-1)
        if IS_UPCAST:
            dots = tl.dot(query, tl.trans(key.to(tl.float32)), input_precision="tf32x3")
        else:
            dots = tl.dot(low, tl.trans(key), tl.dot(high, tl.trans(key)))
        logits = dots * factor[:, None]
        counts = (slot_id >= 0)[None, :] & (slot_id[None, :] != query_id[:, None])
        shown = tl.where(counts, logits, float("-inf"))
        bound = tl.maximum(largest, tl.max(shown, 1))
        base = tl.where(bound == float("-inf"), 0.0, bound)
        shrink = tl.exp(largest - base)
        weight = tl.exp(shown - base[:, None])
        total = total * shrink + tl.sum(weight, 1)
        moment = moment * shrink + tl.sum(weight * logits, 1)
        weighted = weighted * shrink[:, None] + matmul(weight, key, IS_UPCAST)
        largest = bound
    into = sums_ptr + share * 3 * num_queries + row
    tl.store(into, largest, mask=is_row)
    tl.store(into + num_queries, total, mask=is_row)
    tl.store(into + 2 * num_queries, moment, mask=is_row)
    tl.store(
        weighted_ptr + (share * num_queries + row[:, None]) * E + along[None, :],
        weighted,
        mask=is_row[:, None] & is_column[None, :],
    )


@triton.jit(do_not_specialize=["num_queries", "num_shares"])
def merge_kernel(
    query_ptr, key_ptr, scale_ptr, sums_ptr, weighted_ptr, each_ptr, d_query_ptr, num_queries, num_shares,
    E: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """One query per program: each (2, B), its loss and gradient by logit_scale, over B; d_query (B, E)."""
    row = tl.program_id(0)
    along = tl.arange(0, EP)
    inside = along < E
    query = tl.load(query_ptr + row * E + along, mask=inside, other=0.0).to(tl.float32)
    key = tl.load(key_ptr + row * E + along, mask=inside, other=0.0).to(tl.float32)
    query_inverse = 1.0 / tl.maximum(tl.sqrt(tl.sum(query * query, 0)), 1e-12)
    key_inverse = 1.0 / tl.maximum(tl.sqrt(tl.sum(key * key, 0)), 1e-12)
    scale = tl.exp(tl.load(scale_ptr).to(tl.float32))
    positive = tl.sum(query * key, 0) * query_inverse * key_inverse * scale

    largest = positive * 0.0 + float("-inf")
    total, moment = positive * 0.0, positive * 0.0
    weighted = tl.zeros([EP], tl.float32)
    for share in range(0, num_shares):
        at = sums_ptr + share * 3 * num_queries + row
        other = tl.load(at)
        bound = tl.maximum(largest, other)
        base = tl.where(bound == float("-inf"), 0.0, bound)
        mine, theirs = tl.exp(largest - base), tl.exp(other - base)
        total = total * mine + tl.load(at + num_queries) * theirs
        moment = moment * mine + tl.load(at + 2 * num_queries) * theirs
        part = tl.load(weighted_ptr + (share * num_queries + row) * E + along, mask=inside, other=0.0)
        weighted = weighted * mine + part * theirs
        largest = bound
    filled = tl.where(total > 0, total, 1.0)
    surprise = tl.where(total > 0, largest + tl.log(filled) - positive, float("-inf"))
    unlikely = sigmoid(surprise)
    slope = unlikely * (moment / filled - positive) / num_queries
    pull = unlikely * scale * (weighted / filled - key * key_inverse) / num_queries
    d_query = query_inverse * pull - slope * query_inverse * query_inverse * query
    tl.store(d_query_ptr + row * E + along, d_query, mask=inside)
    tl.store(each_ptr + row, softplus(surprise) / num_queries)
    tl.store(each_ptr + num_queries + row, slope)


def queue_launch(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    logit_scale: Tensor,
    query_id: Tensor,
    queue_id: Tensor,
    *,
    is_upcast: bool | None = None,
) -> QueueGradients:
    """The launches of `queue_kernel` and `merge_kernel`, and one sum over the queries.

    Args:
        query: (B, E) contiguous, float32, bfloat16 or float16, E at most what LAUNCH says.
        key: (B, E) contiguous.
        queue: (K, E) contiguous, float32 or bfloat16.
        logit_scale: Scalar of any floating type.
        query_id: (B,) int.
        queue_id: (K,) int.
        is_upcast: Multiply in float32; when not given, all but a bfloat16 queue is.
    """
    (num_queries, dim), num_slots = query.shape, len(queue)
    upcast = queue.dtype != torch.bfloat16 if is_upcast is None else is_upcast
    _, queries, slots, num_stages = LAUNCH[upcast]
    blocks = triton.cdiv(num_queries, queries)
    shares = max(1, min(PROGRAMS // blocks, triton.cdiv(num_slots, slots)))
    made = {"device": query.device, "dtype": torch.float32}
    sums, weighted = torch.empty(shares, 3, num_queries, **made), torch.empty(shares, num_queries, dim, **made)
    each, d_query = torch.empty(2, num_queries, **made), torch.empty(num_queries, dim, **made)
    padded = max(16, triton.next_power_of_2(dim))
    queue_kernel[(shares, blocks)](
        query, queue, logit_scale, query_id, queue_id, sums, weighted, num_queries, num_slots, shares,
        E=dim, EP=padded, BM=queries, BN=slots, IS_UPCAST=upcast, num_warps=NUM_WARPS, num_stages=num_stages,
    )  # fmt: skip
    merge_kernel[(num_queries,)](
        query, key, logit_scale, sums, weighted, each, d_query, num_queries, shares, E=dim, EP=padded, num_warps=4
    )
    return QueueGradients(each.sum(1), d_query)
