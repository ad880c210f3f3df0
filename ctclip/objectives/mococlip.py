"""MoCoCLIP (arXiv 2503.13134), ported to CT: a momentum image branch with a queue of negatives, beside CLIP.

The momentum term is MoCo's (He et al. 2020, arXiv 1911.05722; released code): a query of the trained encoder against
the key that the momentum copy gives of another view of the same volume, and the keys of past studies. All numbers of
MoCoCLIP itself are inferred, see MococlipParameters. The mode "cross_modal" is that of ALBEF and BLIP.
"""

import math

import torch
from torch import Tensor

from ctclip.errors import ConfigError
from ctclip.models.features import Features
from ctclip.objectives.clip import valid_clip_loss
from ctclip.objectives.contrast import full_precision, graph_zero, unit_rows
from ctclip.objectives.facts import EMPTY, Facts, Momentum
from ctclip.objectives.parameters import MococlipParameters, MomentumParameters
from ctkernels import infonce_queue


def mococlip_objective(
    features: Features, facts: Facts, parameters: MococlipParameters
) -> tuple[Tensor, dict[str, Tensor]]:
    """The image-text term and the momentum term that the mode names; 0 when no row is valid.

    A query without a usable negative adds 0 to the momentum term, which is 0 while the queue is empty.

    Args:
        features: Of the global batch, of the query view.
        facts: `study`, `patient`, `valid`; `momentum` unless the mode is "itc", and `text_momentum` for
            "cross_modal".
        parameters: Of the objective.

    Returns:
        The loss, a scalar, and what to log of it.

    Raises:
        ConfigError: The mode needs momentum keys and there are none.
    """
    loss = graph_zero(features.image, features.text, features.logit_scale)
    logs: dict[str, Tensor] = {}
    if parameters.mode in ("itc", "moco+itc"):
        itc = valid_clip_loss(features, facts)
        loss = loss + parameters.weight_itc * itc
        logs["itc"] = itc.detach()
    if parameters.mode in ("moco", "moco+itc"):
        momentum = _needed(facts.momentum, parameters.mode, "momentum")
        moco = moco_loss(momentum, facts, parameters.image)
        loss = loss + parameters.weight_moco * moco
        logs |= {"moco": moco.detach(), "num_negatives": (momentum.negatives.study != EMPTY).sum()}
    if parameters.mode == "cross_modal":
        cross = cross_modal_loss(features, facts, parameters.image)
        loss = loss + parameters.weight_moco * cross
        logs["cross_modal"] = cross.detach()
    return loss, logs


def moco_loss(momentum: Momentum, facts: Facts, parameters: MomentumParameters) -> Tensor:
    """- mean_i log exp(q_i k_i / t) / (exp(q_i k_i / t) + sum_{r usable for i} exp(q_i u_r / t)).

    (He et al. 2020, equation 1, with the positive in the denominator as in the released code.)

    Args:
        momentum: Queries, keys and older keys.
        facts: `valid`, and `study` and `patient`, whose own older keys are not usable.
        parameters: Temperature t and what is excluded.
    """
    if facts.valid is None and len(momentum.negatives.key):
        return _fused(momentum, facts, parameters)
    with full_precision(momentum.query.device):
        valid = facts.valid_rows
        query = unit_rows(momentum.query, valid)
        key = unit_rows(momentum.key.detach(), valid).to(query.dtype)
        own = (query * key).sum(1, keepdim=True) / parameters.temperature
        older = query @ momentum.negatives.key.to(query.dtype).T / parameters.temperature
        older = older.masked_fill(~usable_slots(momentum, facts, parameters.exclude), float("-inf"))
        rows = torch.cat([own, older], 1).logsumexp(1) - own.squeeze(1)
        return (rows * valid).sum() / valid.sum().clamp_min(1)


def _fused(momentum: Momentum, facts: Facts, parameters: MomentumParameters) -> Tensor:
    """`moco_loss` in one kernel, where every row counts."""
    by_study = parameters.exclude == "study"
    negatives = momentum.negatives
    kind = torch.promote_types(momentum.query.dtype, torch.float32)
    return infonce_queue(
        momentum.query,
        momentum.key,
        negatives.key,
        torch.full((), -math.log(parameters.temperature), dtype=kind, device=momentum.query.device),
        query_id=facts.study if by_study else facts.patient,
        queue_id=negatives.study if by_study else negatives.patient,
    )


def cross_modal_loss(features: Features, facts: Facts, parameters: MomentumParameters) -> Tensor:
    """Half of image queries against text keys plus half of text queries against image keys.

    Candidates are the keys of the batch and of the queue (Li et al. 2021, arXiv 2107.07651, section 3.2, without
    soft labels), at the logit scale of CLIP.
    """
    image = _needed(facts.momentum, "cross_modal", "momentum")
    text = _needed(facts.text_momentum, "cross_modal", "text_momentum")
    with full_precision(features.image.device):
        towards_text = _against(features.image, text, features.logit_scale, facts, parameters.exclude)
        towards_image = _against(features.text, image, features.logit_scale, facts, parameters.exclude)
        return (towards_text + towards_image) / 2


def usable_slots(momentum: Momentum, facts: Facts, exclude: str) -> Tensor:
    """(N, K) bool: slots that hold a key, and one that is not of the row's own study (or patient)."""
    negatives = momentum.negatives
    own, older = (facts.study, negatives.study) if exclude == "study" else (facts.patient, negatives.patient)
    return (negatives.study != EMPTY) & (own[:, None] != older)


def _against(queries: Tensor, other: Momentum, logit_scale: Tensor, facts: Facts, exclude: str) -> Tensor:
    valid = facts.valid_rows
    query = unit_rows(queries, valid)
    key = unit_rows(other.key.detach(), valid).to(query.dtype)
    scale = logit_scale.to(query.dtype).exp()
    batch = scale * query @ key.T
    older = scale * query @ other.negatives.key.to(query.dtype).T
    older = older.masked_fill(~usable_slots(other, facts, exclude), float("-inf"))
    own = batch.diagonal()
    ids = facts.study if exclude == "study" else facts.patient
    is_own = ids[:, None] == ids
    barred = (is_own | ~valid).fill_diagonal_(False)
    rows = torch.cat([batch.masked_fill(barred, float("-inf")), older], 1).logsumexp(1) - own
    return (rows * valid).sum() / valid.sum().clamp_min(1)


def _needed(momentum: Momentum | None, mode: str, name: str) -> Momentum:
    if momentum is None:
        raise ConfigError(
            f"mococlip mode={mode!r} needs keys of a momentum encoder in Facts.{name}; or take mode='itc'"
        )
    return momentum
