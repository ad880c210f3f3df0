"""Cross-entropy over a matrix of logits whose cells are positives, negatives or neither; plain torch.

Enter: raw features and boolean grids. Leave: scalars that autograd differentiates. Every objective that the fused
kernel does not cover is made of these functions, and the kernel is tested against them. Rows that do not count
carry no value and no gradient, whatever stands in them, NaN included. Nothing waits for the device.

Axes: N rows, E joint dimension.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Without autocast: logits and losses are float32 at least."""
    with torch.autocast(device.type, enabled=False):
        yield


def unit_rows(features_NE: Tensor, valid_N: Tensor) -> Tensor:
    """L2-normalised rows, float32 at least; rows that are not valid are 0 and get no gradient."""
    kind = torch.promote_types(features_NE.dtype, torch.float32)
    kept = torch.where(valid_N[:, None], features_NE.to(kind), 0.0)
    return functional.normalize(kept, dim=1)


def symmetric_cross_entropy(
    logits_NN: Tensor, *, positive_NN: Tensor, candidate_NN: Tensor, weight_N: Tensor
) -> Tensor:
    """Half the cross-entropy over rows plus half that over columns, with uniform targets over the positives.

        1/2 sum_i w_i [ log sum_{j in C_i} exp z_ij  -  mean_{j in P_i} z_ij ]  +  the same of the transpose.

    Args:
        logits_NN: z; row i is image i, column j text j.
        positive_NN: P, bool, symmetric.
        candidate_NN: C, bool, symmetric: what the softmax runs over. The own pair always counts as one.
        weight_N: w, 0 for rows that do not count.
    """
    target_NN = uniform_targets(positive_NN, logits_NN.dtype)
    return soft_cross_entropy(logits_NN, target_NN, target_NN, candidate_NN=candidate_NN, weight_N=weight_N)


def soft_cross_entropy(
    logits_NN: Tensor, row_target_NN: Tensor, column_target_NN: Tensor, *, candidate_NN: Tensor, weight_N: Tensor
) -> Tensor:
    """`symmetric_cross_entropy` with targets given: row i of each sums to 1, of texts for image i, of images for text
    i."""
    rows = directed_cross_entropy(logits_NN, row_target_NN, candidate_NN=candidate_NN, weight_N=weight_N)
    columns = directed_cross_entropy(logits_NN.T, column_target_NN, candidate_NN=candidate_NN.T, weight_N=weight_N)
    return (rows + columns) / 2


def directed_cross_entropy(logits_NN: Tensor, target_NN: Tensor, *, candidate_NN: Tensor, weight_N: Tensor) -> Tensor:
    """sum_i w_i [ log sum_{j in C_i} exp z_ij - sum_j t_ij z_ij ]; C_i holds i, and t is 0 outside C."""
    aim_N = (target_NN * logits_NN).sum(1)
    return (weight_N * (_log_sum(logits_NN, candidate_NN) - aim_N)).sum()


def uniform_targets(positive_NN: Tensor, kind: torch.dtype) -> Tensor:
    """(N, N) of `kind`: each row 1 / |P_i| on its positives; 0 in a row without any."""
    positive_NN = positive_NN.to(kind)
    return positive_NN / positive_NN.sum(1, keepdim=True).clamp_min(1)


def masked_softmax(logits_NN: Tensor, candidate_NN: Tensor) -> Tensor:
    """(N, N): softmax of each row over its candidates and itself, 0 elsewhere."""
    return (logits_NN - _log_sum(logits_NN, candidate_NN)[:, None]).exp() * _with_own(candidate_NN)


def graph_zero(*features: Tensor) -> Tensor:
    """0 that depends on the features: a parameter that a term does not reach still gets a gradient, of zeros."""
    kind = torch.promote_types(features[0].dtype, torch.float32)
    terms = [torch.where(torch.zeros_like(part, dtype=torch.bool), part.to(kind), 0.0).sum() for part in features]
    return torch.stack(terms).sum()


def _log_sum(logits_NN: Tensor, candidate_NN: Tensor) -> Tensor:
    # The own cell is always in, so that no row is all -inf, whose gradient would be NaN.
    return logits_NN.masked_fill(~_with_own(candidate_NN), float("-inf")).logsumexp(1)


def _with_own(candidate_NN: Tensor) -> Tensor:
    return candidate_NN | torch.eye(len(candidate_NN), dtype=torch.bool, device=candidate_NN.device)
