"""The slow twin of `infonce_queue`: plain torch that autograd differentiates. The tests' oracle."""

import torch
from torch import Tensor
from torch.nn import functional


def queue_reference(
    query: Tensor, key: Tensor, queue: Tensor, logit_scale: Tensor, query_id: Tensor, queue_id: Tensor
) -> Tensor:
    """Cross-entropy of each query's own key against the queue (He et al. 2020, arXiv 1911.05722, equation 1).

    Args:
        query: (B, E), not normalised.
        key: (B, E), not normalised; row i belongs to query i.
        queue: (K, E), used as it is.
        logit_scale: Scalar, the log of what multiplies the cosines.
        query_id: (B,) int.
        queue_id: (K,) int; a slot counts for query i where its id is neither negative nor query_id[i].

    Returns:
        Scalar, the mean over the queries.
    """
    query, key = functional.normalize(query, dim=1), functional.normalize(key.detach(), dim=1)
    positive = (query * key).sum(1, keepdim=True)
    masked = (queue_id < 0) | (query_id[:, None] == queue_id)
    logits = logit_scale.exp() * torch.cat([positive, query @ queue.detach().T], 1)
    logits = logits.masked_fill(functional.pad(masked, (1, 0)), -torch.inf)
    return functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))
