"""From finished cells to the tables of a study: arms, effects, findings, scaling, claims. Numbers for JSON leave.

Only seeds for which both arms of a difference are finished are compared; a grid can be summarised while it runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ctclip.errors import StudyError
from ctclip.evaluation.draws import draw_metrics, mean_over_findings
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.statistics import over_seeds
from ctclip.study.arm import Arm
from ctclip.study.cell_run import read_result, read_tables
from ctclip.study.comparison import CLAIMS, comparisons_of, verdict
from ctclip.study.effects import ArmScores, Effect, correct, detectable_from_pilot, paired_effect
from ctclip.study.grid import StudyConfig, cells_of
from ctclip.study.scaling import fit_power_law

METRICS = ("f1", "auroc", "f1_balanced")
PRIMARY = "f1"  # macro F1, as the literature reports; the study counts by macro AUROC


@dataclass(frozen=True)
class Finished:
    """The finished cells of one arm, by seed in ascending order.

    Attributes:
        seeds: (S,).
        values: metric -> (S, F) by finding.
        draws: metric -> (S, R, F).
        results: (S,) contents of result.json.
        findings: (F,) names.
        positives: (F,) test studies with each finding.
        num_patients, num_studies: Of the test split.
    """

    seeds: tuple[int, ...]
    values: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]
    results: tuple[dict[str, Any], ...]
    findings: tuple[str, ...]
    positives: np.ndarray
    num_patients: int
    num_studies: int

    def macro(self, metric: str, seeds: Sequence[int]) -> ArmScores:
        """The mean over findings at some of the seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        draws = np.stack([mean_over_findings(self.draws[metric][row]) for row in rows])
        return ArmScores(np.nanmean(self.values[metric][rows], axis=1), draws, self.num_patients)

    def finding(self, metric: str, column: int, seeds: Sequence[int]) -> ArmScores:
        rows = [self.seeds.index(seed) for seed in seeds]
        return ArmScores(self.values[metric][rows, column], self.draws[metric][rows, :, column], self.num_patients)


def read_finished(study: StudyConfig, folder: Path) -> dict[str, Finished]:
    """Arms with at least one finished cell, by title.

    Raises:
        StudyError: Cells were scored on different studies or labels.
    """
    options = EvaluateOptions(
        threshold_from=study.threshold_from, threshold_rule=study.threshold_rule, num_bootstraps=study.num_bootstraps
    )
    by_arm: dict[str, list[tuple[int, Any, Any, Any]]] = {}
    reference = None
    for cell in cells_of(study, folder):
        result = read_result(folder, cell)
        if result is None:
            continue
        table, validation = read_tables(folder, cell)
        reference = reference or table
        if table.studies != reference.studies or not np.array_equal(table.labels, reference.labels):
            raise StudyError(f"cell {cell.name} was scored on other studies or labels than the first", path=folder)
        drawn = draw_metrics(table, options=options, validation=validation)
        by_arm.setdefault(cell.arm.title, []).append((cell.seed, result, drawn, table))
    return {title: _finished(sorted(entries, key=lambda entry: entry[0])) for title, entries in by_arm.items()}


def _finished(entries: list[tuple[int, Any, Any, Any]]) -> Finished:
    table = entries[0][3]
    return Finished(
        seeds=tuple(entry[0] for entry in entries),
        values={metric: np.stack([entry[2].values[metric] for entry in entries]) for metric in METRICS},
        draws={metric: np.stack([entry[2].draws[metric] for entry in entries]) for metric in METRICS},
        results=tuple(entry[1] for entry in entries),
        findings=table.findings,
        positives=(table.labels == 1).sum(axis=0),
        num_patients=len(set(table.patients)),
        num_studies=len(table),
    )


def summarise(study: StudyConfig, folder: Path) -> dict[str, Any]:
    """Everything the page and the tables show, fit for JSON (NaN is None).

    Raises:
        StudyError: No cell of the reference arm is finished.
    """
    arms = read_finished(study, folder)
    reference = study.arms[0].title
    if reference not in arms:
        raise StudyError(
            f"no cell of arm {reference!r} is finished yet; run `ctclip study {study.kind}` again", path=folder
        )
    auroc = float(np.nanmean(arms[reference].values["auroc"]))
    is_strong = auroc >= study.min_auroc
    effects = {metric: _effects(study, arms, metric) for metric in METRICS}
    first = arms[reference]
    return _without_nan(
        {
            "kind": study.kind,
            "cohort": list(study.cohort_summary),
            "is_synthetic": study.base.cohort.startswith("phantom:"),
            "seeds": list(study.seeds),
            "steps": study.base.steps,
            "taken_from": _taken_from(arms),
            "sections": list(study.base.data.sections),
            "test": {"studies": first.num_studies, "patients": first.num_patients},
            "reference": {"arm": reference, "macro_auroc": auroc, "asked": study.min_auroc},
            "is_strong_enough": is_strong,
            "arms": {arm.title: _arm_row(arms[arm.title], arm) for arm in study.arms if arm.title in arms},
            "effects": {
                metric: [{**asdict(item), "name": item.name, **asdict(effect)} for item, effect in found]
                for metric, found in effects.items()
            },
            "findings": _finding_rows(study, arms),
            "scaling": _scaling(study, arms),
            "claims": _claims(study, dict(_by_pair(effects[PRIMARY])), is_strong),
            "detectable_from_pilot": _pilot(first, len(study.seeds)),
        }
    )


