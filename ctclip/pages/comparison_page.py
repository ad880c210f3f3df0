"""The page of a comparison of two runs: paired differences with intervals, p values and their correction."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ctclip.pages.evaluation_page import METRICS
from ctclip.pages.page import Block, Facts, Heading, Notice, Picture, Table, Text, Tiles, write_page
from ctclip.pages.plot_axes import forest, readable

SHOWN = ("auroc", "average_precision", "f1_balanced")


def write_comparison_page(path: Path, report: dict[str, Any], *, names: tuple[str, str]) -> Path:
    """Write the page; its absolute path.

    Args:
        path: FILE.html.
        report: Of `ctclip.evaluation.compare.compare_scores`.
        names: Of the first and the second run.
    """
    return write_page(path, f"Comparison: {names[0]} less {names[1]}", comparison_blocks(report, names=names))


def comparison_blocks(report: dict[str, Any], *, names: tuple[str, str]) -> list[Block]:
    """Notice, means, then a plot and a table for each of SHOWN."""
    stamp, counts = report["stamp"], report["counts"]
    level, draws = f"{stamp['level']:.0%}", stamp["num_bootstraps"]
    blocks: list[Block] = []
    if "yes" in (stamp["a"].get("synthetic"), stamp["b"].get("synthetic")):
        blocks.append(Notice("Every study compared here is synthetic, made by a program."))
    blocks += [
        Facts(
            [
                ("A", names[0]),
                ("B", names[1]),
                ("studies", f"{counts['studies']} of {counts['patients']} patients"),
                ("labels", stamp["a"].get("label_source", "?")),
                ("prompts", f"{stamp['a'].get('prompts', '?')} and {stamp['b'].get('prompts', '?')}"),
                ("thresholds", stamp["threshold_from"]),
            ]
        ),
        Tiles([_tile(metric, report["macro"][metric]) for metric in SHOWN]),
        Text(
            f"Differences are A - B: above 0, A is better. {level} intervals and two-sided p from {draws} bootstrap "
            "draws of patients, the same for both. p (Holm) is corrected over the findings; p (DeLong) treats studies "
            "as independent and is left out where a patient has several."
        ),
    ]
    for metric in SHOWN:
        title = METRICS[metric]
        caption = f"Difference in {title} of every finding and of the mean, with its {level} interval."
        blocks += [
            Heading(title[0].upper() + title[1:]), Picture(_figure(report, metric), caption), _table(report, metric)
        ]  # fmt: skip
    if "robustness" in report:
        blocks += [Heading("Prompt robustness"), Text(_robustness_text(report["robustness"], level))]
    if report["left_out"]:
        blocks += [Heading("Left out"), Text("Not scored by both: " + ", ".join(map(readable, report["left_out"])))]
    return blocks


def _robustness_text(entry: dict[str, Any], level: str) -> str:
    if "reason" in entry:
        return f"Not compared: {entry['reason']}."
    if entry["difference"] is None:
        return "Undefined: no finding has studies of both classes."
    return (
        f"Standard deviation of the macro AUROC over ten templates: {entry['a']:.4f} and {entry['b']:.4f}, "
        f"difference {entry['difference']:+.4f} ({level} interval [{entry['low']:+.4f}, {entry['high']:+.4f}], "
        f"p {entry['p']:.4f}). Below 0, A depends less on the wording."
    )


def _tile(metric: str, entry: dict[str, Any]) -> tuple[str, str, str]:
    name = f"{METRICS[metric]}, macro mean, A - B"
    if entry["difference"] is None:
        return name, "undefined", "one class only"
    note = f"[{entry['low']:+.3f}, {entry['high']:+.3f}], p = {entry['p']:.4f}"
    return name, f"{entry['difference']:+.3f}", note


def _figure(report: dict[str, Any], metric: str) -> Figure:
    entries = {name: scores[metric] for name, scores in report["findings"].items()}
    rows = [
        (name, {"value": entry["difference"], "low": entry["low"], "high": entry["high"]})
        for name, entry in {**entries, "macro mean": report["macro"][metric]}.items()
    ]
    return forest(rows, x_label=f"{METRICS[metric]}, A - B", reference=0, reference_label="no difference")


def _table(report: dict[str, Any], metric: str) -> Table:
    is_rank = metric == "auroc"
    rows = []
    for name, scores in report["findings"].items():
        row = _row(name, scores[metric])
        if is_rank:
            row.append(_p((scores.get("delong") or {}).get("p_holm")))
        rows.append(row)
    rows.append(_row("macro mean", report["macro"][metric]) + ([""] if is_rank else []))
    header = ["finding", "A", "B", "A - B", "p", "p (Holm)"] + (["p (DeLong, Holm)"] if is_rank else [])
    return Table(header, rows, frozenset({len(rows) - 1}))


def _row(name: str, entry: dict[str, Any]) -> list[str]:
    if entry["difference"] is None:
        return [readable(name), "undefined", "undefined", "undefined", "", ""]
    difference = f"{entry['difference']:+.3f}\n[{entry['low']:+.3f}, {entry['high']:+.3f}]"
    values = (f"{entry['a']:.3f}", f"{entry['b']:.3f}")
    return [readable(name), *values, difference, _p(entry["p"]), _p(entry.get("p_holm"))]


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
