"""From what a user asks to a study that can be run: what cannot be filled is refused here, before anything is trained.

All arms get the same sections, the same number of steps and whole epochs of them, so that a twin has exactly its arm's
draws at the end.
"""

import math
from dataclasses import replace
from pathlib import Path

from ctclip.cohorts.cohort import Cohort
from ctclip.data import TrainingData, open_training_data
from ctclip.errors import StudyError
from ctclip.study.arm import Arm, configure
from ctclip.study.grid import Cell, StudyConfig, cells_of
from ctload.errors import CtloadError


def plan_study(study: StudyConfig, cohort: Cohort, folder: Path) -> StudyConfig:
    """The study with sections that every arm can fill, steps in whole epochs, and the cohort's summary.

    Args:
        study: As asked: base.steps is rounded up to whole epochs of the reference arm.
        cohort: All its splits.
        folder: Of the study.

    Raises:
        StudyError: A ratio that no section can fill, a fraction that leaves a finding without positives, a finding
            that the cohort does not have; it names the arm.
    """
    unknown = [name for name in study.findings if name not in cohort.findings]
    if unknown:
        raise StudyError(f"the cohort has no label column {unknown[0]!r}; it has {', '.join(cohort.findings)}")
    base = _nested(study).base
    if base.data.schedule != "full":
        base = replace(base, data=replace(base.data, sections=_common_sections(_nested(study), cohort)))
    base = replace(base, data=replace(base.data, small_section="error"))
    length = _epoch_length(_open(study.arms[0], replace(study, base=base), cohort, study.seeds[0]))
    epochs = max(1, math.ceil(base.steps / length))
    base = replace(base, steps=epochs * length, data=replace(base.data, twin_epochs=epochs))
    planned = replace(study, base=base, cohort_summary=tuple(cohort.summary().splitlines()))
    for cell in cells_of(planned, folder):
        _check_cell(cell, cohort)
    return planned


def _nested(study: StudyConfig) -> StudyConfig:
    """Every arm names the shares of all arms, so that each lies in the next larger one."""
    shares = tuple(sorted({arm.fraction for arm in study.arms} - {1.0})) or study.base.data.fractions
    return replace(study, base=replace(study.base, data=replace(study.base.data, fractions=shares)))


def _common_sections(study: StudyConfig, cohort: Cohort) -> tuple[str, ...]:
    """Sections of the base that every arm can fill with every seed's subset."""
    common = list(study.base.data.sections)
    for arm in study.arms:
        if arm.schedule == "full":
            continue
        left_out: dict[str, str] = {}
        for seed in study.seeds if arm.fraction < 1 else study.seeds[:1]:  # a share is drawn by its seed
            left_out |= _open(arm, study, cohort, seed).left_out
        common = [section for section in common if section not in left_out]
        if not common:
            reasons = "; ".join(f"{section}: {reason}" for section, reason in left_out.items())
            raise StudyError(
                f"arm {arm.title!r} leaves no section that all arms can fill ({reasons}); take a smaller batch, other "
                "ratios, or data.small_stratum=repeat"
            )
    return tuple(common)


def _open(arm: Arm, study: StudyConfig, cohort: Cohort, seed: int) -> TrainingData:
    config = replace(configure(arm, study.base), seed=seed)
    try:
        return open_training_data(config, cohort)
    except CtloadError as error:
        raise StudyError(
            f"arm {arm.title!r}, seed {seed}, cannot be run: {error.message}", study=error.study, path=error.path
        ) from error


def _epoch_length(data: TrainingData) -> int:
    return data.sampler.bind(data.studies).num_batches


def _check_cell(cell: Cell, cohort: Cohort) -> None:
    try:
        data = open_training_data(cell.config, cohort)
        data.sampler.bind(data.studies)
    except CtloadError as error:
        raise StudyError(
            f"cell {cell.name} cannot be run: {error.message}", study=error.study, path=error.path
        ) from error
