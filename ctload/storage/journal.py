"""The journal of a store: one line per packed study, appended as it happens, each with its own checksum.

Each packing process appends to a file of its own, so a kill can tear at most the last line of each; such a line
is left out and its study is packed again. When a pack ends, all lines are compacted into `packed.jsonl`, which is
put in place in one step. A line is `<xxh3_128> <json>`; later lines about a study replace earlier ones, and the
files of processes replace `packed.jsonl`.
"""

import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from ctload.errors import ChecksumError, CtloadError
from ctload.storage import durable

PACKED = "packed.jsonl"


@dataclass(frozen=True)
class JournalEntry:
    """One packed study.

    Attributes:
        row: The study's values for the columns of `manifest.SCHEMA`.
        extra: Values of further columns, carried from the table that named the source.
    """

    row: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def study(self) -> str:
        return self.row["study"]


class Journal:
    """The journal file of one process. Created with its first line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"worker-{uuid.uuid4().hex}.jsonl"
        self._handle: int | None = None

    def append(self, entry: JournalEntry) -> None:
        """Append one line and make it durable; after this the study counts as packed.

        Raises:
            CtloadError: The disk is full or read-only; the study does not count as packed.
        """
        try:
            self._append(_encode(entry))
        except OSError as error:
            raise CtloadError(
                f"could not be written ({error}); free space or rights, then pack again",
                study=entry.study,
                path=self.path,
            ) from error

    def _append(self, line: bytes) -> None:
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            durable.sync_folder(self.path.parent)
        written = os.write(self._handle, line)
        if written != len(line):  # a full disk may take a part of the line; the next write says so
            os.write(self._handle, line[written:])
        os.fsync(self._handle)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def journal_files(folder: Path) -> list[Path]:
    """Files of the journal in the order in which they are to be read."""
    packed = [folder / PACKED] if (folder / PACKED).exists() else []
    return packed + sorted(folder.glob("worker-*.jsonl"))


def read_journal(folder: Path) -> dict[str, JournalEntry]:
    """Every packed study by its id.

    Raises:
        ChecksumError: A line other than a torn last one is damaged.
    """
    entries: dict[str, JournalEntry] = {}
    for path in journal_files(folder):
        for entry in read_journal_file(path):
            entries[entry.study] = entry
    return entries


def read_journal_file(path: Path) -> list[JournalEntry]:
    """Entries of one file of the journal. A last line without its newline is torn and left out.

    Raises:
        ChecksumError: Another line is damaged, or the compacted file ends in a torn one.
    """
    *lines, torn = path.read_bytes().split(b"\n")
    if torn and path.name == PACKED:
        raise _damaged(path, len(lines) + 1)
    return [_decode(line, path, number) for number, line in enumerate(lines, start=1)]


def compact_journal(folder: Path, entries: Iterable[JournalEntry]) -> None:
    """Replace the whole journal by one file with one line per study."""
    folder.mkdir(parents=True, exist_ok=True)
    old = [path for path in journal_files(folder) if path.name != PACKED]
    durable.replace_file(folder / PACKED, b"".join(_encode(entry) for entry in entries))
    for path in old:
        path.unlink()


def _encode(entry: JournalEntry) -> bytes:
    text = json.dumps(asdict(entry), sort_keys=True).encode()
    return xxhash.xxh3_128_hexdigest(text).encode() + b" " + text + b"\n"


def _decode(line: bytes, path: Path, number: int) -> JournalEntry:
    checksum, _, text = line.partition(b" ")
    if checksum != xxhash.xxh3_128_hexdigest(text).encode():
        raise _damaged(path, number)
    try:
        entry = JournalEntry(**json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, number) from error
    rows_are_named = isinstance(entry.row, dict) and isinstance(entry.row.get("study"), str)
    if not rows_are_named or not isinstance(entry.extra, dict):
        raise _damaged(path, number)
    return entry


def _damaged(path: Path, number: int) -> ChecksumError:
    return ChecksumError(
        f"line {number} of the journal was damaged after it was written; delete this file and pack again, "
        "what it told of is packed anew",
        path=path,
    )
