"""One DICOM series, from a folder or a zip, to a Volume.

Slices are ordered by their position along the slice normal; geometry is classified by `ctload.readers.slices`. The
rescale is applied slice by slice. Padding and fill values of the scanner are left as they are.
"""

import warnings
from pathlib import Path

import numpy as np
import pydicom

from ctload.errors import GeometryError, IngestError
from ctload.readers.members import Member, open_members
from ctload.readers.regular import require_regular
from ctload.readers.series import DEFAULT_KEY, Series, parse, series_of, study_id
from ctload.readers.slices import stack_of
from ctload.volume import Volume

__all__ = ["identify", "read_dicom", "study_id"]

# CT values of these RescaleTypes are HU; "US" (unspecified) is what several vendors write for plain CT.
HU_RESCALE_TYPES = ("", "HU", "HU_MOD", "US")


def read_dicom(
    path: Path, *, unit: str | None = None, series: str | None = None, key: bytes = DEFAULT_KEY, max_bytes: int
) -> Volume:
    """The one series of a folder or zip.

    Args:
        path: Folder (read with all folders below) or zip.
        unit: What the values are; None means HU, and takes CT only.
        series: SeriesInstanceUID, or the id made of it, where there are several.
        key: Of the ids in messages and in `series`.
        max_bytes: Largest sum of file sizes that is read.

    Raises:
        IngestError: MULTI_SERIES, LOCALIZER, TOO_FEW_SLICES, MISSING_RESCALE, MULTI_FRAME, NON_CT, NOT_HU,
            UNDECODABLE, TRUNCATED, NOT_A_VOLUME.
        GeometryError: What `stack_of` says; NO_GEOMETRY.
    """
    # pydicom warns of every value that bends the standard, and prints it: noise, and possibly identifiers.
    with warnings.catch_warnings(), open_members(path, max_bytes=max_bytes) as members:
        warnings.simplefilter("ignore")
        found = series_of(members, path, unit=unit or "HU", key=key)
        chosen = _chosen(found, series, path)
        return _volume(chosen, unit or "HU", path, _left_out(found, chosen))


def identify(path: Path, *, unit: str | None = None, key: bytes = DEFAULT_KEY, max_bytes: int) -> str:
    """The id of the series `read_dicom` takes from this folder or zip.

    Raises:
        IngestError: As `read_dicom`, as far as headers tell.
    """
    with warnings.catch_warnings(), open_members(path, max_bytes=max_bytes) as members:
        warnings.simplefilter("ignore")
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
            f"{len(candidates)} series may be the volume: {_listed(candidates)}; choose one with series=ID, or give "
            "each its own folder",
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


def _volume(series: Series, unit: str, path: Path, left_out: tuple[str, ...]) -> Volume:
    if series.is_multi_frame:
        raise IngestError(
            "MULTI_FRAME",
            "this is an enhanced multi-frame object; convert it to single frames or NIfTI (dcm2niix does)",
            path=path,
        )
    geometry = series.geometry
    if not all(
        np.isfinite(values).all() for values in (geometry.position_mm, geometry.orientation, geometry.spacing_mm)
    ):
        raise GeometryError(
            "NO_GEOMETRY",
            "a slice has no ImagePositionPatient, ImageOrientationPatient or PixelSpacing; fetch the original series",
            path=path,
        )
    stack = stack_of(geometry, path)
    require_regular(stack.affine, path)
    voxels, scales = _voxels([series.slices[index].member for index in stack.order], unit, path)
    one_scale = len(scales) == 1
    slope, intercept = next(iter(scales))
    return Volume(
        voxels,
        stack.affine,
        unit,
        stack.affine,
        quantum=abs(slope) if one_scale and slope else 1.0,
        quantum_offset=intercept if one_scale else 0.0,
        left_out=left_out,
    )


def _voxels(members: list[Member], unit: str, path: Path) -> tuple[np.ndarray, set[tuple[float, float]]]:
    """(D, H, W) in `unit`: int16 or int32 where all values are whole, else float32; and the rescales found."""
    scales: set[tuple[float, float]] = set()
    voxels = None
    for number, member in enumerate(members):
        dataset = parse(member, path)
        scale = _scale(dataset, unit, member, path)
        values = _rescaled(_pixels(dataset, member, path), *scale)  # (H, W)
        scales.add(scale)
        if voxels is None:
            voxels = np.empty((len(members), *values.shape), values.dtype)
        if values.dtype != voxels.dtype:
            voxels = voxels.astype(np.promote_types(values.dtype, voxels.dtype))
            if voxels.dtype == np.float64:  # int32 with float32: HU need no double precision
                voxels = voxels.astype(np.float32)
        voxels[number] = values
    assert voxels is not None
    return voxels, scales


def _scale(dataset: pydicom.Dataset, unit: str, member: Member, path: Path) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept of one slice.

    Raises:
        IngestError: MISSING_RESCALE, NOT_HU, UNDECODABLE.
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope in (None, "") or intercept in (None, ""):
        if unit != "HU":
            return 1.0, 0.0
        raise IngestError(
            "MISSING_RESCALE",
            f"file {member.name}: no RescaleSlope and RescaleIntercept, so stored values are not known to be HU; "
            "fetch the original series, or say unit='arbitrary'",
            path=path,
        )
    kind = str(dataset.get("RescaleType") or "").strip().upper()
    if unit == "HU" and kind not in HU_RESCALE_TYPES:
        raise IngestError(
            "NOT_HU", f"file {member.name}: RescaleType is {kind}, not HU; say unit='arbitrary' to keep it", path=path
        )
    scale = (float(slope), float(intercept))
    if not np.isfinite(scale).all() or scale[0] == 0:
        raise IngestError("UNDECODABLE", f"file {member.name}: rescale {scale} is no scale", path=path)
    return scale


def _pixels(dataset: pydicom.Dataset, member: Member, path: Path) -> np.ndarray:
    """Stored values (H, W) of one slice.

    Raises:
        IngestError: TRUNCATED or UNDECODABLE.
    """
    try:
        values = dataset.pixel_array
    except Exception as error:  # decoders given damaged bytes raise anything
        cut_off = "less than expected" in str(error) or "PixelData" not in dataset
        raise IngestError(
            "TRUNCATED" if cut_off else "UNDECODABLE",
            f"file {member.name}: pixels cannot be decoded ({error}); fetch it again, or install the decoder named",
            path=path,
        ) from error
    if values.shape != (dataset.Rows, dataset.Columns):
        raise IngestError("UNDECODABLE", f"file {member.name}: pixels have the shape {values.shape}", path=path)
    return values


def _rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """stored * slope + intercept as int16 or int32 where it is whole, else float32."""
    if slope != int(slope) or intercept != int(intercept) or not np.issubdtype(stored.dtype, np.integer):
        return (stored * np.float64(slope) + intercept).astype(np.float32)
    values = stored.astype(np.int64) * int(slope) + int(intercept) if abs(slope) > 1 else stored + np.int32(intercept)
    fits = values.min() >= -32768 and values.max() <= 32767
    return values.astype(np.int16 if fits else np.int32)
