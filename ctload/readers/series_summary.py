"""The objects of one DICOM series to its row in the table of series: one grid, or the code of why there is none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctload.errors import CodedError
from ctload.readers.phase import phase_words
from ctload.readers.regular import require_regular
from ctload.readers.scanned import ScannedSeries
from ctload.readers.series import Series, one_series, study_id
from ctload.readers.series_facts import ObjectFacts
from ctload.readers.slices import SliceGeometry, directions_of, order_of, stack_of

_NO_SPACING = (None, None, None)


def summary_of(
    objects: Sequence[ObjectFacts],
    *,
    path: Path,
    source: str,
    kind: str,
    files: tuple[str, ...],
    unit: str | None,
    key: bytes,
) -> ScannedSeries:
    """One series as a row.

    Args:
        objects: Its objects.
        path: What holds them: a folder or a zip.
        source: The same, relative to what was scanned.
        kind: "dicom" or "dicom-zip".
        files: Their names below `path`.
        unit: What will be read; None and "HU" look for CT.
        key: Of the ids.
    """
    first = objects[0]
    uid = first.instance.series_uid
    series = one_series(uid, [each.instance for each in objects], unit=unit or "HU", key=key)
    taken = {instance.member.name for instance in series.slices}
    slices = [each for each in objects if each.instance.member.name in taken] or list(objects)
    geometry, code, reason = _geometry(series, slices, path)
    spacing_mm = _NO_SPACING if geometry is None else _spacing_mm(geometry, path)
    thickness = [each.thickness_mm for each in slices if each.thickness_mm is not None]
    one = slices[0]
    study_uid = first.texts["study_uid"]
    return ScannedSeries(
        study=study_id(study_uid, key) if study_uid else series.study,
        series=series.study,
        kind=kind,
        path=path,
        source=source,
        patient=study_id(f"patient {first.texts['patient_id']}", key) if first.texts["patient_id"] else "",
        modality=one.instance.modality,
        description=one.texts["description"],
        kernel=one.texts["kernel"],
        phase=phase_words(one.texts["description"], one.texts["protocol"]),
        num_slices=sum(each.instance.num_frames for each in slices),
        height=one.instance.rows,
        width=one.instance.columns,
        spacing_z_mm=spacing_mm[0],
        spacing_y_mm=spacing_mm[1],
        spacing_x_mm=spacing_mm[2],
        thickness_mm=max(thickness) if thickness else None,
        code=series.code or code,
        reason=f"{len(objects)} object(s), no volume" if series.code else reason,
        files=files,
        left_out=tuple(f"{count} object(s) of the series: {name}" for name, count in sorted(series.left_out.items())),
        study_uid=study_uid,
        series_uid=uid,
        patient_id=first.texts["patient_id"],
        accession=first.texts["accession"],
        study_date=first.texts["study_date"],
    )


def _geometry(series: Series, slices: Sequence[ObjectFacts], path: Path) -> tuple[SliceGeometry | None, str, str]:
    """Where the slices lie, and the code and reason of why they are no grid."""
    if series.code:
        return None, "", ""
    geometry = series.geometry
    if series.is_multi_frame:
        if len(slices) != 1:
            return None, "MULTI_FRAME", f"{len(slices)} objects, some of them multi-frame, in one series"
        if slices[0].frames is None:
            return None, slices[0].frames_code, "the frames' functional groups lack position, orientation or spacing"
        geometry = slices[0].frames
    parts = (geometry.position_mm, geometry.orientation, geometry.spacing_mm)
    if not all(np.isfinite(part).all() for part in parts):
        return None, "NO_GEOMETRY", "a slice has no ImagePositionPatient, ImageOrientationPatient or PixelSpacing"
    try:
        require_regular(stack_of(geometry, path).affine, path)
    except CodedError as error:
        return geometry, error.code, error.message
    return geometry, "", ""


def _spacing_mm(geometry: SliceGeometry, path: Path) -> tuple[float | None, float | None, float | None]:
    """(z, y, x): z the median gap along the normal, None where slices share no order."""
    row_mm, column_mm = (round(float(value), 6) for value in geometry.spacing_mm[0])
    try:
        order = order_of(geometry, path)
        normal = directions_of(geometry.orientation[0], path)[2]
    except CodedError:
        return None, row_mm, column_mm
    gaps_mm = np.diff((geometry.position_mm @ normal)[order])
    return round(float(np.median(gaps_mm)), 6), row_mm, column_mm
