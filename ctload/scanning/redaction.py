"""Texts without the names of files and folders: what a store, a report or a log may say of a source.

Readers name the file at fault, and names of files and folders often name a patient. Whatever leaves the process in
writing goes through here; the local user asks for the whole text with --show-paths.
"""

import re
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

MARK = "<name>"

# Words of this library's own messages: a folder or file of such a name identifies nobody, and they are needed.
OWN_WORDS = frozenset(
    {
        "affine", "after", "all", "axis", "beside", "bytes", "change", "choose", "cut", "damaged", "declares",
        "dicom", "differ", "distance", "end", "ends", "error", "fetch", "file", "files", "first", "folder",
        "frame", "frames", "gap", "gaps", "grid", "gzip", "header", "headers", "hold", "holds", "image",
        "irregular", "label", "labels", "last", "lies", "map", "missing", "most", "nifti", "none", "objects",
        "one", "original", "orientation", "path", "phase", "pixel", "pixels", "position", "regular", "rescale",
        "rule", "scale", "scan", "scans", "series", "shape", "sheared", "slice", "slices", "spacing", "stack",
        "study", "table", "tilt", "truncated", "unit", "values", "volume", "voxel", "voxels", "whole", "with",
        "zip",
    }
)  # fmt: skip

# Readers say "file NAME: what is wrong with it" of a member of a source.
_A_FILE = re.compile(r"\bfile \S(?:(?!: ).)*: ")

# Shorter names identify nobody, and would cut holes into every sentence.
MIN_LENGTH = 3


def redacted(text: str, names: Iterable[str]) -> str:
    """The text with MARK in place of each name that stands in it as a word of its own, and of what readers call a file.

    Example:
        >>> redacted("file DOE^JANE/IM3.dcm: cut off", ["DOE^JANE/IM3.dcm"])
        'file <name>: cut off'
    """
    text = _A_FILE.sub(f"file {MARK}: ", text)
    named = {name for name in names if len(name) >= MIN_LENGTH and name in text and name.lower() not in OWN_WORDS}
    found = sorted(named, key=len, reverse=True)
    if not found:
        return text
    return re.sub("|".join(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])" for name in found), MARK, text)


def names_in(paths: Iterable[Path], files: Collection[str] = ()) -> set[str]:
    """Every name that may betray these sources: of the paths, of their folders, and of what lies in a folder or zip.

    Args:
        paths: Files, folders and zips.
        files: Names of files below them; without any, folders are searched.
    """
    names: set[str] = set()
    below = set(files)
    for path in paths:
        for way in {path, path.absolute(), path.resolve()}:
            names |= {str(way), *way.parts, way.stem, way.stem.removesuffix(".nii")}
        below |= _inside(path, is_known=bool(files))
    for name in below:
        names |= {name, *name.split("/"), Path(name).stem}
    return names - {"", "/"}


def _inside(path: Path, *, is_known: bool) -> set[str]:
    try:
        if path.is_dir() and not is_known:  # a folder may hold a million files of other series
            return {file.relative_to(path).as_posix() for file in path.rglob("*")}
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        pass
    return set()
