"""One process of a pack: a source in, its volume in the store and a line in the journal out.

What was packed from the same bytes by the same preset is reused. A source that cannot be packed writes nothing.
"""

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ctload.digests import digest_source
from ctload.errors import CodedError, CtloadError, IngestError, ManifestError
from ctload.header import StoreHeader
from ctload.journal import Journal, JournalEntry
from ctload.layout import JOURNAL
from ctload.lock import WorkerLock
from ctload.pack_source import Refusal, refusal_of
from ctload.preset import Preset
from ctload.readers import read_source
from ctload.resample import Prepared, prepare
from ctload.source_table import PackSource
from ctload.study_file import is_intact, write_study
from ctload.writer import check_extra


@dataclass(frozen=True)
class PackTask:
    """One source and what the store knows of its study.

    Attributes:
        source: What to pack.
        hashed: Keyed hash of its relative path.
        known: The study's entry in the store, if it has one.
    """

    source: PackSource
    hashed: str
    known: JournalEntry | None


@dataclass(frozen=True)
class Outcome:
    """What became of a source.

    Attributes:
        study: Its id.
        entry: Its entry, None when refused.
        is_reused: Whether the store had it already.
        refusal: Why it was refused, None when it was not.
        left_out: What the reader did not take from it, one sentence each.
    """

    study: str
    entry: JournalEntry | None
    is_reused: bool = False
    refusal: Refusal | None = None
    left_out: tuple[str, ...] = ()


class PackWorker:
    """Packs sources into a store that its caller holds locked."""

    def __init__(self, root: Path, header: StoreHeader, preset: Preset) -> None:
        self._root = root
        self._header = header
        self._preset = preset
        self._journal = Journal(root / JOURNAL)

    def run(self, task: PackTask) -> Outcome:
        """Pack, reuse or refuse one source.

        Raises:
            CtloadError: The store cannot be written to (a full disk); the pack as a whole has to stop.
        """
        source = task.source
        try:
            digest = _digest(source)
            if task.known is not None and self._is_reusable(task.known, source, digest):
                return self._reuse(task, task.known)
            self._refuse_stranger(task)
            prepared, left_out = self._prepare(source)
            entry = self._write(task, prepared, digest)
        except (CodedError, ManifestError) as error:
            return Outcome(source.study, None, refusal=refusal_of(error, source.study, source.path))
        return Outcome(source.study, entry, left_out=left_out)

    def close(self) -> None:
        """Close its journal."""
        self._journal.close()

    def _is_reusable(self, known: JournalEntry, source: PackSource, digest: str) -> bool:
        return (
            known.row["source_digest"] == digest
            and known.row["preset"] == self._header.preset["hash"]
            and source.unit in (None, known.row["unit"])
            and is_intact(self._root, known.row)
        )

    def _reuse(self, task: PackTask, known: JournalEntry) -> Outcome:
        entry = JournalEntry({**known.row, "source": task.hashed}, _carried(task))
        if entry != known:
            self._journal.append(entry)
        return Outcome(task.source.study, entry, is_reused=True)

    def _refuse_stranger(self, task: PackTask) -> None:
        """Refuse to replace a study by another source that happens to have its id."""
        if task.known is None or task.known.row["source"] == task.hashed:
            return
        if is_intact(self._root, task.known.row):
            raise IngestError(
                "DUPLICATE_STUDY",
                "the store has a study of this id from another source; give this one another id in a table with the "
                f"columns study and path, or remove {task.known.row['path']} from the store to replace it",
                study=task.source.study,
                path=task.source.path,
            )

    def _prepare(self, source: PackSource) -> tuple[Prepared, tuple[str, ...]]:
        try:
            volume = read_source(source.path, unit=source.unit, channels=source.channels, labels=source.labels)
        except CtloadError:
            raise
        except Exception as error:  # whatever a decoder makes of a broken file: refuse this one, pack the others
            raise _unreadable(error, source) from error
        return prepare(volume, self._preset), volume.left_out

    def _write(self, task: PackTask, prepared: Prepared, digest: str) -> JournalEntry:
        study = task.source.study
        carried = check_extra(_carried(task), study)
        row = write_study(self._root, study, prepared, header=self._header, source=task.hashed, source_digest=digest)
        entry = JournalEntry(row, carried)
        self._journal.append(entry)
        return entry


def _carried(task: PackTask) -> dict:
    if task.source.extra is not None:
        return dict(task.source.extra)
    return {} if task.known is None else task.known.extra


def _digest(source: PackSource) -> str:
    """Digest of every byte a study is made from."""
    try:
        digests = [digest_source(path) for path in source.paths]
    except OSError as error:
        raise _unreadable(error, source) from error
    return digests[0] if len(digests) == 1 else xxhash.xxh3_128_hexdigest(" ".join(digests).encode())


def _unreadable(error: Exception, source: PackSource) -> IngestError:
    what = f"cannot be read ({type(error).__name__}: {error}); fetch it again, or leave it out"
    return IngestError("UNDECODABLE", what, study=source.study, path=source.path)


class _Process:
    """The worker of this process, where the process belongs to a pool."""

    worker: PackWorker | None = None
    lock: WorkerLock | None = None


def start_worker(root: Path, header: StoreHeader, preset: Preset, lock: WorkerLock) -> None:
    """Make this spawned process a worker. It ends when its parent does, and holds the store's lock till then."""
    _Process.worker = PackWorker(root, header, preset)
    _Process.lock = lock
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pack; what is begun ends whole
    threading.Thread(target=_end_with_parent, daemon=True).start()


def run_in_worker(task: PackTask) -> Outcome:
    """`PackWorker.run` of this process."""
    if _Process.worker is None:
        raise CtloadError("run_in_worker needs a process that start_worker has set up")
    return _Process.worker.run(task)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
