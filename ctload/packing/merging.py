"""merge: stores packed with one preset in, one store out. Parts of one pack, or the stores of several places.

Files are hard links where both lie on one disk, else copies that are read back. Killed at any moment and run again, it
goes on. Sources keep their hashes where the key is the same or unknown, and get new ones where a key map tells paths.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ctload.errors import ChecksumError, IngestError, ManifestError, PresetMismatchError
from ctload.packing.study_file import is_intact
from ctload.packing.writer import StoreWriter
from ctload.storage import durable, layout
from ctload.storage.header import StoreHeader, read_header
from ctload.storage.journal import JournalEntry
from ctload.storage.keymap import KeyMap, is_keymap, keymap_path, open_keymap, read_keymap
from ctload.storage.manifest_file import entries_of, read_manifest
from ctload.storage.study_check import check_study, study_files

_PART = re.compile(r"\.part-(\d+)-of-(\d+)$")


@dataclass(frozen=True)
class MergeReport:
    """What `merge` did.

    Attributes:
        merged, reused: Study ids that came in, and that were in the store already.
        num_studies: Studies in the store now.
    """

    merged: tuple[str, ...]
    reused: tuple[str, ...]
    num_studies: int


@dataclass(frozen=True)
class _Part:
    path: Path
    header: StoreHeader
    entries: tuple[JournalEntry, ...]
    keymap: KeyMap | None


@dataclass(frozen=True)
class _Preset:
    """The preset of the parts, as their headers name it."""

    name: str
    hash: str
    fields: dict


def merge(
    parts: Sequence[str | Path],
    out: str | Path,
    *,
    may_lack_parts: bool = False,
    progress: bool = True,
    wait_s: float = 5.0,
) -> MergeReport:
    """Put the studies of several stores into one, which is made or added to. The parts stay as they are.

    Args:
        parts: Stores of one preset. Named STORE.part-I-of-N, all N must be given.
        out: The store.
        may_lack_parts: Merge although one of N parts is not given.
        progress: Show a progress bar where the output is a terminal.
        wait_s: How long to wait for another pack on this store, in seconds.

    Raises:
        ManifestError: A part of N is not given.
        StoreFormatError: A part is no store, or its pack did not end.
        PresetMismatchError: The parts, or the store, were packed with different presets or codec profiles.
        IngestError: DUPLICATE_STUDY where two parts hold different studies under one id; nothing is merged then.
        ChecksumError: A study of a part is damaged.
    """
    root = Path(out)
    parts = [part for part in parts if not is_keymap(Path(part))]  # STORE.part-* names them too
    if not parts:
        raise ManifestError("no part is given; name the stores to merge", path=root)
    if not may_lack_parts:
        _require_all(parts)
    opened = [_open(Path(part)) for part in parts]
    preset = _common_preset(opened)
    _require_distinct(opened)
    keymap = open_keymap(root, key=None if keymap_path(root).exists() else _first_key(opened))
    with StoreWriter(root, preset, profile=opened[0].header.profile, wait_s=wait_s) as writer:
        todo = [(part, _moved(entry, part, keymap)) for part in opened for entry in part.entries]
        for _, entry in todo:
            _require_known(writer.entries.get(entry.study), entry)
        keymap.save()
        merged, reused = [], []
        for part, entry in tqdm(todo, desc="merge", unit="study", disable=None if progress else True):
            known = writer.entries.get(entry.study)
            if known == entry and is_intact(root, entry.row):
                reused.append(entry.study)
                continue
            writer.take_over(_staged(root, part, entry), entry)
            merged.append(entry.study)
        writer.finish()
        return MergeReport(tuple(sorted(merged)), tuple(sorted(reused)), len(writer.entries))


def _require_all(parts: Sequence[str | Path]) -> None:
    found = [_PART.search(Path(part).name) for part in parts]
    counts = {int(each[2]) for each in found if each}
    for count in counts:
        given = {int(each[1]) for each in found if each and int(each[2]) == count}
        missing = sorted(set(range(1, count + 1)) - given)
        if missing:
            raise ManifestError(
                f"of {count} parts, {', '.join(map(str, missing))} not given: its studies would be missing; pack it, "
                "or say --incomplete"
            )


def _open(path: Path) -> _Part:
    header = read_header(path)
    table = read_manifest(path, header)
    keymap = read_keymap(keymap_path(path)) if keymap_path(path).exists() else None
    return _Part(path, header, tuple(entries_of(table)), keymap)


def _common_preset(parts: Sequence[_Part]) -> _Preset:
    first = parts[0].header
    for part in parts[1:]:
        told, other = (first.preset["name"], first.profile), (part.header.preset["name"], part.header.profile)
        if part.header.preset["hash"] != first.preset["hash"] or part.header.profile != first.profile:
            raise PresetMismatchError(
                f"this part was packed with {other}, the first one with {told} (preset, codec profile); pack all parts "
                "alike",
                path=part.path,
            )
    return _Preset(first.preset["name"], first.preset["hash"], first.preset["fields"])


def _require_distinct(parts: Sequence[_Part]) -> None:
    seen: dict[str, JournalEntry] = {}
    for part in parts:
        for entry in part.entries:
            _require_known(seen.setdefault(entry.study, entry), entry)


def _require_known(known: JournalEntry | None, entry: JournalEntry) -> None:
    if known is not None and known.row["digest"] != entry.row["digest"]:
        raise IngestError(
            "DUPLICATE_STUDY",
            "two of the stores hold different voxels under this id; `ctload drop` it from one, nothing was merged",
            study=entry.study,
        )


def _first_key(parts: Sequence[_Part]) -> bytes | None:
    return next((part.keymap.key for part in parts if part.keymap is not None), None)


def _moved(entry: JournalEntry, part: _Part, keymap: KeyMap) -> JournalEntry:
    """The entry as it stands in the merged store: its source hashed with that store's key, where its path is known."""
    relative = None if part.keymap is None else part.keymap.sources.get(entry.row["source"])
    source = entry.row["source"] if relative is None else keymap.add(relative)
    return replace(entry, row={**entry.row, "source": source})


def _staged(root: Path, part: _Part, entry: JournalEntry) -> Path:
    """A study's files in the store's tmp folder, durable and as they were written."""
    folder = root / layout.TMP / f"{uuid.uuid4().hex}.zarr"
    is_linked = True
    for file in study_files(part.path, entry.row):
        place = folder / file.relative_to(part.path / entry.row["path"])
        place.parent.mkdir(parents=True, exist_ok=True)
        is_linked &= _linked(file, place, part)
    durable.sync_tree(folder)
    row = {**entry.row, "path": folder.relative_to(root).as_posix()}
    problems = list(_problems(root, row, is_linked=is_linked))
    if problems:
        shutil.rmtree(folder, ignore_errors=True)
        raise ChecksumError(
            f"{problems[0]}; pack this part again, or verify it", study=entry.study, path=part.path / entry.row["path"]
        )
    return folder


def _linked(file: Path, place: Path, part: _Part) -> bool:
    try:
        os.link(file, place)
        return True
    except FileNotFoundError as error:
        raise ChecksumError("a file of this part is gone; pack this part again", path=part.path) from error
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, place)
        return False


def _problems(root: Path, row: dict, *, is_linked: bool) -> Iterator[str]:
    """What is wrong with staged files. Linked ones are the part's own, so their voxels are not read again."""
    if is_linked:
        yield from () if is_intact(root, row) else ("its metadata or a shard is not what was written",)
    else:
        yield from (problem.message for problem in check_study(root, row))
