"""The objective of CLIP and of Merlin: symmetric InfoNCE over the studies of a batch."""

from torch import Tensor

from ctclip.models.features import Features
from ctclip.objectives.contrast import full_precision, symmetric_cross_entropy, unit_rows
from ctclip.objectives.facts import Facts
from ctclip.objectives.grids import own_cells, row_shares, valid_cells
from ctclip.objectives.parameters import ClipParameters
from ctkernels import infonce


def clip_loss(features: Features) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv 2103.00020), a scalar in float32.

    Args:
        features: Of all studies of the global batch; every other study's text is a negative.
    """
    return infonce(features.image, features.text, features.logit_scale)


def clip_objective(features: Features, facts: Facts, parameters: ClipParameters) -> tuple[Tensor, dict[str, Tensor]]:
    """CLIP's loss over the valid rows; 0 when none is.

    Args:
        features: Of the global batch.
        facts: Only `valid` is read.
        parameters: Of the objective.

    Returns:
        The loss, a scalar, and what to log of it.
    """
    loss = parameters.weight * valid_clip_loss(features, facts)
    return loss, {"clip": loss.detach()}


def valid_clip_loss(features: Features, facts: Facts) -> Tensor:
    """`clip_loss` of the valid rows alone; by the fused kernel where all are."""
    if facts.valid is None:
        return clip_loss(features)
    with full_precision(features.image.device):
        image, text = unit_rows(features.image, facts.valid), unit_rows(features.text, facts.valid)
        logits = features.logit_scale.to(image.dtype).exp() * image @ text.T
        cells = valid_cells(facts)
        weight = row_shares(facts.valid, cells, logits.dtype)
        return symmetric_cross_entropy(logits, positive_NN=own_cells(facts), candidate_NN=cells, weight_N=weight)
