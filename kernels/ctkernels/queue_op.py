"""InfoNCE of queries against their own keys and a queue of past keys: checks, dispatch, autograd.

Enter: queries with a gradient, keys and a queue without. Leaves: the scalar loss. This file knows nothing of how the
queue is filled.

Axes: B queries, K slots, E dimension.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ctkernels.queue_library import compute_queue

_INTEGERS = (torch.int32, torch.int64)


def infonce_queue(
    query: Tensor, key: Tensor, queue: Tensor, logit_scale: Tensor, *, query_id: Tensor, queue_id: Tensor
) -> Tensor:
    """Cross-entropy of each query's own key against a queue of negatives, mean over the queries.

    With x, y the L2-normalised query and key, u_r the slots as they are, s = exp(logit_scale), and N_i the slots
    whose id is neither negative (empty) nor the query's own,

        loss = -1/B sum_i log( exp(s x_i.y_i) / (exp(s x_i.y_i) + sum_{r in N_i} exp(s x_i.u_r)) )

    (He et al. 2020, arXiv 1911.05722, equation 1). With no slot that counts the loss is 0. Gradients reach `query` and
    `logit_scale` only. All arithmetic is in float32 at least, also under autocast; nothing waits for the device.

    Args:
        query: (B, E) of any floating type.
        key: (B, E), row i belongs to query i.
        queue: (K, E) of unit rows, float32 or bfloat16 (half the memory traffic).
        logit_scale: Scalar tensor, the natural log of what multiplies the cosines, -log(temperature).
        query_id: (B,) int, what must not be a query's negative: its study or its patient. A negative id is in no group.
        queue_id: (K,) int, of the same kind as query_id; -1 in an empty slot.

    Returns:
        Scalar, float64 when the query is float64, else float32.

    Raises:
        ValueError: Shapes, types or devices that do not fit.

    Example:
        >>> import torch
        >>> query, key = torch.tensor([[1.0, 0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0, 1.0]])
        >>> queue = torch.tensor([[-1.0, 0], [0, -1], [0.6, -0.8]])
        >>> ids, slots = torch.tensor([0, 1]), torch.tensor([2, 3, 4])
        >>> round(float(infonce_queue(query, key, queue, torch.tensor(0.0), query_id=ids, queue_id=slots)), 6)
        0.73521
    """
    _check(query, key, queue, logit_scale)
    _check_ids(query_id, "query_id", query)
    _check_ids(queue_id, "queue_id", queue)
    constants = (key.detach(), queue.detach())
    with torch.autocast(query.device.type, enabled=False):
        if torch.is_grad_enabled() and (query.requires_grad or logit_scale.requires_grad):
            return _Queue.apply(query, logit_scale, *constants, query_id, queue_id)
        return compute_queue(query, *constants, logit_scale, query_id, queue_id).scalars[0]


class _Queue(torch.autograd.Function):
    """Saves the gradients for an upstream gradient of 1; the backward pass multiplies them."""

    @staticmethod
    def forward(ctx, query, logit_scale, key, queue, query_id, queue_id) -> Tensor:
        made = compute_queue(query, key, queue, logit_scale, query_id, queue_id)
        ctx.save_for_backward(made.query, made.scalars)
        ctx.like = (query.dtype, logit_scale.dtype, logit_scale.shape)
        return made.scalars[0].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride] (the decorator is untyped)
        d_query, scalars = torch._foreach_mul(ctx.saved_tensors, grad_outputs[0])
        kind, scale_kind, shape = ctx.like
        by_query, by_scale, *_ = ctx.needs_input_grad
        return (
            d_query.to(kind) if by_query else None,
            scalars[1].reshape(shape).to(scale_kind) if by_scale else None,
            *[None] * 4,
        )


def _check(query: Tensor, key: Tensor, queue: Tensor, logit_scale: Tensor) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, queue {tuple(queue.shape)}"
    if query.ndim != 2 or query.shape != key.shape or queue.ndim != 2 or queue.shape[1] != query.shape[1]:
        raise ValueError(f"infonce_queue needs query and key (B, E) and a queue (K, E), got {shapes}")
    if len(query) == 0 or len(queue) == 0:
        raise ValueError(f"infonce_queue needs at least one query and one slot (an empty slot has id -1), got {shapes}")
    tensors = {"query": query, "key": key, "queue": queue, "logit_scale": logit_scale}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.device != query.device:
            raise ValueError(
                f"infonce_queue needs floats on {query.device}, got {name} {tensor.dtype}, {tensor.device}"
            )
    if logit_scale.numel() != 1:
        raise ValueError(f"infonce_queue needs one logit_scale, got shape {tuple(logit_scale.shape)}")


def _check_ids(ids: Tensor, name: str, rows: Tensor) -> None:
    if ids.shape != rows.shape[:1] or ids.dtype not in _INTEGERS or ids.device != rows.device:
        raise ValueError(
            f"infonce_queue needs {name} of shape ({len(rows)},), int32 or int64, on {rows.device}; "
            f"got {tuple(ids.shape)}, {ids.dtype}, on {ids.device}"
        )
