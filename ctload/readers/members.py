"""The files of a source, from a folder or a zip, by name and bytes; and what a file is by its first bytes.

Sizes are checked against a limit before memory is taken. It knows file systems and zips, no image format.
"""

import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ctload.errors import IngestError

# A zip member that claims to unpack to more than this many times its size is a bomb (deflate's own limit is 1032).
MAX_ZIP_RATIO = 1032

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Member:
    """One file of a source.

    Attributes:
        name: Path relative to the source, "/" between folders.
        size: Uncompressed bytes.
        open: Gives a stream of the content, for headers. A zip's CRC-32 is checked only at the end of a stream.
        read: Gives the whole content, checked (CRC-32 in a zip).
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    read: Callable[[], bytes]


@contextmanager
def open_members(path: Path, *, max_bytes: int, only: Collection[str] | None = None) -> Iterator[list[Member]]:
    """The regular files of a folder (hidden ones left out) or of a zip, sorted by name.

    Args:
        path: Folder or zip.
        max_bytes: Largest sum of uncompressed sizes.
        only: Names of the files to take; None takes all. A folder is then not searched.

    Raises:
        IngestError: UNDECODABLE for no or a damaged zip, or for more than `max_bytes`; TRUNCATED for a zip whose
            directory is cut off.
    """
    if path.is_dir():
        found = _folder_members(path) if only is None else [_member(path, name) for name in only]
        yield _limited(found, path, max_bytes)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        cut_off = "not a zip" in str(error)
        raise IngestError(
            "TRUNCATED" if cut_off else "UNDECODABLE",
            f"the zip's directory cannot be read ({error}); fetch it again",
            path=path,
        ) from error
    with archive:
        found = _zip_members(archive, path)
        if only is not None:
            wanted = set(only)
            found = [member for member in found if member.name in wanted]
            if len(found) != len(wanted):
                raise _gone(path)
        yield _limited(found, path, max_bytes)


def is_dicom(start: bytes) -> bool:
    """Whether a file that begins so is DICOM: the mark at byte 128, or (old files) a first element of group 2 or 8."""
    if start[128:132] == b"DICM":
        return True
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    return len(start) >= 132 and group in (2, 8) and element <= 0x60


def starts_as_dicom(path: Path) -> bool:
    """`is_dicom` for a file on disk."""
    with path.open("rb") as file:
        return is_dicom(file.read(132))


def _limited(members: list[Member], path: Path, max_bytes: int) -> list[Member]:
    total = sum(member.size for member in members)
    if total > max_bytes:
        raise IngestError(
            "UNDECODABLE",
            f"{len(members)} files of {total / 2**30:.1f} GiB in all, the limit is {max_bytes / 2**30:.1f} GiB; give "
            "one series at a time, or raise max_bytes",
            path=path,
        )
    return sorted(members, key=lambda member: member.name)


def _folder_members(folder: Path) -> list[Member]:
    members = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            members.append(Member(relative.as_posix(), path.stat().st_size, partial(path.open, "rb"), path.read_bytes))
    return members


def _member(folder: Path, name: str) -> Member:
    path = folder / name
    try:
        return Member(name, path.stat().st_size, partial(path.open, "rb"), path.read_bytes)
    except FileNotFoundError as error:
        raise _gone(folder) from error


def _gone(path: Path) -> IngestError:
    return IngestError("TRUNCATED", "a file of the series is gone since it was scanned; fetch it again", path=path)


def _zip_members(archive: zipfile.ZipFile, path: Path) -> list[Member]:
    members = []
    for info in archive.infolist():
        if not info.filename:
            raise IngestError("UNDECODABLE", "a zip member has no name; the zip is damaged", path=path)
        if info.is_dir() or any(part.startswith((".", "__MACOSX")) for part in info.filename.split("/")):
            continue
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise IngestError("UNDECODABLE", "a zip member is neither stored nor deflated; unpack it first", path=path)
        if info.file_size > MAX_ZIP_RATIO * max(info.compress_size, 1):
            raise IngestError(
                "UNDECODABLE",
                f"a member of {info.compress_size} bytes claims to unpack to {info.file_size}; this is no honest zip",
                path=path,
            )
        members.append(
            Member(
                info.filename, info.file_size, partial(archive.open, info), partial(_read_zipped, archive, info, path)
            )
        )
    return members


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(info.file_size)  # bounded while it inflates; CRC-32 checked at the end
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise IngestError("UNDECODABLE", f"a zip member is damaged ({error}); fetch it again", path=path) from error
    except (RuntimeError, NotImplementedError) as error:
        raise IngestError(
            "UNDECODABLE", f"a zip member cannot be unpacked ({error}); unpack the zip first", path=path
        ) from error