def _taken_from(arms: Mapping[str, Finished]) -> dict[str, int]:
    """Cells that were copied from another study, by its kind."""
    kinds = [result["taken_from"] for arm in arms.values() for result in arm.results if "taken_from" in result]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _arm_row(arm: Finished, config: Arm) -> dict[str, Any]:
    exposures = [result["exposure"] for result in arm.results]
    return {
        "strategy": config.strategy,
        "fraction": config.fraction,
        "schedule": config.schedule,
        "objective": " + ".join(config.objective),
        "seeds": list(arm.seeds),
        "scores": {metric: asdict(over_seeds(np.nanmean(arm.values[metric], axis=1).tolist())) for metric in METRICS},
        "by_seed": {metric: np.nanmean(arm.values[metric], axis=1).tolist() for metric in METRICS},
        "exposure": {
            name: float(np.mean([exposure[name] for exposure in exposures]))
            for name in (
                "steps", "num_draws", "unique_studies", "mean_repeats", "max_repeats", "normal_share",
                "normal_share_sd",
            )
        },
        "asked_normal_share": config.normal_share,
        "finding_draws": {
            name: float(np.mean([exposure["finding_draws"].get(name, 0) for exposure in exposures]))
            for name in arm.findings
        },
        "seconds": float(np.mean([result["seconds"] for result in arm.results])),
    }  # fmt: skip


def _effects(study: StudyConfig, arms: Mapping[str, Finished], metric: str) -> list[tuple[Any, Effect]]:
    pairs = []
    for item in comparisons_of(study.kind, study.arms):
        if item.a in arms and item.b in arms:
            seeds = sorted(set(arms[item.a].seeds) & set(arms[item.b].seeds))
            if seeds:
                pairs.append(
                    (item, paired_effect(arms[item.a].macro(metric, seeds), arms[item.b].macro(metric, seeds)))
                )
    corrected = correct([effect for _, effect in pairs])
    return [(item, effect) for (item, _), effect in zip(pairs, corrected, strict=True)]


def _by_pair(effects: Sequence[tuple[Any, Effect]]) -> list[tuple[tuple[str, str], Effect]]:
    return [((item.a, item.b), effect) for item, effect in effects]


def _finding_rows(study: StudyConfig, arms: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """AUROC differences by finding for each comparison with the reference, beside the finding's prevalence."""
    reference = arms[study.arms[0].title]
    prevalence = reference.positives / reference.num_studies
    rows = []
    for item in comparisons_of(study.kind, study.arms):
        if item.a not in arms or item.b not in arms:
            continue
        a, b = arms[item.a], arms[item.b]
        seeds = sorted(set(a.seeds) & set(b.seeds))
        if not seeds:
            continue
        effects = correct(
            [
                paired_effect(a.finding("auroc", column, seeds), b.finding("auroc", column, seeds))
                for column in range(len(a.findings))
            ]
        )
        values = [effect.value for effect in effects]
        is_varied = len(values) > 2 and np.ptp(prevalence) > 0 and np.ptp(values) > 0
        correlation = stats.spearmanr(prevalence, values) if is_varied else None
        rows.append(
            {
                "name": item.name,
                "findings": {
                    name: {"prevalence": float(share), "difference": effect.value, "p_holm": effect.p_holm}
                    for name, share, effect in zip(a.findings, prevalence, effects, strict=True)
                },
                "spearman_with_prevalence": float(correlation.statistic) if correlation else math.nan,  # pyright: ignore[reportAttributeAccessIssue]
                "spearman_p": float(correlation.pvalue) if correlation else math.nan,  # pyright: ignore[reportAttributeAccessIssue]
            }
        )
    return rows


def _scaling(study: StudyConfig, arms: Mapping[str, Finished]) -> dict[str, Any] | None:
    chosen = {arm.fraction: arms[arm.title] for arm in study.arms if arm.title in arms}
    if study.kind != "data-scaling" or len(chosen) < 3:
        return None
    seeds = sorted(set.intersection(*(set(arm.seeds) for arm in chosen.values())))
    if not seeds:
        return None
    return {
        metric: asdict(fit_power_law({fraction: arm.macro(metric, seeds) for fraction, arm in chosen.items()}))
        for metric in METRICS
    }


def _claims(study: StudyConfig, effects: dict[tuple[str, str], Effect], is_strong: bool) -> list[dict[str, Any]]:
    is_merlin = study.base.cohort.startswith("merlin:")
    return [
        {
            "claim": claim.text,
            "verdict": verdict(claim, effects.get((claim.a, claim.b)), is_strong_enough=is_strong, is_merlin=is_merlin),
        }
        for claim in CLAIMS[study.kind]
    ]


def _pilot(reference: Finished, num_seeds: int) -> dict[str, float]:
    return {
        metric: detectable_from_pilot(reference.macro(metric, reference.seeds), num_seeds=num_seeds)
        for metric in METRICS
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return value
