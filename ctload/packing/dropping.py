"""drop: studies out of a store, with their voxels, their rows, and the paths that the key map tells of them.

The manifest goes first, the files after it: killed in between, the store opens without the study, and the same command
again removes the rest.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctload.errors import CtloadError, ManifestError
from ctload.packing.writer import StoreWriter
from ctload.storage import layout
from ctload.storage.header import read_header
from ctload.storage.keymap import keymap_path, read_keymap


@dataclass(frozen=True)
class DropReport:
    """What `drop` did: the ids that are gone, and how many studies the store still has."""

    dropped: tuple[str, ...]
    num_studies: int


def drop(store: str | Path, studies: Sequence[str], *, wait_s: float = 5.0) -> DropReport:
    """Remove studies. All of them, or none where one is unknown.

    Args:
        store: Its folder.
        studies: Their ids.
        wait_s: How long to wait for a pack on this store, in seconds.

    Raises:
        StoreFormatError: No store here.
        ManifestError: A study that the store does not have.
        StoreBusyError: A pack is at work on it.
    """
    root = Path(store)
    preset = _StoredPreset(**{name: read_header(root).preset[name] for name in ("name", "hash")})
    wanted = list(dict.fromkeys(studies))
    with StoreWriter(root, preset, wait_s=wait_s) as writer:
        unknown = [study for study in wanted if study not in writer.entries and not _folder(root, study).exists()]
        if unknown:
            raise ManifestError(
                f"the store has no study {', '.join(unknown)}; nothing was dropped, `ctload info STORE --studies` "
                "lists the ids",
                path=root,
            )
        hashes = {writer.entries[study].row["source"] for study in wanted if study in writer.entries}
        writer.leave_out(wanted)
        for study in wanted:
            _delete(_folder(root, study))
        _forget(root, hashes - {entry.row["source"] for entry in writer.entries.values()})
        return DropReport(tuple(wanted), len(writer.entries))


@dataclass(frozen=True)
class _StoredPreset:
    """The preset a store was packed with, as its header names it."""

    name: str
    hash: str


def _folder(root: Path, study: str) -> Path:
    return root / layout.study_folder(study)


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CtloadError(
            f"the study is out of the manifest, but its files could not be deleted ({error.strerror}); drop it again",
            path=folder,
        ) from error


def _forget(root: Path, hashes: set[str]) -> None:
    """Take the paths of dropped studies out of the key map, where there is one."""
    if not keymap_path(root).exists():
        return
    keymap = read_keymap(keymap_path(root))
    for hashed in hashes:
        keymap.forget(hashed)
    keymap.save()
