"""`ctload scan`: what lies in an export, as a table of series."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ctload.errors import ManifestError
from ctload.readers.scanned import ScannedSeries
from ctload.readers.volume import UNITS
from ctload.scanning.scanner import ScanOptions, scan
from ctload.scanning.source_table import SUFFIXES
from ctload.scanning.table import write_scan_table
from ctload.storage.keymap import open_keymap, read_keymap
from ctload.verbs.status import OK, REFUSED


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="file or folder: DICOM, zips of it, NIfTI")
    add("--out", required=True, type=Path, metavar="FILE", help="the table, .csv or .parquet; stays where the data are")
    add("--workers", type=int, default=1, help="processes (default 1)")
    add("--unit", choices=UNITS, help="what will be read; without it CT in HU")
    add("--identifiers", action="store_true", help="also write UIDs, patient ids, accession numbers and dates")
    add("--hash-ids", action="store_true", help="the id of a NIfTI file is a keyed hash of its name")
    add("--keys", type=Path, metavar="FILE", help="a key map whose key to take, such as a store's: the same ids")


def run(options: argparse.Namespace) -> int:
    """Scan, write the table, and say what was found."""
    if options.out.suffix.lower() not in SUFFIXES:
        raise ManifestError("a table of series is .csv or .parquet", path=options.out)
    key = None if options.keys is None else read_keymap(options.keys).key
    keymap = open_keymap(options.out, key=key)
    how = ScanOptions(keymap.key, options.unit, options.hash_ids)
    rows = scan(options.sources, how, workers=options.workers)
    keymap.save()
    write_scan_table(rows, options.out, identifiers=options.identifiers)
    print("\n".join(_lines(rows, options.out)))
    return OK if any(not row.code for row in rows) else REFUSED


def _lines(rows: Sequence[ScannedSeries], out: Path) -> list[str]:
    codes = Counter(row.code for row in rows if row.code)
    packable = Counter(row.study for row in rows if not row.code)
    studies = {row.study for row in rows}
    several = sum(count > 1 for count in packable.values())
    lines = [f"{len(rows):>9}  series of {len(studies)} studies in {out}"]
    lines += [f"{sum(packable.values()):>9}  series may be packed, of {len(packable)} studies"]
    lines += [f"{count:>9}  series: {code}" for code, count in sorted(codes.items())]
    lines += [f"{several:>9}  studies have several: choose with `ctload pack --series-rule`, or edit the table"]
    lines += [f"{len(studies - packable.keys()):>9}  studies have none"]
    return lines
