"""fVLM (arXiv 2501.14548): image and text of one anatomy at a time, with normal-normal pairs as positives.

A row is an anatomy of a study, valid where the anatomy is whole in the crop. All is read in the released code but for
the soft targets, which its configuration mentions and its forward pass does not use.
"""

import torch
from torch import Tensor

from ctclip.errors import ConfigError
from ctclip.models.features import Features
from ctclip.objectives.contrast import full_precision, masked_softmax, soft_cross_entropy, uniform_targets, unit_rows
from ctclip.objectives.facts import Facts
from ctclip.objectives.grids import has_negative, num_groups, row_shares, same_anatomy, same_finding
from ctclip.objectives.parameters import FvlmParameters, LocalParameters


def fvlm_objective(features: Features, facts: Facts, parameters: FvlmParameters) -> tuple[Tensor, dict[str, Tensor]]:
    """The per-anatomy term; 0 when no anatomy can be used.

    Args:
        features: Of the global batch's anatomies.
        facts: `abnormal`, `text`, `anatomy`, `valid`; `teacher` where soft_alpha is above 0.
        parameters: Of the objective.

    Returns:
        The loss, a scalar, and what to log of it.

    Raises:
        ConfigError: soft_alpha is above 0 and there is no teacher.
    """
    local = local_loss(features, facts, parameters.local)
    return local, {"local": local.detach(), **local_counts(facts, parameters.local)}


def local_loss(features: Features, facts: Facts, parameters: LocalParameters) -> Tensor:
    """Sum or mean over used anatomies of the symmetric cross-entropy within each.

    An anatomy is used when the batch has a study that is not normal there, and a pair that is not positive.
    """
    with full_precision(features.image.device):
        logits = anatomy_logits(features, facts)
        group, positive = same_anatomy(facts), local_positives(facts, parameters)
        used = used_rows(facts, parameters)
        weight = row_shares(used, group, logits.dtype)
        if parameters.reduction == "mean":
            weight = weight / weight.sum().clamp_min(1)
        rows = columns = uniform_targets(positive, logits.dtype)
        if parameters.soft_alpha > 0:
            rows, columns = _softened(rows, facts, group, parameters.soft_alpha)
        return soft_cross_entropy(logits, rows, columns, candidate_NN=group, weight_N=weight)


def anatomy_logits(features: Features, facts: Facts, logit_scale: Tensor | None = None) -> Tensor:
    """(N, N) scaled cosines of valid images and texts; rows and columns that are not valid are 0."""
    image, text = unit_rows(features.image, facts.valid_rows), unit_rows(features.text, facts.valid_rows)
    scale = features.logit_scale if logit_scale is None else logit_scale
    return scale.to(image.dtype).exp() * image @ text.T


def local_positives(facts: Facts, parameters: LocalParameters) -> Tensor:
    """(N, N) bool."""
    return same_finding(facts, normal_positives=parameters.normal_positives, text_positives=parameters.text_positives)


def used_rows(facts: Facts, parameters: LocalParameters) -> Tensor:
    """(N,) bool: valid rows of anatomies that are used."""
    group = same_anatomy(facts)
    used = facts.valid_rows & has_negative(group, local_positives(facts, parameters), group)
    if parameters.needs_abnormal:
        abnormal = (facts.valid_rows & (facts.abnormal != 0)).to(torch.float32)
        used = used & (group.to(torch.float32) @ abnormal > 0)
    return used


def local_counts(facts: Facts, parameters: LocalParameters) -> dict[str, Tensor]:
    """How many rows are valid, and how many anatomies are used."""
    used = facts.only(used_rows(facts, parameters))
    return {"num_valid": facts.valid_rows.sum(), "num_anatomies": num_groups(same_anatomy(used), torch.float32)}


def soft_share(alpha: float, step: int, ramp_steps: int) -> float:
    """alpha risen linearly over `ramp_steps` steps (two epochs in the released code)."""
    return alpha * min(1.0, step / max(1, ramp_steps))


def _softened(target: Tensor, facts: Facts, group: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(1 - alpha) T + alpha softmax of the teacher's logits, for rows and for columns."""
    if facts.teacher is None:
        raise ConfigError(f"local.soft_alpha={alpha} needs a teacher's features in Facts.teacher; or set it to 0")
    with torch.no_grad():
        logits = anatomy_logits(facts.teacher, facts).to(target.dtype)
        rows = (1 - alpha) * target + alpha * masked_softmax(logits, group)
        return rows, (1 - alpha) * target + alpha * masked_softmax(logits.T, group.T)
