"""`ctload pack`: sources into a store."""

import argparse
from pathlib import Path

from ctload.errors import CtloadError
from ctload.packing.packer import pack
from ctload.packing.report import check_report_path, lines_of, write_report
from ctload.readers.volume import UNITS
from ctload.storage.chunking import PROFILES
from ctload.verbs.status import OK, REFUSED


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="file, folder, or table (.csv, .parquet)")
    add("--out", required=True, type=Path, metavar="STORE", help="the store; made or added to")
    add("--preset", required=True, help="native, merlin, ct-rate, or a spacing such as 3x1.5x1.5mm")
    add("--workers", type=int, default=1, help="processes (default 1)")
    add("--series-rule", metavar="RULE", help='which series of a study, e.g. "kernel=B30f; thickness<=3; most slices"')
    add("--part", type=_part, metavar="I/N", help="pack the I-th of N parts; `ctload merge` puts them together")
    add("--resample-irregular", action="store_true", help="correct gantry tilt and varying gaps, which are refused")
    units = parser.add_mutually_exclusive_group()
    units.add_argument("--unit", choices=UNITS, help="what the values are, where the source does not say")
    units.add_argument(
        "--assume-hu", action="store_true", help="8-bit NIfTI without a scale is HU: the same as --unit HU"
    )
    add("--ct-rate-metadata", type=Path, metavar="FILE", help="CT-RATE's *_metadata.csv: rescale and geometry")
    add("--hash-ids", action="store_true", help="the id of a NIfTI file is a keyed hash of its name")
    add("--carry", type=_names, default=(), metavar="COLUMNS", help="of a scan into the manifest: patient,kernel,phase")
    add("--keys", type=Path, metavar="FILE", help="a key map whose key a new store takes: the same ids in both")
    add("--report", type=Path, metavar="FILE", help="also write the report, .json or .csv")
    add("--show-paths", action="store_true", help="name files and folders in the output and in the report")
    add("--profile", choices=sorted(PROFILES), default="fast", help="codec: fast (lz4) or archive (zstd)")


def run(options: argparse.Namespace) -> int:
    """Pack, and say what became of each source."""
    if options.report is not None:
        check_report_path(options.report)
    report = pack(
        options.sources,
        options.out,
        preset=options.preset,
        workers=options.workers,
        unit="HU" if options.assume_hu else options.unit,
        series_rule=options.series_rule,
        part=options.part,
        resample_irregular=options.resample_irregular,
        ct_rate_metadata=options.ct_rate_metadata,
        hash_ids=options.hash_ids,
        carry=options.carry,
        keys=options.keys,
        profile=options.profile,
    )
    print("\n".join(lines_of(report, show_paths=options.show_paths)))
    if options.report is not None:
        write_report(report, options.report, show_paths=options.show_paths)
    return REFUSED if report.refused else OK


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    try:
        return int(number), int(count)
    except ValueError as error:
        raise CtloadError(f"a part is I/N, such as 2/8, got {text!r}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
