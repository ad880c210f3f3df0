"""The verb `ctclip reports`: shows what sampler and labels will believe of the reports in a file."""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctclip.errors import ReportError
from ctclip.evaluation.metrics import confusion, f1
from ctclip.findings import CT_RATE_FINDINGS, MERLIN_FINDINGS
from ctclip.reports.anatomy import route_report
from ctclip.reports.findings import find_mentions, label_reports
from ctclip.reports.normality import MIN_COVERAGE, coverage, report_normality, section_normality
from ctclip.reports.reading import ReportTexts, read_reports
from ctclip.reports.sections import split_sections

FINDING_SETS = {"merlin": MERLIN_FINDINGS, "ct-rate": CT_RATE_FINDINGS}
_NORMALITY = {1: "abnormal", 0: "normal", -1: "unknown"}


def add_reports_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ctclip reports`."""
    parser.add_argument("file", type=Path, metavar="FILE", help=".txt (one report), .jsonl, .csv or .parquet")
    parser.add_argument("--column", help="column that holds the text (default: report, report_text, text or findings)")
    parser.add_argument("--findings", choices=[*FINDING_SETS, "none"], help="findings to look for (default: those "
                        "of the table's label columns, else merlin)")  # fmt: skip
    parser.add_argument("--study", help="show the report of this study")
    parser.add_argument("--limit", type=int, default=3, help="how many reports to show (default: 3; 0: none)")
    parser.add_argument("--out", type=Path, help="write what was read, a row a study, to this .csv file")
    parser.add_argument("--closed", action="store_true", help="a finding that is not mentioned counts as absent")


def run_reports(args: argparse.Namespace) -> int:
    """Run the verb with parsed arguments; prints to stdout.

    Raises:
        ReportError, CohortError: A file that cannot be read as reports.
    """
    reports = read_reports(args.file, column=args.column)
    findings = _choose_findings(args.findings, reports)
    for row in _shown(reports, args.study, args.limit, args.file):
        print(describe_report(reports.names[row], reports.texts[row], findings) + "\n")
    print(summarize(reports))
    if reports.findings:
        print("\n" + score_against_labels(reports))
    if args.out is not None:
        _write(args.out, reports, findings, closed=args.closed)
        print(f"\nwrote {len(reports.texts)} rows to {args.out}")
    return 0


def describe_report(name: str, text: str, findings: Sequence[str]) -> str:
    """One report as the rules read it: sections, each sentence with its verdict and anatomies, and the findings."""
    normality = report_normality(text)
    lines = [f"== {name}: {_NORMALITY[normality.label]}, rules decided {normality.coverage:.0%} of the sentences"]
    sections = {section: part for section, part in split_sections(text).items() if part}
    if sections:
        named = (f"{section} {_NORMALITY[section_normality(part)]}" for section, part in sections.items())
        lines.append("sections: " + ", ".join(named))
    lines.append("sentences:")
    for (sentence, anatomies), (_, verdict) in zip(route_report(text), normality.verdicts, strict=True):
        where = "/".join(anatomies) or "-"
        why = f"{verdict.rule}{': ' + ', '.join(verdict.cues) if verdict.cues else ''}"
        doubt = "" if verdict.is_decided else "?"
        lines.append(f"  {verdict.label + doubt:<10} [{where}] {sentence.text}   ({why})")
    mentions = find_mentions(text, findings)
    for finding in findings:
        own = [mention for mention in mentions if mention.finding == finding]
        if own:
            said = "present" if any(mention.is_affirmed for mention in own) else "absent"
            lines.append(f"finding {finding}: {said} ({'; '.join(dict.fromkeys(mention.clause for mention in own))})")
    return "\n".join(lines)


def summarize(reports: ReportTexts) -> str:
    """Counts over all reports: normality, coverage, sections found."""
    normality = [report_normality(text) for text in reports.texts]
    labels = [report.label for report in normality]
    share = coverage(normality)
    lines = [
        f"{len(reports.texts)} reports" + (f", {reports.num_blank} rows without text" if reports.num_blank else "")
    ]
    lines.append(", ".join(f"{_NORMALITY[value]} {labels.count(value)}" for value in (0, 1, -1)))
    lines.append(f"coverage: rules decided {share:.1%} of the sentences")
    if not share >= MIN_COVERAGE:
        lines.append(
            f"that is below {MIN_COVERAGE:.0%}: quotas of normal and abnormal studies will be refused; give labels or "
            "'abnormal:<unit>' columns in the table"
        )
    sections: dict[str, list[int]] = {}
    for text in reports.texts:
        for section, part in split_sections(text).items():
            sections.setdefault(section, []).extend([section_normality(part)] if part else [])
    for section, found in sections.items():
        if found:
            counts = ", ".join(f"{_NORMALITY[value]} {found.count(value)}" for value in (0, 1, -1))
            lines.append(f"  {section}: in {len(found)} reports, {counts}")
    return "\n".join(lines)


def score_against_labels(reports: ReportTexts) -> str:
    """The rules held against the table's label columns, per finding, and the macro F1. Unknown labels are left out."""
    said = label_reports(reports.texts, reports.findings, closed=True)
    width = max(len(name) for name in reports.findings)
    lines = [f"{'rules against labels':<{width}}  {'pos':>5} {'found':>6} {'false':>6} {'F1':>6}"]
    scores = []
    for column, name in enumerate(reports.findings):
        known = reports.labels[:, column] >= 0
        counts = confusion(reports.labels[known, column], said[known, column] == 1)
        scores.append(float(f1(counts)))
        numbers = f"{counts.tp + counts.fn:>5.0f} {counts.tp:>6.0f} {counts.fp:>6.0f}"
        lines.append(f"{name:<{width}}  {numbers} {'-' if np.isnan(scores[-1]) else f'{scores[-1]:.3f}':>6}")
    defined = [score for score in scores if not np.isnan(score)]
    macro = f"{np.mean(defined):.3f}" if defined else "-"
    lines.append(f"macro F1 {macro} over {len(defined)} findings with both classes")
    return "\n".join(lines)


def _choose_findings(choice: str | None, reports: ReportTexts) -> tuple[str, ...]:
    if choice == "none":
        return ()
    if choice is not None:
        return FINDING_SETS[choice]
    return reports.findings or MERLIN_FINDINGS


def _shown(reports: ReportTexts, study: str | None, limit: int, path: Path) -> list[int]:
    if study is None:
        return list(range(min(max(limit, 0), len(reports.texts))))
    if study not in reports.names:
        raise ReportError(f"no report of this study among {len(reports.names)}", study=study, path=path)
    return [reports.names.index(study)]


def _write(path: Path, reports: ReportTexts, findings: Sequence[str], *, closed: bool) -> None:
    labels = label_reports(reports.texts, findings, closed=closed)
    sections = list(split_sections(""))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "abnormal:report", *(f"abnormal:{name}" for name in sections), *findings])
        for name, text, row in zip(reports.names, reports.texts, labels.tolist(), strict=True):
            units = [section_normality(part) for part in split_sections(text).values()]
            writer.writerow([name, report_normality(text).label, *units, *row])


def main(argv: Sequence[str] | None = None) -> int:
    """`ctclip reports` on its own."""
    parser = argparse.ArgumentParser(prog="ctclip reports", description=__doc__)
    add_reports_arguments(parser)
    return run_reports(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
