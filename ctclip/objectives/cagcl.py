"""CA-GCL (arXiv 2605.13544): fVLM's local term, and a contrast across anatomies. The form of the latter is inferred.

Why the local term alone cannot keep anatomies apart: it never compares two of them, so that turning each anatomy's
space by any orthogonal map of its own leaves it unchanged while anatomies move onto each other. The global term sees
exactly the missing cells; tests hold both halves of this sentence.
"""

import torch
from torch import Tensor

from ctclip.errors import ConfigError
from ctclip.models.features import Features
from ctclip.objectives.clip import clip_loss
from ctclip.objectives.contrast import (
    directed_cross_entropy,
    full_precision,
    symmetric_cross_entropy,
    uniform_targets,
    unit_rows,
)
from ctclip.objectives.facts import Facts
from ctclip.objectives.fvlm import anatomy_logits, local_counts, local_loss
from ctclip.objectives.grids import equal_text, has_negative, row_shares, same_anatomy, same_finding, valid_cells
from ctclip.objectives.parameters import CagclParameters, GlobalParameters


def cagcl_objective(features: Features, facts: Facts, parameters: CagclParameters) -> tuple[Tensor, dict[str, Tensor]]:
    """Local term plus global term, and the optional volume term; 0 when no row is valid.

    Args:
        features: Of the global batch's anatomies.
        facts: As for `ctclip.objectives.fvlm`, with scalars.across_scale where the global term has its own
            temperature, and `whole` where weight_volume is not 0.
        parameters: Of the objective.

    Returns:
        The loss, a scalar, and what to log of it.

    Raises:
        ConfigError: A part of Facts that the parameters ask for is missing.
    """
    local = local_loss(features, facts, parameters.local)
    across = global_loss(features, facts, parameters.across)
    loss = local + parameters.across.weight * across
    logs = {"local": local.detach(), "global": across.detach(), **local_counts(facts, parameters.local)}
    if parameters.across.weight_text:
        text = text_loss(features, facts, parameters.across)
        loss = loss + parameters.across.weight_text * text
        logs["text"] = text.detach()
    if parameters.weight_volume:
        if facts.whole is None:
            raise ConfigError(
                f"cagcl weight_volume={parameters.weight_volume} needs features of whole volumes and reports in "
                "Facts.whole; or set it to 0"
            )
        volume = clip_loss(facts.whole)
        loss = loss + parameters.weight_volume * volume
        logs["volume"] = volume.detach()
    return loss, logs


def global_loss(features: Features, facts: Facts, parameters: GlobalParameters) -> Tensor:
    """Symmetric cross-entropy over all valid rows of all anatomies together.

    0 where no candidate is a negative: one row, or all alike. With one anatomy the form "all" is fVLM's local loss
    and "cross_only" is 0.
    """
    with full_precision(features.image.device):
        logits = anatomy_logits(features, facts, _across_scale(facts, parameters))
        positive, candidate = global_cells(facts, parameters)
        everything = valid_cells(facts)
        rows = facts.valid_rows & has_negative(candidate, positive, everything)
        weight = row_shares(rows, everything, logits.dtype)
        return symmetric_cross_entropy(logits, positive_NN=positive, candidate_NN=candidate, weight_N=weight)


def global_cells(facts: Facts, parameters: GlobalParameters) -> tuple[Tensor, Tensor]:
    """Positive and candidate cells, each (N, N) bool. A cell across anatomies is never a positive."""
    anatomy = same_anatomy(facts)
    positive = anatomy if parameters.form == "category" else same_finding(facts)
    candidate = valid_cells(facts)
    if parameters.form == "cross_only":
        candidate = candidate & (positive | ~anatomy)
    if parameters.mask_equal_text:
        candidate = candidate & (anatomy | ~equal_text(facts))
    return positive, candidate


def text_loss(features: Features, facts: Facts, parameters: GlobalParameters) -> Tensor:
    """Supervised contrast among texts (Khosla et al. 2020, arXiv 2004.11362, equation 2): an anatomy's are positives.

    A text is no candidate of its own; one that is alone in its anatomy is left out.
    """
    with full_precision(features.text.device):
        text = unit_rows(features.text, facts.valid_rows)
        scale = _across_scale(facts, parameters)
        scale = features.logit_scale if scale is None else scale
        logits = scale.to(text.dtype).exp() * text @ text.T
        own = torch.eye(len(text), dtype=torch.bool, device=text.device)
        positive, everything = same_anatomy(facts) & ~own, valid_cells(facts)
        rows = positive.any(1)
        weight = row_shares(rows, everything, logits.dtype)
        # The own cell is out of the softmax by its logit: what the function below always lets in must then be nothing.
        logits = logits.masked_fill(own & rows[:, None], -1e4)
        target = uniform_targets(positive, logits.dtype)
        return directed_cross_entropy(logits, target, candidate_NN=everything, weight_N=weight)


def _across_scale(facts: Facts, parameters: GlobalParameters) -> Tensor | None:
    if not parameters.own_temperature:
        return None
    if facts.scalars.across_scale is None:
        raise ConfigError("cagcl across.own_temperature needs its learned across_scale in Facts.scalars; or set it off")
    return facts.scalars.across_scale
