"""OFF-CLIP (arXiv 2503.01794), ported to CT: normal units are each other's positives, cell by cell.

Two terms. The off-diagonal term is a logistic loss of every cell of the matrix of images and texts; the target is 1
on the diagonal and wherever both are normal. The abnormal term is InfoNCE among the abnormal alone. The target
matrix is certain (the authors' figure); reduction, weights, scale and bias are inferred, see OffclipParameters.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ctclip.errors import ConfigError
from ctclip.models.features import Features
from ctclip.objectives.contrast import full_precision, symmetric_cross_entropy, unit_rows
from ctclip.objectives.facts import Facts
from ctclip.objectives.grids import both_normal, group_total, num_groups, own_cells, row_shares, same_anatomy
from ctclip.objectives.parameters import OffclipParameters
from ctkernels import SigmoidTerm, infonce

MAX_BIAS = 10.0  # of bias_init by rate: log odds of 1 in 22,000, where "every cell is positive" would give infinity


def offclip_objective(
    features: Features, facts: Facts, parameters: OffclipParameters
) -> tuple[Tensor, dict[str, Tensor]]:
    """Off-diagonal term plus abnormal InfoNCE, averaged over the anatomies present; 0 when no row is valid.

    With one row the second term is 0; with normal rows alone too, and the first then only attracts: "num_abnormal" of
    the log says so.

    Args:
        features: Of the global batch; the logit scale is that of the abnormal term.
        facts: `abnormal`, `anatomy` (all 0 unless pair_unit is "anatomy"), `valid`, and scalars off_scale, off_bias.
        parameters: Of the objective.

    Returns:
        The loss, a scalar, and what to log of it.

    Raises:
        ConfigError: The learned scale and bias are missing.
    """
    scale, bias = facts.scalars.off_scale, facts.scalars.off_bias
    if scale is None or bias is None:
        raise ConfigError("offclip needs its learned off_scale and off_bias; give both in Facts.scalars")
    if parameters.unknown == "ignore":
        facts = facts.only(facts.abnormal >= 0)
    valid = facts.valid_rows
    counts = {"num_valid": valid.sum(), "num_abnormal": (valid & (facts.abnormal != 0)).sum()}
    if facts.valid is None and parameters.pair_unit != "anatomy":
        loss = _fused(features, facts, parameters, scale, bias)
        return loss, {"offclip": loss.detach(), **counts}
    with full_precision(features.image.device):
        image, text = unit_rows(features.image, valid), unit_rows(features.text, valid)
        cosines = image @ text.T
        kind = cosines.dtype
        off = off_diagonal_loss(scale.to(kind).exp() * cosines + bias.to(kind), facts, parameters)
        abnormal = abnormal_infonce(features.logit_scale.to(kind).exp() * cosines, facts)
        loss = parameters.weight_off_diagonal * off + parameters.weight_abnormal * abnormal
    return loss, {"off_diagonal": off.detach(), "abnormal": abnormal.detach(), **counts}


def _fused(features: Features, facts: Facts, parameters: OffclipParameters, scale: Tensor, bias: Tensor) -> Tensor:
    """Both terms in one kernel, where every row counts and all are one group."""
    normal = facts.abnormal == 0
    sigmoid = SigmoidTerm(
        scale,
        bias,
        normal,
        weight=parameters.weight_off_diagonal,
        reduction=parameters.reduction,
        ignores_abnormal=parameters.abnormal_pairs == "ignore",
    )
    return infonce(
        features.image,
        features.text,
        features.logit_scale,
        is_active=~normal,
        weight=parameters.weight_abnormal,
        sigmoid=sigmoid,
    )


def off_diagonal_targets(facts: Facts) -> Tensor:
    """Y (N, N) bool: 1 on the diagonal and where both rows are normal, within anatomies.

    Columns and rows in any order of normal N and abnormal A: N x N is all 1, A x A the identity, N x A all 0.
    """
    return own_cells(facts) | (both_normal(facts) & same_anatomy(facts))


def off_diagonal_loss(logits_NN: Tensor, facts: Facts, parameters: OffclipParameters) -> Tensor:
    """The logistic loss softplus(l) - Y l of every cell that counts, reduced within anatomies, averaged over them."""
    positive, group = off_diagonal_targets(facts), same_anatomy(facts)
    counted = group
    if parameters.abnormal_pairs == "ignore":
        normal = facts.abnormal == 0
        counted = group & (positive | normal[:, None] | normal)
    kind = logits_NN.dtype
    cells = functional.binary_cross_entropy_with_logits(logits_NN, positive.to(kind), reduction="none")
    weight = _cell_weights(counted, positive, group, parameters.reduction, kind)
    return (weight * cells).sum() / num_groups(group, kind).clamp_min(1)


def abnormal_infonce(logits_NN: Tensor, facts: Facts) -> Tensor:
    """Symmetric InfoNCE with rows and columns of abnormal units alone, within anatomies, averaged over them."""
    group = same_anatomy(facts)
    abnormal = facts.valid_rows & (facts.abnormal != 0)
    among = group & abnormal[:, None] & abnormal
    weight = row_shares(abnormal, group, logits_NN.dtype) / num_groups(group, logits_NN.dtype).clamp_min(1)
    return symmetric_cross_entropy(logits_NN, positive_NN=own_cells(facts), candidate_NN=among, weight_N=weight)


def bias_by_rate(normal_rate: float, batch_size: int) -> float:
    """First bias of the off-diagonal term: the log odds that a cell of a batch is positive, within +-MAX_BIAS.

    Args:
        normal_rate: p, share of normal units in the training split, 0 to 1.
        batch_size: B, rows of a global batch in one anatomy. pi = p^2 (B - 1) / B + 1 / B.
    """
    share = normal_rate**2 * (batch_size - 1) / batch_size + 1 / batch_size
    bound = 1 / (1 + math.exp(MAX_BIAS))
    share = min(max(share, bound), 1 - bound)
    return math.log(share / (1 - share))


def _cell_weights(counted: Tensor, positive: Tensor, group: Tensor, reduction: str, kind: torch.dtype) -> Tensor:
    """(N, N): what each cell's loss is multiplied with; sums to 1 in an anatomy for "mean"."""
    if reduction == "siglip":
        return counted.to(kind) / group.to(kind).sum(1, keepdim=True).clamp_min(1)
    if reduction == "mean":
        return _cell_shares(counted, group, kind)
    return (_cell_shares(counted & positive, group, kind) + _cell_shares(counted & ~positive, group, kind)) / 2


def _cell_shares(cells: Tensor, group: Tensor, kind: torch.dtype) -> Tensor:
    """Each cell's share of its group's cells; a group without any has none, and a mean of nothing is 0."""
    cells = cells.to(kind)
    return cells / group_total(cells, group).clamp_min(1)[:, None]
