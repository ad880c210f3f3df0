"""The closed form of `infonce_queue` in a dozen ATen calls: loss and gradients at once. Every device, every float type.

Axes: B queries, K slots, E dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_TINY_NORM = 1e-12
_SOFTPLUS_LINEAR = 50.0


class QueueGradients(NamedTuple):
    """(2,): the loss and its gradient by logit_scale; (B, E): its gradient by the queries. float32 or float64."""

    scalars: Tensor
    query: Tensor


def queue_gradients(
    query: Tensor, key: Tensor, queue: Tensor, logit_scale: Tensor, query_id: Tensor, queue_id: Tensor
) -> QueueGradients:
    """With p_i the probability of anything but the own key, and a_i the mean key under the negatives' softmax,

    dloss/dx_i = scale p_i (a_i - y_i) / B for the normalised query x_i; arguments as infonce_queue has them.
    """
    kind = torch.promote_types(query.dtype, torch.float32)
    query, key, queue, logit_scale = query.to(kind), key.to(kind), queue.to(kind), logit_scale.to(kind).reshape(())
    inverse = query.norm(dim=1, keepdim=True).clamp_min(_TINY_NORM).reciprocal()
    key = key * key.norm(dim=1, keepdim=True).clamp_min(_TINY_NORM).reciprocal()
    scale = logit_scale.exp()
    positive = scale * (query * key).sum(1, keepdim=True) * inverse
    masked = (queue_id < 0) | (query_id[:, None] == queue_id)
    negatives = ((query @ queue.T) * (scale * inverse)).masked_fill(masked, -torch.inf)
    bound = negatives.logsumexp(1, keepdim=True)
    surprise = bound - positive
    unlikely = surprise.sigmoid() / len(query)
    share = (negatives - torch.where(bound > -torch.inf, bound, 0)).exp()
    mean_logit = (share * torch.where(masked, 0, negatives)).sum(1, keepdim=True)
    slope = unlikely * (mean_logit - positive)
    d_query = inverse * unlikely * scale * (share @ queue - key) - slope * inverse**2 * query
    loss = functional.softplus(surprise, threshold=_SOFTPLUS_LINEAR).mean()
    return QueueGradients(torch.stack([loss, slope.sum()]), d_query)
