"""The door for sources: what a path holds, and one source as a Volume.

nibabel, isal and pydicom are imported only where a source of their kind is read.
"""

import importlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from ctload.errors import CtloadError, GeometryError, IngestError
from ctload.readers.ct_rate import Correction
from ctload.readers.joining import joined
from ctload.readers.members import starts_as_dicom
from ctload.readers.volume import UNITS, Volume
from ctload.readers.walk import FILE_KINDS

# Largest uncompressed source that is read without being asked: 2048 slices of 1024 x 1024 in 32 bits.
MAX_BYTES = 8 << 30

NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Source:
    """One study to be.

    Attributes:
        study: Its id: the stem of a NIfTI or .npz file, or the keyed hash of a SeriesInstanceUID.
        relative: Path relative to what `find_sources` was given, "/" between folders.
        path: Where it is.
        kind: "nifti", "npz", "dicom" (a folder) or "dicom-zip".
    """

    study: str
    relative: str
    path: Path
    kind: str


def find_sources(
    path: Path, *, unit: str | None = None, key: bytes | None = None, max_bytes: int = MAX_BYTES
) -> list[Source]:
    """Every study at a path, sorted by where it lies. An id never depends on which other sources there are.

    A .nii, .nii.gz or .npz (of RAD-ChestCT) is one study. A zip is one DICOM series. A folder that itself holds DICOM
    files is one DICOM series, with all folders below; any other folder is searched. Hidden files are not looked at.

    A DICOM source that is refused (no volume, several series, damaged) is listed all the same, under an id made of
    its relative path: `read_source` then raises what is wrong with it.

    Args:
        path: File or folder.
        unit: What will be read; None and "HU" look for CT series.
        key: Of the ids made from SeriesInstanceUIDs; None is the library's own, which is no secret.
        max_bytes: Largest uncompressed source.

    Raises:
        IngestError: NOT_A_VOLUME where nothing is found.
    """
    path = Path(path)
    found = list(_walk(path))
    if not found:
        what = "no .nii, .nii.gz, .npz, zip or DICOM file here; does the path exist and hold one?"
        raise IngestError("NOT_A_VOLUME", what, path=path)
    sources = []
    for place, kind in found:
        relative = place.name if place == path else place.relative_to(path).as_posix()
        study = file_stem(place) if kind in FILE_KINDS else _dicom_id(place, relative, unit, key, max_bytes)
        sources.append(Source(study, relative, place, kind))
    return sources


def read_source(
    path: Path,
    *,
    unit: str | None = None,
    series: str | None = None,
    key: bytes | None = None,
    files: Collection[str] | None = None,
    channels: Mapping[str, Path] | None = None,
    labels: Mapping[str, Path] | None = None,
    correction: Correction | None = None,
    resample_irregular: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Volume:
    """One source as a Volume, in its own orientation, rescaled to `unit`.

    Args:
        path: A .nii, a .nii.gz, a folder or a zip of DICOM, a .npz of RAD-ChestCT.
        unit: "HU", "SUV" or "arbitrary"; None means HU and refuses what cannot be HU.
        series: Which series of a DICOM source, by SeriesInstanceUID or id, where there are several.
        key: Of the ids of series; None is the library's own.
        files: Names of the files of a DICOM source to read, relative to `path`; None reads all.
        channels: Name -> source of a further channel on the same grid, in the same unit.
        labels: Name -> label map on the same grid, whole numbers 0..65535.
        correction: Rescale and affine of a NIfTI file whose header lacks them (`ctload.readers.ct_rate`).
        resample_irregular: Correct gantry tilt and varying gaps of DICOM slices by interpolation, instead of refusing.
        max_bytes: Largest uncompressed size of each source.

    Raises:
        IngestError, GeometryError: With the code of what is wrong with the source.
        CtloadError: The reader of this kind is not installed, or `unit` is none.
    """
    path = Path(path)
    if unit is not None and unit not in UNITS:
        raise CtloadError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}", path=path)
    options = _Options(unit, key, resample_irregular, max_bytes)
    volume = _read_one(path, options, series, correction, files)
    more = {name: _read_one(Path(place), options) for name, place in (channels or {}).items()}
    as_stored = replace(options, unit="arbitrary")
    maps = {name: _read_one(Path(place), as_stored) for name, place in (labels or {}).items()}
    return joined(volume, more, maps, path) if more or maps else volume


def file_stem(path: Path) -> str:
    """The name of a file that is one study, without .nii, .nii.gz or .npz."""
    return re.sub(r"\.(nii(\.gz)?|npz)$", "", path.name, flags=re.IGNORECASE)


def _dicom_id(place: Path, relative: str, unit: str | None, key: bytes | None, max_bytes: int) -> str:
    dicom = _reader("dicom", place)
    try:
        return dicom.identify(place, unit=unit, max_bytes=max_bytes, **_key(key))
    except (IngestError, GeometryError):
        return dicom.study_id(relative, **_key(key))


@dataclass(frozen=True)
class _Options:
    unit: str | None
    key: bytes | None
    resample_irregular: bool
    max_bytes: int


def _read_one(
    path: Path,
    options: _Options,
    series: str | None = None,
    correction: Correction | None = None,
    files: Collection[str] | None = None,
) -> Volume:
    if not path.exists():
        raise IngestError("NOT_A_VOLUME", "no such file or folder", path=path)
    kind = _kind(path)
    if kind == "nifti":
        nifti = _reader("nifti", path)
        return nifti.read_nifti(path, unit=options.unit, correction=correction, max_bytes=options.max_bytes)
    if kind == "npz":
        return _reader("npz", path).read_npz(path, unit=options.unit, max_bytes=options.max_bytes)
    if kind in ("dicom-zip", "folder"):
        return _reader("dicom", path).read_dicom(
            path,
            unit=options.unit,
            series=series,
            files=files,
            resample_irregular=options.resample_irregular,
            max_bytes=options.max_bytes,
            **_key(options.key),
        )
    raise IngestError(
        "NOT_A_VOLUME", "neither .nii, .nii.gz, .npz, folder nor zip; a lone DICOM file is no volume", path=path
    )


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if name.endswith(".npz"):
        return "npz"
    return "dicom-zip" if name.endswith(".zip") else ""


def _walk(path: Path):
    """(place, kind) of every source at or below `path`, sorted."""
    kind = _kind(path)
    if kind in (*FILE_KINDS, "dicom-zip") and path.is_file():
        yield path, kind
    if kind != "folder":
        return
    inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in inside if entry.is_file() and not _kind(entry)]
    if any(starts_as_dicom(file) for file in files if file.name.upper() != "DICOMDIR"):
        yield path, "dicom"
        return
    for entry in inside:
        yield from _walk(entry)


def _key(key: bytes | None) -> dict[str, bytes]:
    return {} if key is None else {"key": key}


def _reader(kind: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(f"ctload.readers.{kind}")
    except ModuleNotFoundError as error:
        raise CtloadError(f'{error.name} is not installed; pip install "ctload[{kind}]"', path=path) from error
