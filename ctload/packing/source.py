"""What `pack` was given, as one PackSource per study: paths and tables in, sources and refusals out.

Paths are scanned; a scan table names series, which are looked up again where they lie; any other table is taken at its
word. A part takes its share of the studies by a hash of their ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from ctload.errors import CtloadError, IngestError, ManifestError
from ctload.readers.ct_rate import Correction
from ctload.readers.scanned import ScannedSeries
from ctload.readers.walk import FILE_KINDS
from ctload.scanning.choosing import Candidate, ChoiceOptions, choose
from ctload.scanning.refusal import Refusal, refusal_of
from ctload.scanning.scanner import ScanOptions, scan
from ctload.scanning.series_rule import SeriesRule
from ctload.scanning.source_table import SUFFIXES, PackSource, read_rows, read_source_table
from ctload.scanning.table import CARRIABLE, ScanRow, columns_of, is_scan_table, read_scan_table
from ctload.storage.keymap import keyed_hash, keymap_path, read_keymap


@dataclass(frozen=True)
class PackOptions:
    """What is packed of the sources, and how they are read.

    Attributes:
        unit: "HU", "SUV" or "arbitrary" for sources without one of their own; None means HU and refuses what cannot
            be HU.
        rule: Chooses among the series of a study; None takes the only one.
        part: (i, n): only the i-th of n parts of the studies, i from 1 to n; None takes all.
        resample_irregular: Correct gantry tilt and varying gaps by interpolation, instead of refusing.
        corrections: NIfTI stem -> what its header should have said (CT-RATE).
        is_stem_hashed: Whether the id of a NIfTI file is a keyed hash of its stem instead of the stem.
        carry: Columns of a scan, out of scan_table.CARRIABLE, that go into the manifest.
    """

    unit: str | None = None
    rule: SeriesRule | None = None
    part: tuple[int, int] | None = None
    resample_irregular: bool = False
    corrections: Mapping[str, Correction] | None = field(default=None, repr=False)
    is_stem_hashed: bool = False
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise CtloadError(f"a part is i/n with i from 1 to n, got {self.part[0]}/{self.part[1]}")
        unknown = sorted(set(self.carry) - set(CARRIABLE))
        if unknown:
            raise CtloadError(
                f"{', '.join(unknown)} cannot be carried into a store, which holds no text and no identifier; there "
                f"are {', '.join(CARRIABLE)}"
            )

    def takes(self, study: str) -> bool:
        """Whether a study is in this part; the same on every machine, whatever other studies there are."""
        if self.part is None:
            return True
        number, count = self.part
        return xxhash.xxh3_64_intdigest(study.encode()) % count == number - 1


def collect_sources(
    given: Sequence[str | Path], options: PackOptions, *, key: bytes, workers: int = 1, progress: bool = True
) -> tuple[list[PackSource], list[Refusal]]:
    """Every study to be packed, and what was refused before its voxels were read.

    Args:
        given: Files, folders, and tables of sources (.csv, .parquet).
        options: What is packed of them.
        key: Of the store.
        workers: Processes that look at headers.
        progress: Show a progress bar where the output is a terminal.

    Raises:
        ManifestError: A table is not as it must be.
        SeriesRuleError: The rule asks for a column that there is not.
    """
    sources: list[PackSource] = []
    candidates: list[Candidate] = []
    refused: list[Refusal] = []
    places = []
    for path in map(Path, given):
        if path.suffix.lower() not in SUFFIXES:
            places.append(path)
            continue
        rows = read_rows(path)
        if rows and is_scan_table(list(rows[0])):
            found, gone = _listed(path, read_scan_table(path, rows), options, workers=workers, progress=progress)
            candidates += found
            refused += gone
        else:
            sources += [each for each in read_source_table(path, unit=options.unit) if options.takes(each.study)]
    if places:
        scanned = scan(places, _scan_options(options, key), workers=workers, progress=progress)
        candidates += [_found(each, options) for each in scanned if options.takes(each.study)]
    choice = ChoiceOptions(key, options.rule, options.resample_irregular, options.corrections)
    chosen, undecided = choose(_once(candidates), choice)
    return _without_duplicates(sources + chosen, refused + undecided, key)


def key_of_tables(given: Sequence[str | Path]) -> bytes | None:
    """The key of the scan tables among the sources; None where there is no such table.

    Raises:
        ManifestError: Two of them have different keys, or one is no table.
    """
    keys = {_table_key(Path(path)) for path in given if Path(path).suffix.lower() in SUFFIXES and _is_scan(Path(path))}
    if len(keys) > 1:
        raise ManifestError(
            "the scan tables have different keys, so the same study has different ids in them; scan with one --keys "
            "FILE, or pack each table into a store of its own"
        )
    return keys.pop() if keys else None


def _is_scan(path: Path) -> bool:
    rows = read_rows(path)
    return bool(rows) and is_scan_table(list(rows[0]))


def _table_key(table: Path) -> bytes:
    return read_keymap(keymap_path(table)).key


def _scan_options(options: PackOptions, key: bytes) -> ScanOptions:
    return ScanOptions(key, options.unit, options.is_stem_hashed)


def _found(scanned: ScannedSeries, options: PackOptions) -> Candidate:
    columns = columns_of(scanned)
    extra = {name: columns[name] for name in options.carry} or None
    return Candidate(scanned, scanned.study, columns, options.unit, extra=extra)


def _listed(
    table: Path, rows: list[ScanRow], options: PackOptions, *, workers: int, progress: bool
) -> tuple[list[Candidate], list[Refusal]]:
    """The series that a scan table names, as they lie on disk now; those that are gone are refused."""
    rows = [row for row in rows if options.takes(row.study)]
    key = _table_key(table)
    tops = _outermost({row.path for row in rows})
    found: dict[tuple[Path, str], ScannedSeries] = {}
    for each in scan(tops, _scan_options(options, key), workers=workers, progress=progress) if tops else []:
        found[each.path, "" if each.kind in FILE_KINDS else each.series] = each
    candidates: list[Candidate] = []
    refused: list[Refusal] = []
    for row in rows:
        scanned = found.get((row.path, "" if row.kind in FILE_KINDS else row.series))
        if scanned is None:
            error = IngestError(
                "NOT_A_VOLUME", "this series of the scan table is not there any more; scan again, or take its row out"
            )
            names = [Path(row.source)]
            hashed = keyed_hash(f"{row.source}#{row.series}", key)
            refused.append(refusal_of(error, row.study, row.path, paths=names, hashed=hashed))
            continue
        # The table's ids count: a file may be called by a hash of its name there.
        own = row.series if row.kind in FILE_KINDS else scanned.study
        candidates.append(_of_row(row, replace(scanned, source=row.source, series=row.series, study=own), options))
    return candidates, refused


def _of_row(row: ScanRow, scanned: ScannedSeries, options: PackOptions) -> Candidate:
    extra = {**{name: row.columns[name] for name in options.carry}, **row.extra}
    unit = row.unit or options.unit
    return Candidate(scanned, row.study, row.columns, unit, row.channels, row.labels, extra or None, is_listed=True)


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """The paths that lie below no other one."""
    kept: list[Path] = []
    for path in sorted(paths):
        if not any(path.is_relative_to(other) for other in kept[-1:]):
            kept.append(path)
    return kept


def _once(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each series once, however many overlapping sources name it; a table's word counts most."""
    kept: dict[tuple[Any, ...], Candidate] = {}
    for candidate in candidates:
        scanned = candidate.scanned
        first = scanned.path / scanned.files[0] if scanned.files and scanned.kind == "dicom" else scanned.path
        kept.setdefault((first, scanned.series, scanned.code), candidate)
    return list(kept.values())


def _without_duplicates(
    sources: Iterable[PackSource], refused: list[Refusal], key: bytes
) -> tuple[list[PackSource], list[Refusal]]:
    """Refuse every source whose study id another one has too; the same file given twice counts once."""
    by_study: defaultdict[str, dict[tuple[Path, str], PackSource]] = defaultdict(dict)
    for source in sources:
        by_study[source.study].setdefault((source.path.resolve(), source.series), source)
    kept: list[PackSource] = []
    for study, same in by_study.items():
        if len(same) == 1:
            kept += same.values()
            continue
        for place, source in same.items():
            others = ", ".join(str(other[0]) for other in same if other != place)
            error = IngestError(
                "DUPLICATE_STUDY",
                f"{len(same) - 1} other source(s) have the same study id: {others}; rename one, or give ids in a table "
                "with the columns study and path",
            )
            paths = [path for path, _ in same]
            refused.append(refusal_of(error, study, source.path, paths=paths, hashed=keyed_hash(source.relative, key)))
    return kept, refused
