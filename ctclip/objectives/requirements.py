"""What objectives need of a run's data and of each other, refused before anything is trained.

Enter: names, their choices, and counts of the training split. It reads no study and knows no tensor.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctclip.errors import ConfigError
from ctclip.objectives.parameters import AnatomyParameters, Methods, ObjectiveName
from ctclip.training.feature_queue import queue_length
from ctclip.training.momentum import momentum_warning

WITHIN, STUDIES, MOMENTUM = "the contrast within anatomies", "the contrast of studies", "the momentum term"


@dataclass(frozen=True)
class UnitCounts:
    """Studies of the training split by their normality in one text unit or anatomy."""

    normal: int
    abnormal: int
    unknown: int = 0


@dataclass(frozen=True)
class RunFacts:
    """What objectives ask of a run.

    Attributes:
        num_studies: Of the training split.
        steps: Optimizer steps of the run.
        units: Counts by text unit (or anatomy) that is trained on.
        has_masks: Every training study has the label map of anatomies.
        num_views: Views of each study that the loader gives.
    """

    num_studies: int
    steps: int
    units: Mapping[str, UnitCounts]
    has_masks: bool
    num_views: int


def check_objectives(names: Sequence[ObjectiveName], methods: Methods, *, allow_double: bool = False) -> None:
    """Refuse objectives that count a term twice.

    Args:
        names: Objectives whose losses are summed.
        methods: Their choices.
        allow_double: Let it be.

    Raises:
        ConfigError: None at all, one twice, or two that share a term; it names the term and the way out.
    """
    if not names:
        raise ConfigError("no objective; name at least one of clip, offclip, mococlip, fvlm, cagcl")
    owners: dict[str, str] = {}
    for name in names:
        for term in terms(name, methods):
            if term in owners and not allow_double:
                raise ConfigError(
                    f"objectives {owners[term]!r} and {name!r} both have {term} and would count it twice; drop one, "
                    f"{_alternative(name, owners[term])}or allow it"
                )
            owners[term] = name


def terms(name: ObjectiveName, methods: Methods) -> tuple[str, ...]:
    """The terms of an objective that another one may have too."""
    if name == "clip":
        return (STUDIES,)
    if name == "offclip":
        return (WITHIN if methods.offclip.pair_unit == "anatomy" else STUDIES,)
    if name == "mococlip":
        of_mode = {"itc": (STUDIES,), "moco": (MOMENTUM,), "moco+itc": (STUDIES, MOMENTUM)}
        return of_mode.get(methods.mococlip.mode, (STUDIES, MOMENTUM))
    if name == "cagcl" and methods.cagcl.weight_volume:
        return (WITHIN, STUDIES)
    return (WITHIN,)


def check_run(names: Sequence[ObjectiveName], methods: Methods, run: RunFacts) -> None:
    """Refuse a run that cannot give its objectives what they need, and warn of what they get in vain.

    Raises:
        ConfigError: Masks or a second view are missing, a unit has no pair of normals, or the queue is larger than
            the data.
    """
    if "offclip" in names and methods.offclip.pair_unit == "anatomy":
        _check_masks("offclip", AnatomyParameters(), run)
    if "offclip" in names:
        _check_normals(run)
    if "mococlip" in names and methods.mococlip.mode != "itc":
        _check_momentum(methods, run)
    if "fvlm" in names:
        _check_masks("fvlm", methods.fvlm.anatomy, run)
    if "cagcl" in names:
        _check_masks("cagcl", methods.cagcl.anatomy, run)


def _check_normals(run: RunFacts) -> None:
    for unit, counts in run.units.items():
        if counts.normal < 2:
            raise ConfigError(
                f"objective 'offclip' needs normal studies in every text unit, but {unit!r} has {counts.normal} "
                f"normal, {counts.abnormal} abnormal and {counts.unknown} unknown; leave it out of data.sections, or "
                "train with 'clip'"
            )
        if counts.abnormal < 2:
            warnings.warn(
                f"offclip: {unit!r} has {counts.abnormal} abnormal of {run.num_studies} training studies; where a "
                "batch has none, its loss only attracts",
                stacklevel=3,
            )


def _check_momentum(methods: Methods, run: RunFacts) -> None:
    choice = methods.mococlip.image
    queue_length(choice.queue, run.num_studies)
    if run.num_views < 2:
        raise ConfigError(
            f"objective 'mococlip' compares two views of a study, and the loader gives {run.num_views}; ask for 2, or "
            "take mode='itc'"
        )
    message = momentum_warning(choice.momentum, run.steps)
    if message:
        warnings.warn(f"mococlip: image.{message}", stacklevel=3)


def _check_masks(name: str, anatomy: AnatomyParameters, run: RunFacts) -> None:
    if anatomy.source == "attention":
        warnings.warn(f"{name}: anatomies without masks look wherever their query does; that is not fVLM", stacklevel=3)
    elif not run.has_masks:
        raise ConfigError(
            f"objective {name!r} needs a label map of anatomies for every training study; pack one from a column "
            "label:organs of the table, select studies that have it, or take anatomy.source='attention', which is not "
            "fVLM"
        )


def _alternative(*names: str) -> str:
    return "take mococlip mode='moco', " if "mococlip" in names else ""
