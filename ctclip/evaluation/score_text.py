"""A report of scores as lines for the terminal. Formatting only."""

from typing import Any

COLUMNS = ("auroc", "average_precision", "f1", "f1_balanced", "balanced_accuracy", "mcc")
_TITLES = ("AUROC", "AP", "F1", "F1 balanced", "bal. acc.", "MCC")


def format_report(report: dict[str, Any]) -> str:
    """The table of one report: a row per finding, the mean, and the trivial baseline under each finding's mean."""
    stamp = report["stamp"]
    width = max([len("always positive (macro)"), *(len(name) for name in report["findings"])])
    lines = [_headline(report), ""]
    lines.append(f"{'finding':<{width}}  {'pos':>5} {'neg':>5}  " + "  ".join(f"{title:>20}" for title in _TITLES))
    for name, scores in report["findings"].items():
        counts = f"{scores['num_positive']:>5} {scores['num_negative']:>5}"
        lines.append(f"{name:<{width}}  {counts}  " + "  ".join(f"{_cell(scores[key]):>20}" for key in COLUMNS))
    macro = report["macro"]
    blank = " " * 11
    lines.append(f"{'macro mean':<{width}}  {blank}  " + "  ".join(f"{_cell(macro[key]):>20}" for key in COLUMNS))
    trivial = "  ".join(f"{_number(macro['trivial'][key]):>20}" for key in COLUMNS)
    lines.append(f"{'always positive (macro)':<{width}}  {blank}  {trivial}")
    lines += _normal_lines(report["normal"])
    lines += _part_lines(report)
    lines += [f"undefined: {entry['finding']}: {entry['metric']}: {entry['reason']}" for entry in report["undefined"]]
    if report["missing_prompts"]:
        lines.append(f"no prompts for: {', '.join(report['missing_prompts'])}")
    if stamp["threshold_from"] == "test":
        lines.append("thresholds were chosen on the evaluated studies: F1, balanced accuracy and MCC are optimistic")
    return "\n".join(lines)


def _headline(report: dict[str, Any]) -> str:
    stamp, counts = report["stamp"], report["counts"]
    synthetic = " SYNTHETIC" if stamp.get("synthetic") == "yes" else ""
    known = {key: stamp.get(key, "?") for key in ("cohort", "split", "label_source", "prompts", "aggregate")}
    return (
        f"{known['cohort']} {known['split']}{synthetic}: {counts['studies']} studies of {counts['patients']} patients; "
        f"labels: {known['label_source']}; prompts: {known['prompts']} (mean of {known['aggregate']}); "
        f"thresholds: {stamp['threshold_from']}; {stamp['level']:.0%} intervals from {stamp['num_bootstraps']} "
        "draws of patients"
    )


def _normal_lines(normal: dict[str, Any]) -> list[str]:
    if not normal["num_normal"]:
        return []
    parts = [f"{normal['num_normal']} normal studies"]
    if normal["normal_auc"]:
        parts.append(f"normal AUC {_cell(normal['normal_auc'])}")
    if normal["normal_auc_derived"]:
        parts.append(f"derived from the findings {_cell(normal['normal_auc_derived'])}")
    parts.append(f"with a false finding {_number(normal['fp_rate_normal'])}")
    return ["; ".join(parts)]


def _part_lines(report: dict[str, Any]) -> list[str]:
    """One line for each part that was asked for, and one for each that could not be had."""
    lines = []
    if "retrieval" in report and report["retrieval"]["ks"]:
        part, k = report["retrieval"], str(max(k for k in report["retrieval"]["ks"] if k <= 10))
        names = {"image_to_text": "image to report", "text_to_image": "report to image"}
        ways = (f"{name} {_cell(part[way]['recall'][k])}" for way, name in names.items())
        lines.append(f"recall at {k}: {', '.join(ways)}, at random {_number(part['random'][k])}")
    if "robustness" in report:
        part = report["robustness"]
        spread = f"mean {_number(part['mean'])}, sd {_cell(part['sd'])}, ensemble {_number(part['ensemble'])}"
        lines.append(f"macro AUROC over {len(part['macro_auroc'])} wordings: {spread}")
    if "collapse" in report:
        shown = {kind: part for kind, part in report["collapse"].items() if part is not None}
        states = (f"{kind} {'COLLAPSED' if part['is_collapsed'] else 'no'}" for kind, part in shown.items())
        lines.append(f"collapse: {', '.join(states) or 'too few groups to tell'}")
    if "pointing" in report:
        part = report["pointing"]
        lines.append(f"pointing game: {_cell(part['accuracy'])}, a voxel at random {_number(part['chance'])}")
    return lines + [f"left out: {part}: {reason}" for part, reason in report.get("left_out", {}).items()]


def _cell(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "-"
    flag = "?" if score["is_flagged"] else ""
    return f"{score['value']:.3f} [{score['low']:.3f},{score['high']:.3f}]{flag}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
