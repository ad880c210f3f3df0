"""verify: a store in, every problem of every file out. Reads all voxels; changes nothing.

Header -> manifest -> each study's metadata -> each shard's size, chunks and voxels, and the journal beside the
manifest: each file is held against a digest in another one, the header against its own.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from ctload.errors import ChecksumError, CtloadError, ManifestError, MissingChunkError
from ctload.process import forkguard
from ctload.storage import layout
from ctload.storage.header import StoreHeader, read_header
from ctload.storage.journal import PACKED, JournalEntry, journal_files, read_journal_file
from ctload.storage.manifest import check_manifest
from ctload.storage.manifest_file import decode_manifest, entries_of, manifest_of, read_manifest
from ctload.storage.study_check import Problem, check_study, study_files

_UNFINISHED = "a pack that did not end"


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        problems: Every one, by path; empty when the store is what was written.
        num_studies: Studies checked.
        num_files: Files looked at.
        num_bytes: Compressed bytes of the voxels that were read.
    """

    problems: tuple[Problem, ...]
    num_studies: int
    num_files: int
    num_bytes: int

    @property
    def is_sound(self) -> bool:
        return not self.problems


def verify(path: str | Path, workers: int = 1, *, progress: bool = True) -> VerifyReport:
    """Check every file of a store against what was written.

    Args:
        path: The store.
        workers: Studies checked at a time (threads); memory is one array for each.
        progress: Show a progress bar where the output is a terminal.

    Raises:
        StoreFormatError: No store here, or one of a newer format version.
    """
    root = Path(path)
    if workers < 1:
        raise CtloadError(f"workers must be at least 1, got {workers}")
    forkguard.enter(root)
    problems: list[Problem] = []
    header = _header(root, problems)
    told = _journal(root, problems)
    entries = _entries(root, header, told, problems)
    files = sorted(path for path in root.rglob("*") if not path.is_dir())
    if not entries and any(path.name == layout.METADATA for path in files):
        problems.append(Problem("", str(root), "header, manifest and journal name no study; nothing else was checked"))
    else:
        problems += [*_compare(root, entries, told), *_unexpected(root, files, entries)]
    rows = [entries[study].row for study in sorted(entries)]
    for found in _checked(root, rows, workers, progress):
        problems += found
    return VerifyReport(
        problems=tuple(sorted(problems, key=lambda problem: (problem.path, problem.message))),
        num_studies=len(rows),
        num_files=len(files),
        num_bytes=sum(row["stored_bytes"] for row in rows),
    )


def _checked(root: Path, rows: list[dict[str, Any]], workers: int, progress: bool) -> Iterator[list[Problem]]:
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(rows), desc="verify", unit="study", disable=None if progress else True) as bar,
    ):
        for found in pool.map(lambda row: check_study(root, row), rows):
            bar.update()
            yield found


def _problem(error: CtloadError) -> Problem:
    return Problem(error.study or "", error.path or "", error.message)


def _header(root: Path, problems: list[Problem]) -> StoreHeader | None:
    try:
        return read_header(root)
    except ChecksumError as error:
        problems.append(_problem(error))
        return None


def _journal(root: Path, problems: list[Problem]) -> dict[str, JournalEntry]:
    """What the journal tells, as far as it can be read."""
    told: dict[str, JournalEntry] = {}
    for path in journal_files(root / layout.JOURNAL):
        try:
            told |= _entries_of_journal(path, problems)
        except CtloadError as error:
            problems.append(_problem(error))
    return told


def _entries_of_journal(path: Path, problems: list[Problem]) -> dict[str, JournalEntry]:
    """What one file of the journal tells.

    Raises:
        CtloadError: It is damaged, or describes what is no study.
    """
    try:
        lines = read_journal_file(path)
        entries = {entry.study: entry for entry in lines}
        check_manifest(manifest_of(list(entries.values())), path=str(path))
    except OSError as error:
        raise CtloadError(f"cannot be read ({error}); is a pack at work?", path=path) from error
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ChecksumError(f"a line describes no study ({error}); delete this file, pack again", path=path) from error
    if path.name == PACKED and len(entries) < len(lines):
        problems.append(Problem("", str(path), "a study stands twice in the compacted journal; pack again"))
    return entries


def _entries(
    root: Path, header: StoreHeader | None, told: dict[str, JournalEntry], problems: list[Problem]
) -> dict[str, JournalEntry]:
    """The studies to check: those of the manifest; where it cannot be trusted, those of the journal, else those that
    the manifest names all the same."""
    try:
        table = _unchecked_manifest(root) if header is None else read_manifest(root, header)
        return {entry.study: entry for entry in entries_of(table)}
    except (ChecksumError, MissingChunkError, ManifestError) as error:
        problems.append(_problem(error))
    try:
        return told or {entry.study: entry for entry in entries_of(_unchecked_manifest(root))}
    except (MissingChunkError, ChecksumError, ManifestError):
        return {}


def _unchecked_manifest(root: Path) -> pa.Table:
    """The manifest where its digest cannot be told, or is wrong: its pages still have checksums.

    Raises:
        MissingChunkError, ChecksumError, ManifestError: It cannot be read, or is none.
    """
    path = root / layout.MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingChunkError(
            f"the manifest cannot be read ({error}); pack again to rebuild it", path=path
        ) from error
    table = decode_manifest(content, path)
    check_manifest(table, path=str(path))
    return table


def _compare(root: Path, entries: dict[str, JournalEntry], told: dict[str, JournalEntry]) -> Iterator[Problem]:
    """Hold the journal against the manifest."""
    folder = root / layout.JOURNAL
    unfinished = [path for path in journal_files(folder) if path.name != PACKED]
    for path in unfinished:
        yield Problem("", str(path), f"{_UNFINISHED}; run it again")
    for study in sorted(entries.keys() | told.keys()):
        if study not in told:
            yield Problem(
                study, str(folder), "the journal does not tell of this study; a file of it is gone or damaged"
            )
        elif not unfinished and (study not in entries or not _is_same(entries[study], told[study])):
            yield Problem(study, str(folder), "the journal and the manifest differ on this study")


def _is_same(one: JournalEntry, other: JournalEntry) -> bool:
    """Whether two entries say the same; a column without a value and a missing one are the same."""

    def said(entry: JournalEntry) -> dict[str, Any]:
        return {name: value for name, value in {**entry.row, **entry.extra}.items() if value is not None}

    # repr makes two NaN alike; a whole number in a column of floats comes back as a float.
    first, second = said(one), said(other)
    return first.keys() == second.keys() and all(
        first[name] == second[name] or repr(first[name]) == repr(second[name]) for name in first
    )


def _unexpected(root: Path, files: list[Path], entries: dict[str, JournalEntry]) -> Iterator[Problem]:
    """Files that no study and no rule of the layout accounts for."""
    expected = {root / name for name in (layout.HEADER, layout.MANIFEST, layout.LOCK)}
    expected |= set(journal_files(root / layout.JOURNAL))
    for entry in entries.values():
        expected |= set(study_files(root, entry.row))
    for path in files:
        if path.is_relative_to(root / layout.TMP):
            yield Problem("", str(path), f"{_UNFINISHED} left this; run it again")
        elif path not in expected:
            yield Problem("", str(path), "this file is in no manifest and no part of a store; remove it")
