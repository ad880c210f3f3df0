"""What a run will see, counted from its draws alone: no voxel is read and nothing is trained.

Arms with equal steps differ in which studies they see how often. That cannot be made equal, so it is recorded.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctclip.data import TrainingData
from ctclip.texts.text_units import ABNORMAL
from ctload.sampling.bound import BoundSampler


@dataclass(frozen=True)
class Exposure:
    """Draws of a whole run.

    Attributes:
        steps: Optimizer steps.
        num_draws: Studies drawn, repeats counted.
        unique_studies: Different ones among them.
        mean_repeats, max_repeats: Draws per study that was drawn at all.
        normal_share: Realised share of normal studies in the batches' text units, over all steps.
        normal_share_sd: Its standard deviation from batch to batch.
        unit_steps: Steps of each text unit.
        finding_draws: Draws of studies with each finding.
    """

    steps: int
    num_draws: int
    unique_studies: int
    mean_repeats: float
    max_repeats: int
    normal_share: float
    normal_share_sd: float
    unit_steps: dict[str, int]
    finding_draws: dict[str, int]


def count_exposure(data: TrainingData, *, steps: int) -> Exposure:
    """Draw every batch of a run and count.

    Args:
        data: Of the run, its sampler not yet bound.
        steps: Optimizer steps.
    """
    bound = data.sampler.bind(data.studies)
    rows, units = _draw_all(bound, steps)
    counts = np.bincount(rows.ravel(), minlength=len(data.studies))
    shares = _normal_shares(data, rows, units)
    names, steps_of = np.unique(np.array(units), return_counts=True)
    drawn = counts > 0
    return Exposure(
        steps=steps,
        num_draws=int(counts.sum()),
        unique_studies=int(drawn.sum()),
        mean_repeats=float(counts[drawn].mean()),
        max_repeats=int(counts.max()),
        normal_share=float(np.nanmean(shares)),
        normal_share_sd=float(np.nanstd(shares)),
        unit_steps={str(name): int(number) for name, number in zip(names, steps_of, strict=True)},
        finding_draws=_finding_draws(data, counts),
    )


def _draw_all(bound: BoundSampler, steps: int) -> tuple[np.ndarray, list[str]]:
    """(steps, B) int64 rows and the text unit of each step."""
    rows, units = [], []
    for number in range(steps):
        drawn = bound.draw(*divmod(number, bound.num_batches))
        rows.append(drawn.rows)
        units.append(drawn.unit)
    return np.stack(rows), units


def _normal_shares(data: TrainingData, rows: np.ndarray, units: list[str]) -> np.ndarray:
    """(steps,) share of normal studies of each batch in its own unit; NaN where normality is not known."""
    shares = np.full(len(rows), np.nan)
    for unit in set(units):
        name = f"{ABNORMAL}:{unit}"
        if name not in data.studies.table.column_names:
            continue
        normality: Any = data.studies.table[name].to_numpy()
        of_unit = np.array([index for index, drawn in enumerate(units) if drawn == unit])
        shares[of_unit] = (normality[rows[of_unit]] == 0).mean(axis=1)
    return shares


def _finding_draws(data: TrainingData, counts: np.ndarray) -> dict[str, int]:
    cohort = data.cohort
    if not cohort.findings:
        return {}
    row_of = {study: row for row, study in enumerate(cohort.studies)}
    labels = cohort.labels()[[row_of[study] for study in data.studies.ids]]  # (N, F)
    return {name: int(counts[labels[:, k] == 1].sum()) for k, name in enumerate(cohort.findings)}
