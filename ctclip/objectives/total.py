"""The loss of a step: the sum over the objectives that a run names."""

from collections.abc import Sequence

from torch import Tensor

from ctclip.models.features import Features
from ctclip.objectives.cagcl import cagcl_objective
from ctclip.objectives.clip import clip_objective
from ctclip.objectives.facts import Facts
from ctclip.objectives.fvlm import fvlm_objective
from ctclip.objectives.mococlip import mococlip_objective
from ctclip.objectives.offclip import offclip_objective
from ctclip.objectives.parameters import Methods, ObjectiveName


def total_loss(
    names: Sequence[ObjectiveName], methods: Methods, features: Features, facts: Facts
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the named objectives over the same rows, and what to log, as "<objective>/<term>".

    Args:
        names: At least one.
        methods: Their choices.
        features: Of the global batch.
        facts: Of its rows.
    """
    losses, logs = [], {}
    for name in names:
        loss, told = _loss(name, methods, features, facts)
        losses.append(loss)
        logs |= {f"{name}/{term}": value for term, value in told.items()}
    return sum(losses[1:], start=losses[0]), logs


def _loss(name: ObjectiveName, methods: Methods, features: Features, facts: Facts) -> tuple[Tensor, dict[str, Tensor]]:
    if name == "clip":
        return clip_objective(features, facts, methods.clip)
    if name == "offclip":
        return offclip_objective(features, facts, methods.offclip)
    if name == "mococlip":
        return mococlip_objective(features, facts, methods.mococlip)
    if name == "fvlm":
        return fvlm_objective(features, facts, methods.fvlm)
    return cagcl_objective(features, facts, methods.cagcl)
