"""StoreWriter: prepared studies in, a store out. Each study appears whole or not at all.

A study is written into the store's tmp folder, made durable, read back and held against its digest, renamed into
place, and only then told of in the journal. `finish` makes the manifest and the header from the journal. What was
killed in between leaves a tmp folder that the next writer removes.
"""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ctload.errors import CtloadError, IngestError, ManifestError, PresetMismatchError, StoreFormatError
from ctload.packing.study_file import clean_tmp, place_study, write_study
from ctload.process.forkguard import enter
from ctload.storage import chunking, durable, layout
from ctload.storage.header import NamedPreset, StoreHeader, new_header, read_header, write_header
from ctload.storage.journal import Journal, JournalEntry, compact_journal, read_journal
from ctload.storage.lock import StoreLock
from ctload.storage.manifest import SCHEMA
from ctload.storage.manifest_file import encode_manifest, entries_of, manifest_of, read_manifest
from ctload.storage.prepared import Prepared

_PLAIN = (bool, int, float, str)


class StoreWriter:
    """Writes studies into one store, which it holds locked until `close`.

    Attributes:
        path: The store.
        header: Its header.
        entries: What the store holds, by study id.
        is_new: Whether it was empty when it was opened.
    """

    def __init__(self, path: str | Path, preset: NamedPreset, *, profile: str = "fast", wait_s: float = 5.0) -> None:
        """Create a store, or open one to add to it.

        Args:
            path: Its folder; made where there is none.
            preset: The rule all its volumes are made by; its hash goes into the store.
            profile: "fast" or "archive"; an existing store keeps its own.
            wait_s: How long to wait for another pack on this store, in seconds.

        Raises:
            PresetMismatchError: The store was packed with another preset.
            StoreBusyError: Another pack is at work on it.
            StoreFormatError: The folder holds something else, or a newer store.
            ChecksumError: The header or the journal is damaged.
        """
        self.path = Path(path)
        chunking.profile_named(profile)
        enter(self.path)
        self._refuse_strangers()
        durable.make_folder(self.path)
        self._lock = StoreLock(self.path / layout.LOCK, wait_s=wait_s)
        try:
            self.header = self._load_header(preset, profile)
            clean_tmp(self.path)
            self.entries = load_entries(self.path, self.header)
        except BaseException:
            self._lock.release()
            raise
        self.is_new = not self.header.manifest_digests and not self.entries
        self._journal = Journal(self.path / layout.JOURNAL)
        self._written: set[str] = set()

    @property
    def lock(self) -> StoreLock:
        return self._lock

    def write(
        self,
        study: str,
        prepared: Prepared,
        *,
        source: str = "",
        source_digest: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one study. A study that an earlier writer left is replaced.

        Args:
            study: Its id, unique in the store.
            prepared: Its arrays, (D, H, W), and their meaning.
            source: Keyed hash of where it came from.
            source_digest: Digest of the source's bytes.
            extra: Values for further columns of the manifest: str, int, float, bool or None.

        Raises:
            IngestError: DUPLICATE_STUDY when this writer wrote that id already, NOT_A_VOLUME for wrong arrays.
            ManifestError: A column of `extra` has a reserved name or no plain value.
            ChecksumError: The disk gave back other voxels than were written.
        """
        if study in self._written:
            raise IngestError("DUPLICATE_STUDY", "this id was written already; ids are unique in a store", study=study)
        carried = check_extra(extra or {}, study)
        row = write_study(self.path, study, prepared, header=self.header, source=source, source_digest=source_digest)
        entry = JournalEntry(row, carried)
        self._journal.append(entry)
        self._written.add(study)
        self.entries[study] = entry

    def carry(self, study: str, extra: Mapping[str, Any]) -> None:
        """Give a study of the store other values in the carried columns, without touching its voxels."""
        entry = JournalEntry(self.entries[study].row, check_extra(extra, study))
        self._journal.append(entry)
        self.entries[study] = entry

    def finish(self) -> None:
        """Make the manifest and the header from the journal, so that the store can be opened. The writer stays open.

        Raises:
            ManifestError: Carried columns do not fit together.
        """
        self._publish({**self.entries, **read_journal(self.path / layout.JOURNAL)})

    def take_over(self, folder: Path, entry: JournalEntry) -> None:
        """Put a study that another store of the same preset packed into this one.

        Args:
            folder: Its files, durable, on this store's disk; they are moved.
            entry: Its entry, as it shall stand here.
        """
        place_study(self.path, entry.study, folder)
        self._journal.append(entry)
        self._written.add(entry.study)
        self.entries[entry.study] = entry

    def leave_out(self, studies: Collection[str]) -> None:
        """Make the manifest, the header and the journal without these studies. Their files stay, unnamed."""
        told = {**self.entries, **read_journal(self.path / layout.JOURNAL)}
        self._publish({study: entry for study, entry in told.items() if study not in studies})

    def _publish(self, told: dict[str, JournalEntry]) -> None:
        self._journal.close()
        self.entries = told
        entries = [self.entries[study] for study in sorted(self.entries)]
        content = encode_manifest(manifest_of(entries))
        digest = xxhash.xxh3_128_hexdigest(content)
        compact_journal(self.path / layout.JOURNAL, entries)
        manifest = self.path / layout.MANIFEST
        is_there = self.header.manifest_digests == (digest,) and manifest.exists() and manifest.read_bytes() == content
        if not is_there:
            # Until the last line both manifests are right, so a kill in between leaves a store that opens.
            write_header(self.path, replace(self.header, manifest_digests=(*self.header.manifest_digests[:1], digest)))
            durable.replace_file(manifest, content)
            self.header = replace(self.header, manifest_digests=(digest,), num_studies=len(entries))
            write_header(self.path, self.header)
        shutil.rmtree(self.path / layout.TMP, ignore_errors=True)
        self._journal = Journal(self.path / layout.JOURNAL)

    def discard(self) -> None:
        """Remove a new store into which nothing was written."""
        assert self.is_new
        assert not read_journal(self.path / layout.JOURNAL)
        shutil.rmtree(self.path)

    def close(self) -> None:
        """Free the store for others. What was written stays, but without `finish` it is not in the manifest."""
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_strangers(self) -> None:
        if (self.path / layout.HEADER).exists() or not self.path.exists():
            return
        if not self.path.is_dir() or any(not _is_own(item.name) for item in self.path.iterdir()):
            raise StoreFormatError(
                f"there are files here but no {layout.HEADER}, so it is no store; choose an empty or a new folder, "
                f"or restore {layout.HEADER} from a copy",
                path=self.path,
            )

    def _load_header(self, preset: NamedPreset, profile: str) -> StoreHeader:
        if not (self.path / layout.HEADER).exists():
            header = new_header(preset, profile)
            write_header(self.path, header)
            return header
        header = read_header(self.path)
        if header.preset["hash"] != preset.hash:
            raise PresetMismatchError(
                f"the store was packed with preset {header.preset['name']!r} (hash {header.preset['hash']}), asked for "
                f"was {preset.name!r} (hash {preset.hash}); use that preset, or pack into another folder",
                path=self.path,
            )
        return header


def _is_own(name: str) -> bool:
    """Whether a pack that was killed before it had a header may have left this file."""
    return name in (layout.LOCK, layout.TMP) or (name.startswith(layout.HEADER) and durable.is_beside(name))


def load_entries(root: Path, header: StoreHeader) -> dict[str, JournalEntry]:
    """What a store holds: the rows of its manifest, and what the journal tells beyond and instead.

    Raises:
        ChecksumError: The journal is damaged, or the manifest is and the journal does not replace it.
    """
    told = read_journal(root / layout.JOURNAL)
    if not header.manifest_digests:
        return told
    try:
        packed = {entry.study: entry for entry in entries_of(read_manifest(root, header))}
    except CtloadError:
        if len(told) < header.num_studies:
            raise
        return told
    return {**packed, **told}


def check_extra(extra: Mapping[str, Any], study: str) -> dict[str, Any]:
    """The carried values as plain ones.

    Raises:
        ManifestError: A reserved name, or a value that is no str, int, float, bool or None.
    """
    plain: dict[str, Any] = {}
    for name, value in extra.items():
        if name in SCHEMA.names:
            raise ManifestError(f"the column name {name!r} is taken by the manifest; rename it", study=study)
        plain[name] = value.item() if isinstance(value, np.generic) else value
        if plain[name] is not None and not isinstance(plain[name], _PLAIN):
            raise ManifestError(
                f"column {name!r} holds {type(value).__name__}; a carried value is str, int, float, bool or None",
                study=study,
            )
    return plain
