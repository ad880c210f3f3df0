"""One process of a pack: a source in, its volume in the store and a line in the journal out.

What was packed from the same bytes by the same preset is reused. A source that cannot be packed writes nothing.
"""

import signal
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ctload.errors import CodedError, CtloadError, IngestError, ManifestError
from ctload.packing.resample import prepare
from ctload.packing.study_file import is_intact, write_study
from ctload.packing.writer import check_extra
from ctload.process.orphan import end_with_parent
from ctload.readers import read_source
from ctload.scanning.refusal import Refusal, refusal_of
from ctload.scanning.source_table import PackSource
from ctload.storage.digests import digest_source
from ctload.storage.header import StoreHeader
from ctload.storage.journal import Journal, JournalEntry
from ctload.storage.layout import JOURNAL
from ctload.storage.lock import WorkerLock
from ctload.storage.prepared import Prepared
from ctload.storage.preset import Preset


@dataclass(frozen=True)
class PackTask:
    """One source and what the store knows of its study.

    Attributes:
        source: What to pack.
        hashed: Keyed hash of its relative path.
        known: The study's entry in the store, if it has one.
        stored_as: Study that the store has from this source; the source's own id if it has none.
    """

    source: PackSource
    hashed: str
    known: JournalEntry | None
    stored_as: str


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

    def __init__(self, root: Path, header: StoreHeader, preset: Preset, key: bytes) -> None:
        self._root = root
        self._header = header
        self._preset = preset
        self._key = key
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
            return Outcome(source.study, None, refusal=self._refusal(error, task))
        return Outcome(source.study, entry, left_out=(*source.left_out, *left_out))

    def _refusal(self, error: CtloadError, task: PackTask) -> Refusal:
        source = task.source
        paths = [*source.paths[1:], Path(source.relative.partition("#")[0])]
        return refusal_of(error, source.study, source.path, paths=paths, files=source.files, hashed=task.hashed)

    def close(self) -> None:
        """Close its journal."""
        self._journal.close()

    def _is_reusable(self, known: JournalEntry, source: PackSource, digest: str) -> bool:
        return (
            known.row["source_digest"] == digest
            and known.row["preset"] == self._header.preset["hash"]
            and (source.unit or "HU") == known.row["unit"]
            and is_intact(self._root, known.row)
        )

    def _reuse(self, task: PackTask, known: JournalEntry) -> Outcome:
        entry = JournalEntry({**known.row, "source": task.hashed}, _carried(task))
        if entry != known:
            self._journal.append(entry)
        return Outcome(task.source.study, entry, is_reused=True, left_out=task.source.left_out)

    def _refuse_stranger(self, task: PackTask) -> None:
        """Refuse to replace a study by another source that happens to have its id, and to store a source twice."""
        if task.stored_as != task.source.study:
            raise IngestError(
                "DUPLICATE_STUDY",
                f"the store has this source as study {task.stored_as}; give it that id, or `ctload drop` that study",
            )
        if task.known is None or task.known.row["source"] == task.hashed:
            return
        if is_intact(self._root, task.known.row):
            raise IngestError(
                "DUPLICATE_STUDY",
                "the store has a study of this id from another source; give this one another id in a table with the "
                "columns study and path, or `ctload drop` that study to replace it",
                study=task.source.study,
                path=task.source.path,
            )

    def _prepare(self, source: PackSource) -> tuple[Prepared, tuple[str, ...]]:
        try:
            volume = read_source(
                source.path,
                unit=source.unit,
                series=source.series or None,
                key=self._key,
                files=source.files or None,
                channels=source.channels,
                labels=source.labels,
                correction=source.correction,
                resample_irregular=source.resample_irregular,
            )
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
    """Digest of every byte a study is made from, and of how it is read.

    A zip counts as a whole: a change anywhere in it packs each of its series again.
    """
    try:
        whole = digest_source(source.path, source.files or None)
        others = {("channel", name): digest_source(path) for name, path in source.channels.items()}
        others |= {("label", name): digest_source(path) for name, path in source.labels.items()}
    except OSError as error:
        raise _unreadable(error, source) from error
    fix = source.correction
    how = [
        *([f"series {source.series}"] if source.series else []),
        *(["irregular slices are resampled"] if source.resample_irregular else []),
        *([f"corrected {fix.slope!r} {fix.intercept!r} {fix.affine.tolist()!r}"] if fix is not None else []),
        *(f"{role} {name} {digest}" for (role, name), digest in sorted(others.items())),
    ]
    return xxhash.xxh3_128_hexdigest("\n".join([whole, *how]).encode()) if how else whole


def _unreadable(error: Exception, source: PackSource) -> IngestError:
    # The text of another library's error may quote a name or a value: its type must do.
    kind = type(error).__name__ + (f", {error.strerror}" if isinstance(error, OSError) and error.strerror else "")
    what = f"cannot be read ({kind}); fetch it again, or leave it out"
    return IngestError("UNDECODABLE", what, study=source.study, path=source.path)


class _Process:
    """The worker of this process, where the process belongs to a pool."""

    worker: PackWorker | None = None
    lock: WorkerLock | None = None


def start_worker(root: Path, header: StoreHeader, preset: Preset, key: bytes, lock: WorkerLock) -> None:
    """Make this spawned process a worker. It ends when its parent does, and holds the store's lock till then."""
    _Process.worker = PackWorker(root, header, preset, key)
    _Process.lock = lock
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pack; what is begun ends whole
    end_with_parent()


def run_in_worker(task: PackTask) -> Outcome:
    """`PackWorker.run` of this process."""
    if _Process.worker is None:
        raise CtloadError("run_in_worker needs a process that start_worker has set up")
    return _Process.worker.run(task)
