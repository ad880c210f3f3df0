"""The page of an evaluation: every score, plot and stamp of a run's split. Blocks for ctclip.pages.page."""

import json
from pathlib import Path
from typing import Any

from ctclip.evaluation.scoring import scores_path
from ctclip.evaluation.zeroshot import ScoreTable, load_scores
from ctclip.pages import evaluation_plots as plots
from ctclip.pages.page import Block, Code, Facts, Heading, Notice, Picture, Table, Text, Tiles, write_page
from ctclip.pages.plot_axes import readable

METRICS = {
    "auroc": "AUROC", "average_precision": "average precision", "f1": "F1", "f1_weighted": "F1, weighted",
    "f1_balanced": "F1, balanced", "balanced_accuracy": "balanced accuracy", "mcc": "MCC",
}  # fmt: skip
_TILES = ("auroc", "average_precision", "f1_balanced", "balanced_accuracy")
_COLLAPSE = {
    "mean": "mean cosine across groups", "sd": "sd", "p5": "5th percentile", "p95": "95th percentile",
    "share_above_0.9": "share above 0.9", "skewness": "skewness", "kurtosis": "excess kurtosis",
    "gap": "gap: within less across", "cohen_d": "Cohen's d of the gap", "effective_rank": "effective rank",
    "uniformity": "uniformity", "nearest_centroid_accuracy": "nearest-centroid accuracy",
}  # fmt: skip


def evaluation_page_path(run: Path, part: str) -> Path:
    """Where the page of a part (`ctclip.evaluation.scoring.part_name`) lies."""
    return run / f"evaluation_{part}.html"


def write_evaluation_page(run: Path, part: str) -> Path:
    """Write the page of a part that `ctclip evaluate` has scored; its absolute path.

    Raises:
        EvaluationError: The part's score table is not there.
    """
    table = load_scores(scores_path(run, part).with_suffix(".npz"))
    report = json.loads(scores_path(run, part).read_text(encoding="utf-8"))
    title = f"Zero-shot evaluation of {run.resolve().name}, split {part}"
    return write_page(
        evaluation_page_path(run, part),
        title,
        [*_notices(report), *evaluation_blocks(table, report), *config_blocks(run)],
    )


def evaluation_blocks(table: ScoreTable, report: dict[str, Any]) -> list[Block]:
    """All sections of an evaluation, in order; parts that the report lacks are left out."""
    blocks = [*_overview(report), *score_blocks(table, report)]
    for part, section in (("retrieval", _retrieval), ("robustness", _robustness), ("collapse", _collapse),
                          ("pointing", _pointing)):  # fmt: skip
        if part in report:
            blocks += section(report[part])
    return [*blocks, *_limits(report), *_stamps(report)]


def score_blocks(table: ScoreTable, report: dict[str, Any]) -> list[Block]:
    """Scores per finding with their plots."""
    figure, error = plots.reliability_figure(table, logit_scale=report["stamp"]["logit_scale"])
    level = f"{report['stamp']['level']:.0%}"
    return [
        Heading("Scores"),
        score_table(report),
        Picture(plots.auroc_forest(report), f"AUROC of every finding with its {level} interval over patients."),
        Heading("ROC curves"),
        Picture(plots.roc_panels(table, report), "ROC curve of every finding; the number is its AUROC."),
        Heading("Similarities"),
        Picture(
            plots.similarity_panels(table, report),
            "Scores of studies with and without each finding; each histogram sums to 1.",
        ),
        Heading("Reliability"),
        Picture(
            figure,
            "Probabilities (a softmax over the two similarities at the logit scale of the stamp) against what was "
            f"observed, over all findings; expected calibration error {error:.3f}.",
        ),
    ]


