"""PackReport: what a pack did, study by study; on the terminal as a table, in a file as JSON or CSV.

Sources stand in it as keyed hashes of their relative paths. Paths are written only when asked for.
"""

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctload.errors import CtloadError
from ctload.scanning.refusal import Refusal
from ctload.storage import durable

FORMAT = 1
_MAX_LINES = 100  # refusals that a terminal shows one by one
STATES = ("packed", "reused", "refused")
_ROW = ("depth", "height", "width", "spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "unit", "num_clipped_low",
        "num_clipped_high", "max_rounding", "stored_bytes")  # fmt: skip
_COLUMNS = ("study", "state", "code", "reason", "source", *_ROW, "left_out")


@dataclass(frozen=True)
class StudyReport:
    """What became of one study.

    Attributes:
        study: Its id.
        is_reused: Whether the store had it already.
        source: Keyed hash of its source's relative path.
        row: Its row of the manifest.
        left_out: What was not taken from its source, one sentence each.
    """

    study: str
    is_reused: bool
    source: str
    row: dict[str, Any]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class PackReport:
    """What a pack did.

    Attributes:
        store: The store; of a part, the part's own.
        studies: What is in the store now of what was given, by id.
        refused: What was not packed, and why.
        num_studies: Studies in the store now.
    """

    store: Path
    studies: tuple[StudyReport, ...]
    refused: tuple[Refusal, ...]
    num_studies: int

    @property
    def packed(self) -> tuple[str, ...]:
        """Study ids, sorted."""
        return tuple(each.study for each in self.studies if not each.is_reused)

    @property
    def reused(self) -> tuple[str, ...]:
        """Study ids, sorted."""
        return tuple(each.study for each in self.studies if each.is_reused)

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """(study, sentence) of what was not taken from a source that was packed."""
        return tuple((each.study, sentence) for each in self.studies for sentence in each.left_out)

    @property
    def num_clipped_low(self) -> int:
        """Voxels below the preset's clip range, over packed and reused studies."""
        return sum(each.row["num_clipped_low"] for each in self.studies)

    @property
    def num_clipped_high(self) -> int:
        """Voxels above it."""
        return sum(each.row["num_clipped_high"] for each in self.studies)

    @property
    def refused_by_code(self) -> dict[str, int]:
        """Code -> number of refusals, sorted by code."""
        return dict(sorted(Counter(refusal.code for refusal in self.refused).items()))


def lines_of(report: PackReport, *, show_paths: bool) -> list[str]:
    """The report for a terminal: each refusal, a table of counts, and the sum in one line.

    Args:
        report: What a pack did.
        show_paths: Name files and folders; else sources are told by their keyed hash.
    """
    lines = []
    for each in report.refused[:_MAX_LINES]:
        where = f"{each.source}: {each.detail}" if show_paths else f"source {each.hashed or '-'}: {each.reason}"
        lines.append(f"refused [{each.code}] {each.study}: {where}")
    if len(report.refused) > _MAX_LINES:
        lines.append(f"... and {len(report.refused) - _MAX_LINES} more refused; --report FILE lists them all")
    lines += [f"{count:>9}  refused: {code}" for code, count in report.refused_by_code.items()]
    left_out = Counter(sentence for _, sentence in report.left_out)
    lines += [f"{count:>9}  packed: {sentence}" for sentence, count in sorted(left_out.items())]
    lines.append(
        f"{report.store}: packed {len(report.packed)}, reused {len(report.reused)}, refused {len(report.refused)}; "
        f"clipped {report.num_clipped_low} voxels below and {report.num_clipped_high} above the preset's range; "
        f"{report.num_studies} studies in the store"
    )
    return lines


def write_report(report: PackReport, path: Path, *, show_paths: bool = False) -> None:
    """Write the report as .json or .csv, one entry per study.

    Args:
        report: What a pack did.
        path: FILE.json or FILE.csv.
        show_paths: Also write the paths and the messages that name them; such a file stays where the sources are.

    Raises:
        CtloadError: Another suffix, or the file cannot be written.
    """
    check_report_path(path)
    rows = [_study(each) for each in report.studies] + [_refusal(each, show_paths) for each in report.refused]
    content = _json(report, rows) if path.suffix.lower() == ".json" else _csv(rows, show_paths)
    durable.replace_file(path, content)


def check_report_path(path: Path) -> None:
    """Refuse a report that cannot be written, before hours of work.

    Raises:
        CtloadError: Another suffix than .json and .csv, or no such folder.
    """
    if path.suffix.lower() not in (".json", ".csv"):
        raise CtloadError(f"a report is .json or .csv, not {path.suffix or 'without suffix'!r}", path=path)
    if not path.absolute().parent.is_dir():
        raise CtloadError("the folder of the report is not there; make it first", path=path)


def _study(each: StudyReport) -> dict[str, Any]:
    state = "reused" if each.is_reused else "packed"
    return {"study": each.study, "state": state, "code": "", "reason": "", "source": each.source,
            **{name: each.row[name] for name in _ROW}, "left_out": list(each.left_out)}  # fmt: skip


def _refusal(each: Refusal, show_paths: bool) -> dict[str, Any]:
    row = {"study": each.study, "state": "refused", "code": each.code, "reason": each.reason, "source": each.hashed}
    return row | ({"path": each.source, "reason": each.detail} if show_paths else {})


def _json(report: PackReport, rows: list[dict[str, Any]]) -> bytes:
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    content = {
        "format": FORMAT,
        "counts": {**counts, "in_store": report.num_studies},
        "refused_by_code": report.refused_by_code,
        "num_clipped_low": report.num_clipped_low,
        "num_clipped_high": report.num_clipped_high,
        "studies": rows,
    }
    return (json.dumps(content, indent=1) + "\n").encode(errors="replace")


def _csv(rows: list[dict[str, Any]], show_paths: bool) -> bytes:
    text = io.StringIO(newline="")
    names = [*_COLUMNS, *(("path",) if show_paths else ())]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        flat = {**row, "left_out": "; ".join(row.get("left_out", ()))}
        writer.writerow([flat.get(name, "") for name in names])
    return text.getvalue().encode(errors="replace")
