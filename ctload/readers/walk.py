"""What a scan looks at: a path in, places out. A place is a NIfTI or .npz file, a zip, or up to
200 other files of a folder.

Names and folders only; nothing is opened. Hidden files are not looked at, links are followed once.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NIFTI, NPZ, ZIP, FILES = "nifti", "npz", "zip", "files"
FILE_KINDS = (NIFTI, NPZ)  # one file is one study, named by it

_SUFFIXES = {".nii": NIFTI, ".nii.gz": NIFTI, ".npz": NPZ, ".zip": ZIP}
_FILES_AT_ONCE = 200


@dataclass(frozen=True)
class Place:
    """Something to look at.

    Attributes:
        kind: NIFTI, NPZ, ZIP or FILES.
        path: The file; for FILES their folder.
        names: Of the files of a FILES place.
        top: The SOURCE it was found below.
        problem: Why it cannot be looked at; "" if it can.
    """

    kind: str
    path: Path
    top: Path
    names: tuple[str, ...] = ()
    problem: str = ""

    @property
    def root(self) -> Path:
        """The folder that series are put together in: the SOURCE, or the folder of a SOURCE that is a file."""
        return self.top.parent if self.top.is_file() else self.top

    @property
    def base(self) -> Path:
        """What paths are told relative to: the folder that `root` lies in."""
        return self.root.parent

    @property
    def source(self) -> str:
        return self.path.relative_to(self.base).as_posix()

    @property
    def num_files(self) -> int:
        return max(len(self.names), 1)


def places_below(top: Path) -> Iterator[Place]:
    """Every place at or below a path, sorted by folder and name.

    Args:
        top: A resolved path; it need not exist.
    """
    if top.is_file():
        kind = _kind(top.name)
        yield Place(kind, top if kind != FILES else top.parent, top, () if kind != FILES else (top.name,))
        return
    seen: set[str] = set()
    problems: list[Place] = []

    def note(error: OSError) -> None:
        where = Path(error.filename) if error.filename else top
        problems.append(Place(FILES, where, top, problem=f"the folder cannot be read ({error.strerror})"))

    for folder, folders, names in os.walk(top, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from _of_folder(Path(folder), sorted(name for name in names if not name.startswith(".")), top)
    yield from problems


def _of_folder(folder: Path, names: list[str], top: Path) -> Iterator[Place]:
    kinds = {name: _kind(name) for name in names}
    for name, kind in kinds.items():
        if kind != FILES:
            yield Place(kind, folder / name, top)
    rest = [name for name, kind in kinds.items() if kind == FILES and _is_file(folder / name)]
    for start in range(0, len(rest), _FILES_AT_ONCE):
        yield Place(FILES, folder, top, tuple(rest[start : start + _FILES_AT_ONCE]))


def _is_file(path: Path) -> bool:
    """Whether this is a file, or a link to something that is gone: it is told of, sockets and devices are not."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _kind(name: str) -> str:
    lower = name.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if lower.endswith(suffix)), FILES)
