"""Durable changes on disk: what is there after a crash is either the old or the new, never a part of it."""

import os
import shutil
import uuid
from pathlib import Path

from ctload.errors import CtloadError

_BESIDE = ".beside"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        CtloadError: The disk is full or read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CtloadError(f"could not be made ({error}); choose another folder, or free rights", path=folder) from error


def sync_tree(root: Path) -> None:
    """Make every file and folder below `root` durable."""
    for folder, _, files in os.walk(root):
        for name in files:
            handle = os.open(Path(folder, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(folder))


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` beside `path`, make it durable, and put it in place in one step.

    Args:
        path: Where to.
        content: All of it.
        mode: Rights of a file, less the process's umask.

    Raises:
        CtloadError: The disk is full or read-only; what was at `path` is untouched.
    """
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_BESIDE}")
    try:
        _write_and_rename(beside, path, content, mode)
    except OSError as error:
        raise CtloadError(f"could not be written ({error}); free space or rights, then try again", path=path) from error


def _write_and_rename(beside: Path, path: Path, content: bytes, mode: int) -> None:
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def is_beside(name: str) -> bool:
    """Whether this is the name of a file that `replace_file` was writing when it was killed."""
    return name.endswith(_BESIDE)


def replace_folder(new: Path, target: Path, *, aside: Path) -> None:
    """Put the durable folder `new` in place of `target`, which is kept at `aside` until `new` is there.

    A folder cannot be renamed over another one that holds files. Killed in between, `target` is missing and
    `aside` holds the old one: `restore_aside` puts it back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        target.rename(aside)
    new.rename(target)
    sync_folder(target.parent)
    sync_folder(target.parent.parent)
    if aside.exists():
        shutil.rmtree(aside)


def restore_aside(aside: Path, target: Path) -> None:
    """After a kill: put back what `replace_folder` had laid aside, or drop it when its successor is in place."""
    if target.exists():
        shutil.rmtree(aside)
        return
    aside.rename(target)
    sync_folder(target.parent)
