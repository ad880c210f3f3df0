"""What `benchmarks.methods` measures of one finished run: numbers on the test split, and their draws of patients.

Draws of two runs on the same phantoms are paired: the same patients count in draw r of both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.embed import TextEmbedder, embed_split
from ctclip.evaluation.collapse import collapse_report
from ctclip.evaluation.draws import draw_auroc, mean_over_findings
from ctclip.evaluation.metrics import RANK_METRICS
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.robustness import macro_by_template
from ctclip.evaluation.scoring import finding_images
from ctclip.evaluation.statistics import draw_counts
from ctclip.evaluation.zeroshot import ScoreTable, score_cohort
from ctclip.method_rows import anatomies_of
from ctclip.reports.sections import clean_text
from ctclip.texts.anatomy_texts import report_anatomy_texts
from ctclip.texts.prompts import default_prompts

MAX_TEXTS = 64  # distinct validation texts of an anatomy, for the collapse metric
OPTIONS = EvaluateOptions(num_bootstraps=1000)
Scores = dict[str, float]
Draws = dict[str, np.ndarray]


def score_run(config: TrainConfig, cohort: Cohort) -> tuple[Scores, Draws]:
    """Every metric of a finished run on the test split, and of those that patients carry (R,) under each draw."""
    embed_texts = TextEmbedder(config.out, device="cpu")
    found = embed_split(config.out, cohort=cohort, store=config.store, split="test", device="cpu", is_quiet=True)
    test = cohort.split("test")
    apart = finding_images(found, test.findings, config)
    prompts = default_prompts(test.findings)
    table = score_cohort(found.image, found.study, cohort=test, prompts=prompts, embed_texts=embed_texts, apart=apart)
    report = report_scores(table, options=EvaluateOptions(num_bootstraps=20))
    normal = report["normal"]
    scores: dict[str, Any] = {
        "macro_auroc": report["macro"]["auroc"]["value"],
        "normal_auc": normal["normal_auc"]["value"],
        "normal_auc_derived": normal["normal_auc_derived"]["value"],
        "fp_rate_normal": normal["fp_rate_normal"],
    }
    draws = {
        "macro_auroc": mean_over_findings(draw_auroc(table, options=OPTIONS)[1]),
        "normal_auc": _normal_draws(table),
    }
    if found.anatomy is not None:
        templates = macro_by_template(
            found.image, found.study, cohort=test, embed_texts=embed_texts, options=OPTIONS, apart=apart
        )
        scores["template_sd"] = templates.macro[:-1].std(ddof=1)
        draws["template_sd"] = templates.draws[:, :-1].std(axis=1, ddof=1)
        scores |= text_collapse(config, cohort.split("val"), embed_texts)
    return {name: float("nan") if value is None else float(value) for name, value in scores.items()}, draws


def text_collapse(config: TrainConfig, cohort: Cohort, embed_texts: TextEmbedder) -> dict[str, Any]:
    """Standard deviation, mean, gap and effective rank of the cosines between texts of different anatomies."""
    anatomies = anatomies_of(config)
    texts: dict[str, dict[str, None]] = {anatomy.name: {} for anatomy in anatomies}
    for report in cohort.reports:
        for anatomy, text in zip(anatomies, report_anatomy_texts(report, anatomies), strict=True):
            texts[anatomy.name][clean_text(" ".join(text.sentences))] = None
    chosen = [(name, text) for name, found in texts.items() for text in list(found)[:MAX_TEXTS]]
    report = collapse_report(embed_texts([text for _, text in chosen]), [name for name, _ in chosen])
    names = {"text_sd": "sd", "text_mean": "mean", "text_gap": "gap", "text_rank": "effective_rank"}
    return {name: report[key] for name, key in names.items()} | {"text_is_bell_shaped": report["is_bell_shaped"]}


def _normal_draws(table: ScoreTable) -> np.ndarray:
    """(R,) AUROC of the prompts of "no finding"."""
    known = table.is_normal >= 0
    patients = [patient for patient, take in zip(table.patients, known, strict=True) if take]
    blocks = draw_counts(patients, num_draws=OPTIONS.num_bootstraps, seed=OPTIONS.seed)
    auroc = RANK_METRICS["auroc"]
    return np.concatenate([auroc(table.is_normal[known], table.normal_scores[known], weights) for weights in blocks])


def write_draws(path: Path, draws: Mapping[str, np.ndarray]) -> None:
    """Write draws of metrics, without pickle."""
    arrays: dict[str, Any] = {name: values.astype(np.float32) for name, values in draws.items()}
    np.savez_compressed(path, **arrays)


def seed_interval(method: Path, control: Path, metric: str) -> str:
    """Paired 95 % bootstrap interval over patients of method - control, "low:high"; "" for what has no draws.

    Args:
        method: draws.npz of one run.
        control: That of the other.
        metric: Name of a score.
    """
    if not (method.exists() and control.exists()):
        return ""
    with np.load(method, allow_pickle=False) as ours, np.load(control, allow_pickle=False) as theirs:
        if metric not in ours.files or metric not in theirs.files:
            return ""
        low, high = np.nanquantile(ours[metric].astype(np.float64) - theirs[metric], [0.025, 0.975])
    return f"{low:.4f}:{high:.4f}"