def score_table(report: dict[str, Any]) -> Table:
    """A row per finding, the macro mean, and the trivial baseline."""
    rows = [
        [readable(name), f"{scores['num_positive']} / {scores['num_negative']}", _number(scores["threshold"])]
        + [interval_cell(scores[metric]) for metric in METRICS]
        for name, scores in report["findings"].items()
    ]
    macro, trivial = report["macro"], report["macro"]["trivial"]
    rows.append(["macro mean", "", "", *(interval_cell(macro[metric]) for metric in METRICS)])
    rows.append(["always positive (macro mean)", "", "", *(_number(trivial[metric]) for metric in METRICS)])
    return Table(
        ["finding", "present / absent", "threshold", *METRICS.values()],
        rows,
        frozenset({len(rows) - 2, len(rows) - 1}),
        f"Value [{report['stamp']['level']:.0%} interval], from {report['stamp']['num_bootstraps']} bootstrap draws of "
        "patients. F1, balanced is on as many absent as present studies. A question mark flags an interval whose "
        "score was undefined in over a fifth of the draws.",
    )


def interval_text(score: dict[str, Any]) -> str:
    """ "0.812 [0.790, 0.834]", or "undefined"."""
    return interval_cell(score).replace("\n", " ")


def interval_cell(score: dict[str, Any]) -> str:
    """The same for a table, the interval below the value."""
    if score["value"] is None:
        return "undefined"
    flag = " ?" if score.get("is_flagged") else ""
    return f"{score['value']:.3f}\n[{score['low']:.3f}, {score['high']:.3f}]{flag}"


def _notices(report: dict[str, Any]) -> list[Block]:
    stamp, notices = report["stamp"], []
    if stamp.get("synthetic") == "yes":
        notices.append(
            "Every study on this page is synthetic, made by a program; these scores say nothing of patients."
        )
    if stamp["threshold_from"] == "test":
        notices.append("Thresholds were chosen on the studies that are scored: F1, balanced accuracy and MCC flatter.")
    if "rules" in stamp.get("label_source", ""):
        notices.append("Labels were read from the reports by rules, not by a person: scores are against these rules.")
    return [Notice(text) for text in notices]


def _overview(report: dict[str, Any]) -> list[Block]:
    stamp, counts, macro = report["stamp"], report["counts"], report["macro"]
    pairs = [
        ("cohort", stamp.get("cohort", "?")),
        ("split", stamp.get("split", "?")),
        ("studies", f"{counts['studies']} of {counts['patients']} patients"),
        ("findings", str(counts["findings"])),
        ("labels", stamp.get("label_source", "?")),
        ("prompts", f"{stamp.get('prompts', '?')} (mean of {stamp.get('aggregate', '?')})"),
        ("thresholds", stamp["threshold_from"] + _rule(stamp)),
    ]
    tiles = [
        (
            f"{METRICS[metric]}, macro mean",
            _number(macro[metric]["value"]),
            f"{_ends(macro[metric])}; always positive {_number(macro['trivial'][metric])}",
        )
        for metric in _TILES
    ]
    if "retrieval" in report and report["retrieval"]["ks"]:
        k = str(max(k for k in report["retrieval"]["ks"] if k <= 10))
        recall = report["retrieval"]["image_to_text"]["recall"][k]
        note = f"{_ends(recall)}; at random {report['retrieval']['random'][k]:.3f}"
        tiles.append((f"recall at {k}, image to report", _number(recall["value"]), note))
    if "robustness" in report:
        sd = report["robustness"]["sd"]
        tiles.append(("sd of macro AUROC over templates", _number(sd["value"]), f"{_ends(sd)}; lower is more robust"))
    return [Facts(pairs), Tiles(tiles)]


def _retrieval(report: dict[str, Any]) -> list[Block]:
    rows = [
        [
            f"{k}",
            *(interval_text(report[way]["recall"][str(k)]) for way in ("image_to_text", "text_to_image")),
            _number(report["random"][str(k)]),
        ]
        for k in report["ks"]
    ]
    ranks = [f"{report[way]['median_rank']:.1f}" for way in ("image_to_text", "text_to_image")]
    rows.append(["median rank", *ranks, f"{(report['num_studies'] + 1) / 2:.1f}"])
    return [
        Heading("Retrieval"),
        Picture(
            plots.retrieval_figure(report),
            f"How often a study's own partner is among the K nearest of {report['num_studies']}; ties count as a "
            "random order would.",
        ),
        Table(["K", "image to report", "report to image", "at random"], rows),
    ]


