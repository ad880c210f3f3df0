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


def _cell(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "-"
    flag = "?" if score["is_flagged"] else ""
    return f"{score['value']:.3f} [{score['low']:.3f},{score['high']:.3f}]{flag}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
