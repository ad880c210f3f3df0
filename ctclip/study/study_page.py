"""The page of a study: one self-contained HTML file with its verdicts, effects, arms and how they were made."""

from pathlib import Path
from typing import Any

from ctclip.config_json import to_json
from ctclip.evaluation.zeroshot import ScoreTable
from ctclip.pages.page import Block, Code, Facts, Heading, Notice, Picture, Table, Text, Tiles, write_page
from ctclip.study.cell_run import read_result, read_tables
from ctclip.study.grid import StudyConfig, cells_of
from ctclip.study.plots import effect_forest, finding_heat_map, scaling_curve, seed_plot, similarity_histograms
from ctclip.study.summary import PRIMARY

TITLES = {"f1": "macro F1", "auroc": "macro AUROC", "f1_balanced": "macro F1, balanced protocol"}
PHANTOM_STAMP = (
    "phantom: every study here is synthetic. The verdicts say what this instrument found on phantoms and nothing about "
    "patients; no claim about patients is reproduced or refuted by them."
)


def write_study_page(study: StudyConfig, folder: Path, summary: dict[str, Any]) -> Path:
    """Write FOLDER/study.html; its absolute path."""
    return write_page(folder / "study.html", f"Study: {study.kind}", study_blocks(study, folder, summary))


def study_blocks(study: StudyConfig, folder: Path, summary: dict[str, Any]) -> list[Block]:
    """All of the page; score tables and machines are read from the finished cells."""
    blocks: list[Block] = []
    if summary["is_synthetic"]:
        blocks.append(Notice(PHANTOM_STAMP))
    if not summary["is_strong_enough"]:
        reference = summary["reference"]
        blocks.append(
            Notice(
                f"instrument too weak: arm {reference['arm']} reached a macro AUROC of {reference['macro_auroc']:.3f}, "
                f"and {reference['asked']:.2f} is asked; no verdict is given."
            )
        )
    blocks += [*_opening(study, summary), *_verdicts(summary), *_effects(summary), *_arms(summary)]
    blocks += [*_findings(summary), *_exposure(summary)]
    tables = _first_tables(study, folder)
    blocks += [
        Heading("Similarities"),
        Picture(
            similarity_histograms(tables),
            "Zero-shot scores (similarity to the positive prompts less that to the negative) of studies with and "
            "without each finding, pooled; the first seed of each arm.",
        ),
        Heading("Configuration"),
        Facts([("machine", _machine(study, folder)), ("commits", _commits(study, folder))]),
        Code("What all cells share", to_json(study.base)),
    ]
    return blocks


def _opening(study: StudyConfig, summary: dict[str, Any]) -> list[Block]:
    pilot = summary["detectable_from_pilot"][PRIMARY]
    num_cells = sum(len(arm["seeds"]) for arm in summary["arms"].values())
    taken = [f"{number} of them run in a {kind} study" for kind, number in summary["taken_from"].items()]
    return [
        Facts(
            [
                ("cohort", " / ".join(line.strip() for line in summary["cohort"])),
                ("cells", ", ".join([f"{num_cells} of {len(study.arms) * len(study.seeds)} finished", *taken])),
                (
                    "steps",
                    f"{summary['steps']}, equal in every cell, as are learning rates and text units",
                ),
                ("seeds", f"{len(summary['seeds'])}, shared by all arms"),
                ("test split", f"{summary['test']['studies']} studies of {summary['test']['patients']} patients"),
                ("thresholds", f"{study.threshold_from} ({study.threshold_rule})"),
                ("sections", ", ".join(summary["sections"])),
            ]
        ),
        Tiles(
            [
                (
                    f"macro AUROC, {summary['reference']['arm']}",
                    f"{summary['reference']['macro_auroc']:.3f}",
                    f"{summary['reference']['asked']:.2f} asked for a verdict",
                ),
                (
                    "detectable difference in macro F1",
                    "unknown" if pilot is None else f"{pilot:.3f}",
                    "80 % power at 5 %, unpaired seeds of the first arm (an upper bound)",
                ),
            ]
        ),
    ]


def _verdicts(summary: dict[str, Any]) -> list[Block]:
    if not summary["claims"]:
        return []
    stamp = " (phantom)" if summary["is_synthetic"] else ""
    rows = [[claim["claim"], claim["verdict"] + stamp] for claim in summary["claims"]]
    return [
        Heading("Claims of the paper"),
        Table(
            ("claim (macro F1)", "here"),
            rows,
            caption="A verdict needs a Holm-corrected p below 0.05.",
        ),
    ]