def _robustness(report: dict[str, Any]) -> list[Block]:
    text = (
        f"Macro AUROC over {len(report['macro_auroc'])} wordings of every prompt: mean {_number(report['mean'])}, "
        f"sd {interval_text(report['sd'])}, range {_number(report['range'])} "
        f"({_number(report['min'])} to {_number(report['max'])}); all wordings together {_number(report['ensemble'])}. "
        f"Mean sd of one finding: {_number(report['mean_sd_per_finding'])}. Template list version {report['version']}."
    )
    if report["mean"] is None:
        return [Heading("Prompt robustness"), Text("Undefined: no finding has studies of both classes.")]
    return [Heading("Prompt robustness"), Text(text), Picture(plots.template_figure(report), "One dot per template.")]


def _collapse(report: dict[str, Any]) -> list[Block]:
    shown = {kind: part for kind, part in report.items() if part is not None}
    if not shown:
        return []
    rows = [["embeddings", *(str(part["num_embeddings"]) for part in shown.values())]]
    rows += [[title, *(_number(part[key]) for part in shown.values())] for key, title in _COLLAPSE.items()]
    rows += [
        [title, *("yes" if part[key] else "no" for part in shown.values())]
        for key, title in (("is_collapsed", "collapsed"), ("is_bell_shaped", "bell-shaped"))
    ]
    return [
        Heading("Collapse"),
        Picture(
            plots.cosine_figure(report),
            "Cosines between sentences of different anatomies, positive prompts of different findings, and images of "
            "different studies. Collapsed: mean above 0.9 or sd below 0.02.",
        ),
        Table(["", *shown], rows),
    ]


def _pointing(report: dict[str, Any]) -> list[Block]:
    grid = " x ".join(str(size) for size in report["token_grid"])
    return [
        Heading("Pointing game" if report["mask_kind"] == "finding" else "Anatomy pointing"),
        Picture(
            plots.pointing_forest(report),
            f"Share of {report['num_studies']} studies whose highest similarity to a finding's prompts lies in its "
            f"{report['mask_kind']} mask, tolerance {report['tolerance_mm']:g} mm, from {grid} tokens (z, y, x).",
        ),
    ]


def _limits(report: dict[str, Any]) -> list[Block]:
    rows = [[readable(entry["finding"]), entry["metric"], entry["reason"]] for entry in report["undefined"]]
    rows += [[readable(name), "all", "no prompts"] for name in report["missing_prompts"]]
    rows += [[part, "all", reason] for part, reason in report.get("left_out", {}).items()]
    normal = report["normal"]
    texts = [
        f"{title}: {interval_text(normal[key])}"
        for key, title in (
            ("normal_auc", "AUROC of the prompt of normality"),
            ("normal_auc_derived", "AUROC of normality derived from the findings"),
        )
        if normal.get(key)
    ]
    blocks: list[Block] = [Heading("Normal studies")]
    known = f"{normal['num_normal']} normal and {normal['num_abnormal']} abnormal studies."
    share = normal["fp_rate_normal"]
    false = "" if share is None else f" Normal studies with any finding above its threshold: {share:.1%}."
    blocks.append(Text(" ".join([known, *(f"{text}." for text in texts)]) + false))
    if rows:
        blocks += [Heading("Undefined or left out"), Table(["finding or part", "metric", "reason"], rows)]
    return blocks


def _stamps(report: dict[str, Any]) -> list[Block]:
    rows = [[readable(name), str(value)] for name, value in report["stamp"].items()]
    return [Heading("Stamps and configuration"), Table(["stamp", "value"], rows)]


def config_blocks(run: Path) -> list[Block]:
    """What the run was asked to do, and on which machine."""
    files = ((run / "config.json", "Configuration of the run"), (run / "machine.json", "Machine of the training"))
    return [Code(title, path.read_text(encoding="utf-8")) for path, title in files if path.is_file()]


def _rule(stamp: dict[str, Any]) -> str:
    return "" if stamp["threshold_from"] == "argmax" else f" (rule {stamp['threshold_rule']})"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _ends(score: dict[str, Any]) -> str:
    return "no interval" if score["low"] is None else f"[{score['low']:.3f}, {score['high']:.3f}]"
