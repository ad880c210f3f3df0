"""The slices of one series as frames in any order: where each lies, and how its values are read.

Single-frame objects are decoded one by one as they are asked for; an enhanced multi-frame object at once, with the
geometry and rescale of each frame from its functional groups (DICOM PS3.3 C.7.6.16).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from ctload.errors import GeometryError, IngestError
from ctload.readers.damage import typed_damage
from ctload.readers.members import Member
from ctload.readers.pixels import is_lossy, rescale_of, stored_pixels
from ctload.readers.rescale import rescaled
from ctload.readers.series import Series, parse
from ctload.readers.slices import SliceGeometry


@dataclass(frozen=True)
class Frame:
    """One slice, decoded: values (H, W) in the unit, the rescale that gave them, and whether they were lossy."""

    values: np.ndarray
    scale: tuple[float, float]
    is_lossy: bool


@dataclass(frozen=True)
class Frames:
    """N slices: their geometry, and `read(index)` for index 0..N-1."""

    geometry: SliceGeometry
    read: Callable[[int], Frame]


def frames_of(series: Series, unit: str, path: Path, *, max_bytes: int) -> Frames:
    """The frames of a series.

    Args:
        series: Its objects.
        unit: What the values are.
        path: The source, for messages.
        max_bytes: Largest volume, in 32 bits.

    Raises:
        IngestError: MULTI_FRAME for several multi-frame objects in one series; UNDECODABLE, TRUNCATED.
        GeometryError: NO_GEOMETRY for a slice without position, orientation or spacing.
    """
    if not series.is_multi_frame:
        geometry = _complete(series.geometry, path)
        require_size(geometry, max_bytes, path)
        return Frames(geometry, _single_reader(series, unit, path))
    if len(series.slices) != 1:
        raise IngestError(
            "MULTI_FRAME",
            f"{len(series.slices)} objects, some of them multi-frame, in one series; convert it to single frames first",
            path=path,
        )
    return _multi_frame(series.slices[0].member, unit, path, max_bytes)


def require_size(geometry: SliceGeometry, max_bytes: int, path: Path) -> None:
    """Refuse what the headers declare to be too large, before pixels are decoded.

    Raises:
        IngestError: UNDECODABLE.
    """
    num_bytes = 4 * int(geometry.shape.astype(object).prod(axis=1).sum())
    if num_bytes > max_bytes:
        raise IngestError(
            "UNDECODABLE",
            f"the headers declare {num_bytes / 2**30:.1f} GiB of pixels, the limit is {max_bytes / 2**30:.1f} GiB",
            path=path,
        )


def geometry_of_frames(header: pydicom.Dataset, path: Path) -> SliceGeometry:
    """Where the frames of a multi-frame object lie, from its header alone.

    Raises:
        GeometryError: NO_GEOMETRY.
    """
    return _frame_geometry(_groups_of(header, path), (int(header.Rows), int(header.Columns)), path)


def _groups_of(dataset: pydicom.Dataset, path: Path) -> list["_Groups"]:
    """The functional groups of each frame. Frames are counted by what the object has, not by what it declares."""
    declared, own = dataset.get("NumberOfFrames") or 1, dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(own) != int(declared):
        raise GeometryError(
            "NO_GEOMETRY",
            f"{declared} frames are declared and {len(own)} have functional groups with a position; convert it to "
            "single frames first",
            path=path,
        )
    return [_Groups(dataset, index) for index in range(len(own))]


def _complete(geometry: SliceGeometry, path: Path) -> SliceGeometry:
    if all(np.isfinite(part).all() for part in (geometry.position_mm, geometry.orientation, geometry.spacing_mm)):
        return geometry
    raise GeometryError(
        "NO_GEOMETRY",
        "a slice has no ImagePositionPatient, ImageOrientationPatient or PixelSpacing; fetch the original series",
        path=path,
    )


def _single_reader(series: Series, unit: str, path: Path) -> Callable[[int], Frame]:
    def read(index: int) -> Frame:
        member = series.slices[index].member
        dataset = parse(member, path)
        with typed_damage(member, path):
            stored = stored_pixels(dataset, member, path)[0]
            scale = rescale_of(dataset, unit, member, path)
            return Frame(rescaled(stored, *scale), scale, is_lossy(dataset))

    return read


def _multi_frame(member: Member, unit: str, path: Path, max_bytes: int) -> Frames:
    dataset = parse(member, path)
    with typed_damage(member, path):
        groups = _groups_of(dataset, path)
        geometry = _frame_geometry(groups, (int(dataset.Rows), int(dataset.Columns)), path)
        require_size(geometry, max_bytes, path)
        stored, lossy = stored_pixels(dataset, member, path), is_lossy(dataset)
        scales = [rescale_of(group.item("PixelValueTransformationSequence"), unit, member, path) for group in groups]
    return Frames(geometry, lambda index: Frame(rescaled(stored[index], *scales[index]), scales[index], lossy))


def _frame_geometry(groups: list["_Groups"], shape: tuple[int, int], path: Path) -> SliceGeometry:
    try:
        position_mm = [group.numbers("PlanePositionSequence", "ImagePositionPatient", 3) for group in groups]
        orientation = [group.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6) for group in groups]
        spacing_mm = [group.numbers("PixelMeasuresSequence", "PixelSpacing", 2) for group in groups]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise GeometryError(
            "NO_GEOMETRY",
            "a frame's functional groups lack its position, orientation or spacing; convert it to single frames first",
            path=path,
        ) from error
    shapes = np.tile(shape, (len(groups), 1))
    return _complete(SliceGeometry(np.array(position_mm), np.array(orientation), np.array(spacing_mm), shapes), path)


class _Groups:
    """The functional groups of one frame: its own, else those all frames share."""

    def __init__(self, dataset: pydicom.Dataset, index: int) -> None:
        own = dataset.get("PerFrameFunctionalGroupsSequence") or []
        shared = dataset.get("SharedFunctionalGroupsSequence") or []
        self._places = [sequence[number] for sequence, number in ((own, index), (shared, 0)) if len(sequence) > number]

    def item(self, name: str) -> pydicom.Dataset:
        """The item of a group's sequence; an empty data set where there is none."""
        for place in self._places:
            if place.get(name):
                return place[name].value[0]
        return pydicom.Dataset()

    def numbers(self, sequence: str, name: str, count: int) -> list[float]:
        values = [float(value) for value in self.item(sequence)[name].value]
        if len(values) != count:
            raise ValueError(name)
        return values
