"""One DICOM series, from a folder or a zip, to a Volume.

Slices are ordered by their position along the slice normal; geometry is classified by `ctload.readers.slices`. The
rescale is applied slice by slice. Padding and fill values of the scanner are left as they are.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctload.errors import GeometryError, IngestError
from ctload.readers.damage import quietly
from ctload.readers.frames import Frames, frames_of
from ctload.readers.irregular import straightened
from ctload.readers.members import open_members
from ctload.readers.regular import require_regular
from ctload.readers.series import DEFAULT_KEY, Series, series_of, study_id
from ctload.readers.slices import order_of, stack_of
from ctload.readers.volume import Volume

__all__ = ["identify", "read_dicom", "study_id"]

# Where no slice reaches after a tilt was corrected.
AIR_HU = -1024.0


def read_dicom(
    path: Path,
    *,
    unit: str | None = None,
    series: str | None = None,
    key: bytes = DEFAULT_KEY,
    files: Collection[str] | None = None,
    resample_irregular: bool = False,
    max_bytes: int,
) -> Volume:
    """The one series of a folder or zip.

    Args:
        path: Folder (read with all folders below) or zip.
        unit: What the values are; None means HU, and takes CT only.
        series: SeriesInstanceUID, or the id made of it, where there are several.
        key: Of the ids in messages and in `series`.
        files: Names of the files to read, relative to `path`; None reads all.
        resample_irregular: Correct gantry tilt and varying gaps by interpolation (`ctload.readers.irregular`).
        max_bytes: Largest sum of file sizes that is read, and largest volume.

    Raises:
        IngestError: MULTI_SERIES, LOCALIZER, TOO_FEW_SLICES, MISSING_RESCALE, MULTI_FRAME, NON_CT, NOT_HU,
            UNDECODABLE, TRUNCATED, NOT_A_VOLUME.
        GeometryError: What `stack_of` says; NO_GEOMETRY.
    """
    with quietly(), open_members(path, max_bytes=max_bytes, only=files) as members:
        found = series_of(members, path, unit=unit or "HU", key=key)
        chosen = _chosen(found, series, path)
        notes = _left_out(found, chosen)
        return _volume(chosen, unit or "HU", path, notes, resample_irregular=resample_irregular, max_bytes=max_bytes)


def identify(path: Path, *, unit: str | None = None, key: bytes = DEFAULT_KEY, max_bytes: int) -> str:
    """The id of the series `read_dicom` takes from this folder or zip.

    Raises:
        IngestError: As `read_dicom`, as far as headers tell.
    """
    with quietly(), open_members(path, max_bytes=max_bytes) as members:
        return _chosen(series_of(members, path, unit=unit or "HU", key=key), None, path).study


def _chosen(found: list[Series], wanted: str | None, path: Path) -> Series:
    """The series asked for, or the only one that may be a volume."""
    if wanted is not None:
        chosen = [series for series in found if wanted in (series.study, series.uid)]
        if not chosen:
            raise IngestError("NOT_A_VOLUME", f"no series {wanted} here; there are {_listed(found)}", path=path)
        _require_volume(chosen, path)
        return chosen[0]
    candidates = [series for series in found if not series.code]
    if len(candidates) > 1:
        raise IngestError(
            "MULTI_SERIES",
            f"{len(candidates)} series may be the volume: {_listed(candidates)}; choose with "
            "--series-rule, or give each a row in a table",
            path=path,
        )
    _require_volume(candidates or found, path)
    return candidates[0]


def _require_volume(found: list[Series], path: Path) -> None:
    if any(not series.code for series in found):
        return
    # The reason nearest to a volume is the one that helps.
    order = ("TOO_FEW_SLICES", "LOCALIZER", "NON_CT", "NOT_A_VOLUME")
    code = min((series.code for series in found), key=order.index)
    raise IngestError(
        code,
        f"no series here is a CT volume: {_listed(found)}; a volume needs at least 3 axial slices of one modality "
        "(for MR or PET say unit='arbitrary')",
        path=path,
    )


def _listed(found: list[Series]) -> str:
    return ", ".join(
        f"{series.study} ({len(series.slices)} slices{', ' + series.code if series.code else ''})" for series in found
    )


def _left_out(found: list[Series], chosen: Series) -> tuple[str, ...]:
    sentences = [f"{count} object(s) of the series: {code}" for code, count in sorted(chosen.left_out.items())]
    sentences += [f"series {series.study}: {series.code}" for series in found if series is not chosen]
    return tuple(sentences)


def _volume(
    series: Series, unit: str, path: Path, left_out: tuple[str, ...], *, resample_irregular: bool, max_bytes: int
) -> Volume:
    frames = frames_of(series, unit, path, max_bytes=max_bytes)
    try:
        stack = stack_of(frames.geometry, path)
    except GeometryError as error:
        if not resample_irregular or error.code not in ("GANTRY_TILT", "NON_UNIFORM"):
            raise
        return _straightened(frames, unit, path, (*left_out, f"resampled to even, upright slices: {error.code}"))
    require_regular(stack.affine, path)
    read = _read(frames, stack.order)
    one_scale = len(read.scales) == 1
    slope, intercept = next(iter(read.scales))
    return Volume(
        read.voxels,
        stack.affine,
        unit,
        stack.affine,
        quantum=abs(slope) if one_scale else 1.0,
        quantum_offset=intercept if one_scale else 0.0,
        left_out=left_out + read.notes,
    )


def _straightened(frames: Frames, unit: str, path: Path, left_out: tuple[str, ...]) -> Volume:
    order = order_of(frames.geometry, path)
    read = _read(frames, order)
    fill = AIR_HU if unit == "HU" else float(read.voxels.min())
    regular = straightened(read.voxels, frames.geometry, order, fill, path)
    require_regular(regular.affine, path)
    return Volume(regular.voxels, regular.affine, unit, regular.affine, left_out=left_out + read.notes)


@dataclass(frozen=True)
class _Read:
    """Decoded slices (D, H, W): int16 or int32 where all values are whole, else float32; and what was found."""

    voxels: np.ndarray
    scales: set[tuple[float, float]]
    notes: tuple[str, ...]


def _read(frames: Frames, order: np.ndarray) -> _Read:
    first = frames.read(int(order[0]))
    voxels = np.empty((len(order), *first.values.shape), first.values.dtype)
    scales, num_lossy = set(), 0
    for number, index in enumerate(order):
        frame = first if number == 0 else frames.read(int(index))
        dtype = np.promote_types(frame.values.dtype, voxels.dtype)
        if dtype != voxels.dtype:
            # int32 beside float32 promotes to float64, which HU do not need.
            voxels = voxels.astype(np.float32 if dtype == np.float64 else dtype)
        voxels[number] = frame.values
        scales.add(frame.scale)
        num_lossy += frame.is_lossy
    notes = (f"{num_lossy} slice(s) went through lossy compression: values are approximate",) if num_lossy else ()
    return _Read(voxels, scales, notes)