def _effects(summary: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = [
        Heading("Differences"),
        Text(
            "Paired by seed, A - B. Intervals and p by t with the variance over seeds and that of the patients; the "
            "second interval is a bootstrap over both. p (swaps) is exact over swapping the arms of each seed and "
            "cannot be below 2 / 2^seeds. Holm over all rows of a table. Detectable: the smallest true difference "
            "found with 80 % power."
        ),
    ]
    for metric, title in TITLES.items():
        effects = [effect for effect in summary["effects"][metric] if effect["low"] is not None]
        if not summary["effects"][metric]:
            continue
        if effects:
            blocks.append(Picture(effect_forest(effects, x_label=f"difference in {title}"), f"Differences in {title}."))
        rows = [_effect_row(effect) for effect in summary["effects"][metric]]
        header = ("A - B", "isolates", title, "95 %", "bootstrap", "p", "p (swaps)", "p (Holm)", "detectable")
        blocks.append(Table(header, rows))
    return blocks


def _effect_row(effect: dict[str, Any]) -> list[str]:
    return [
        effect["name"],
        effect["meaning"],
        _signed(effect["value"]),
        _between(effect["low"], effect["high"]),
        _between(effect["boot_low"], effect["boot_high"]),
        *(_number(effect[name], 4) for name in ("p", "p_flips", "p_holm")),
        _number(effect["detectable"], 3),
    ]


def _arms(summary: dict[str, Any]) -> list[Block]:
    rows = []
    for title, arm in summary["arms"].items():
        cells = [title, str(len(arm["seeds"]))]
        for metric in TITLES:
            score = arm["scores"][metric]
            interval = (
                "" if score["low"] is None else f"\n[{score['low']:.3f}, {score['high']:.3f}], sd {score['sd']:.3f}"
            )
            cells.append(f"{score['mean']:.3f}{interval}")
        rows.append(cells)
    blocks: list[Block] = [Heading("Arms"), Table(("arm", "seeds", *TITLES.values()), rows)]
    blocks.append(Picture(seed_plot(summary, PRIMARY, y_label="macro F1"), "Every seed; lines join one seed's arms."))
    if summary["scaling"]:
        law = summary["scaling"][PRIMARY]
        blocks += [
            Heading("Scaling"),
            Picture(
                scaling_curve(summary, PRIMARY, y_label="macro F1"),
                f"Error goes with share^-b, b = {law['b']:+.3f} [{law['b_low']:+.3f}, {law['b_high']:+.3f}] "
                f"(above 0 where more data helps); "
                f"largest distance of an arm's mean from the curve {law['residual']:.3f}.",
            ),
        ]
    return blocks


def _findings(summary: dict[str, Any]) -> list[Block]:
    rows = summary["findings"]
    if not rows:
        return []
    table = [[row["name"], _signed(row["spearman_with_prevalence"]), _number(row["spearman_p"], 3)] for row in rows]
    return [
        Heading("Findings"),
        Picture(
            finding_heat_map(rows),
            "AUROC difference by finding, rare ones left; a ring where p (Holm over the findings) is below 0.05.",
        ),
        Table(("A - B", "Spearman of difference and prevalence", "p"), table),
    ]


def _exposure(summary: dict[str, Any]) -> list[Block]:
    rows = []
    for title, arm in summary["arms"].items():
        seen, asked = arm["exposure"], arm["asked_normal_share"]
        findings = sum(arm["finding_draws"].values()) / max(seen["num_draws"], 1)
        rows.append(
            [
                title,
                f"{seen['steps']:.0f}",
                f"{seen['unique_studies']:.0f}",
                f"{seen['mean_repeats']:.1f} (at most {seen['max_repeats']:.0f})",
                "" if asked is None else f"{asked:.0%}",
                f"{seen['normal_share']:.3f}\nsd over batches {seen['normal_share_sd']:.3f}",
                f"{findings:.2f}",
            ]
        )
    header = (
        "arm",
        "steps",
        "different studies",
        "draws of a study",
        "asked normal",
        "realised normal",
        "findings a draw",
    )
    return [
        Heading("What could not be made equal"),
        Text("Counted from the draws of every step, normality being that of the batch's text unit; means over seeds."),
        Table(header, rows),
    ]


def _first_tables(study: StudyConfig, folder: Path) -> dict[str, ScoreTable]:
    tables: dict[str, ScoreTable] = {}
    for cell in cells_of(study, folder):
        if cell.arm.title not in tables and read_result(folder, cell) is not None:
            tables[cell.arm.title] = read_tables(folder, cell)[0]
    return tables


def _machine(study: StudyConfig, folder: Path) -> str:
    """Distinct machines of the finished cells."""
    found = {}
    for cell in cells_of(study, folder):
        result = read_result(folder, cell)
        if result is not None:
            facts = result["machine"]
            packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
            found[f"{facts['system']}, {facts['device']}, {facts['threads']} threads; {packages}"] = None
    return " / ".join(found)


def _commits(study: StudyConfig, folder: Path) -> str:
    """Commits of the finished cells, with their number."""
    results = [read_result(folder, cell) for cell in cells_of(study, folder)]
    found = [result["commit"] for result in results if result is not None]
    return ", ".join(f"{name} ({found.count(name)} cells)" for name in dict.fromkeys(found))


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"
