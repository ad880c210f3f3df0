"""DICOM headers to series: which files belong together, which of them are slices of a volume, and what the rest is.

What enters: members of a folder or zip. What leaves: Series, each with its slices' facts as plain values or the code of
why it is no volume. Pixels are not decoded here. Only pydicom's parser is used; its objects do not leave this file.
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
)

from ctload.errors import IngestError
from ctload.readers.damage import typed_damage
from ctload.readers.members import DICOM_SUFFIXES, Member, is_dicom
from ctload.readers.slices import MIN_SLICES, SliceGeometry

# Not a secret: it only keeps ids of this library apart from other hashes. A store packs with its own key.
DEFAULT_KEY = b"ctload"

# What has slices; any of these may be read in another unit than HU.
VOLUME_MODALITIES = ("CT", "MR", "PT", "NM")

# Largest data set in the deflated syntax; the others are as large as their files.
MAX_INFLATED_BYTES = 1 << 29
_INFLATED_AT_ONCE = 1 << 20
_META_BYTES = 4096  # the meta information lies within

_NO_VALUES = (np.nan,) * 6


@dataclass(frozen=True)
class Instance:
    """One DICOM object, as far as the choice of a series and its geometry need it. Missing numbers are NaN."""

    member: Member
    series_uid: str
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    num_frames: int
    samples_per_pixel: int
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    def left_out_as(self, unit: str) -> str:
        """The code of why this object is no slice of a volume in `unit`; "" if it is one."""
        if not self.rows or not self.columns:
            return "NOT_A_VOLUME"
        if self.samples_per_pixel != 1 or self.sop_class.startswith(SecondaryCaptureImageStorage):
            return "NON_CT"
        if (self.modality == "CT") != (unit == "HU") and (
            unit == "HU" or self.modality in ("SEG", "RTDOSE", "CR", "DX")
        ):
            return "NON_CT"
        if {"LOCALIZER", "SCOUT"} & set(self.image_type):
            return "LOCALIZER"
        return ""

    @property
    def is_multi_frame(self) -> bool:
        return self.num_frames > 1 or self.sop_class in (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


@dataclass(frozen=True)
class Series:
    """Objects of one SeriesInstanceUID.

    Attributes:
        study: Keyed short hash of the SeriesInstanceUID.
        slices: What may be stacked.
        code: Why this series is no volume, as far as headers of single slices say; "" if it may be one.
        left_out: Code -> number of its objects that are no slices.
    """

    study: str
    uid: str
    slices: tuple[Instance, ...]
    code: str
    left_out: Counter

    @property
    def is_multi_frame(self) -> bool:
        return any(instance.is_multi_frame for instance in self.slices)

    @property
    def geometry(self) -> SliceGeometry:
        return SliceGeometry(
            np.array([instance.position_mm for instance in self.slices]),
            np.array([instance.orientation for instance in self.slices]),
            np.array([instance.spacing_mm for instance in self.slices]),
            np.array([(instance.rows, instance.columns) for instance in self.slices]),
        )


def study_id(series_uid: str, key: bytes = DEFAULT_KEY) -> str:
    """The id of a series: 16 hex digits of BLAKE2b, keyed. The same UID and key always give the same id."""
    return hashlib.blake2b(series_uid.encode(), key=key[:64], digest_size=8).hexdigest()


def series_of(members: Iterable[Member], path: Path, *, unit: str, key: bytes) -> list[Series]:
    """All series among these files, by id. Files that are no DICOM are ignored, damaged DICOM is not.

    Args:
        members: Files of one source.
        path: The source, for messages.
        unit: "HU" takes CT only; other units take every modality with slices.
        key: Of the ids.

    Raises:
        IngestError: UNDECODABLE for a DICOM file that cannot be parsed, NOT_A_VOLUME where no file is DICOM.
    """
    groups: dict[str, list[Instance]] = {}
    for member in members:
        with typed_damage(member, path):
            header = read_header(member, path)
            instance = None if header is None else instance_of(header, member, path)
        if instance is not None:
            groups.setdefault(instance.series_uid, []).append(instance)
    if not groups:
        raise IngestError(
            "NOT_A_VOLUME", "no DICOM file here; give a folder or zip of one series, or a .nii(.gz)", path=path
        )
    found = [one_series(uid, instances, unit=unit, key=key) for uid, instances in groups.items()]
    return sorted(found, key=lambda series: series.study)


def one_series(uid: str, instances: list[Instance], *, unit: str, key: bytes) -> Series:
    """The objects of one SeriesInstanceUID as a series, and the code of why it is no volume."""
    codes = [instance.left_out_as(unit) for instance in instances]
    slices = tuple(instance for instance, code in zip(instances, codes, strict=True) if not code)
    left_out = Counter(code for code in codes if code)
    code = ""
    if not slices:
        code = left_out.most_common(1)[0][0]
    elif sum(max(instance.num_frames, 1) for instance in slices) < MIN_SLICES:
        code = "TOO_FEW_SLICES"
    return Series(study_id(uid, key), uid, slices, code, left_out)


def instance_of(header: pydicom.Dataset, member: Member, path: Path) -> Instance | None:
    """The facts of one header; None for a DICOMDIR.

    Raises:
        IngestError: UNDECODABLE without a SeriesInstanceUID; whatever else a damaged header raises is not typed.
    """
    sop_class = _text(header, "SOPClassUID") or str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    if sop_class == MediaStorageDirectoryStorage:
        return None
    series_uid = _text(header, "SeriesInstanceUID")
    if not series_uid:
        raise _damaged("it has no SeriesInstanceUID", member, path)
    return Instance(
        member,
        series_uid,
        sop_class,
        modality=_text(header, "Modality"),
        image_type=tuple(str(part).strip().upper() for part in _values(header, "ImageType")),
        rows=int(header.get("Rows") or 0),
        columns=int(header.get("Columns") or 0),
        num_frames=int(header.get("NumberOfFrames") or 1),
        samples_per_pixel=int(header.get("SamplesPerPixel") or 1),
        position_mm=_numbers(header, "ImagePositionPatient", 3),
        orientation=_numbers(header, "ImageOrientationPatient", 6),
        spacing_mm=_numbers(header, "PixelSpacing", 2),
    )


def read_header(member: Member, path: Path) -> pydicom.FileDataset | None:
    """A file's data set without pixels; None if it is no DICOM.

    Raises:
        IngestError: UNDECODABLE for a file that is named as DICOM and is none.
    """
    header = _header(member, path)
    if header is None and member.name.lower().endswith(DICOM_SUFFIXES):
        raise _damaged("it is named as DICOM and is none", member, path)
    return header


def parse(member: Member, path: Path) -> pydicom.FileDataset:
    """A DICOM file's data set, pixels included.

    Raises:
        IngestError: UNDECODABLE.
    """
    content = member.read()
    with typed_damage(member, path):
        _require_honest_deflate(content[:_META_BYTES], BytesIO(content), member, path)
        return pydicom.dcmread(BytesIO(content), force=True)


def _header(member: Member, path: Path) -> pydicom.FileDataset | None:
    """A file's data set without pixels; None if it is no DICOM."""
    with member.open() as file:
        start = file.read(_META_BYTES)
        if not is_dicom(start[:132]):
            return None
        file.seek(0)
        _require_honest_deflate(start, file, member, path)
        file.seek(0)
        return pydicom.dcmread(file, force=True, stop_before_pixels=True)


def _require_honest_deflate(start: bytes, file: IO[bytes], member: Member, path: Path) -> None:
    """Refuse an object of the deflated syntax that inflates to more than MAX_INFLATED_BYTES: pydicom inflates whole."""
    if DeflatedExplicitVRLittleEndian.encode() not in start:
        return
    # The meta information begins with its own length (PS3.10, 7.1).
    if start[132:140] != b"\x02\0\0\0UL\x04\0":
        raise _damaged("the length of its meta information is missing", member, path)
    file.seek(144 + int.from_bytes(start[140:144], "little"))
    inflater, num_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
    waiting = file.read()
    while waiting and not inflater.eof:
        num_bytes += len(inflater.decompress(waiting, _INFLATED_AT_ONCE))
        waiting = inflater.unconsumed_tail
        if num_bytes > MAX_INFLATED_BYTES:
            raise _damaged(f"it inflates to more than {MAX_INFLATED_BYTES >> 20} MiB", member, path)


def _damaged(why: str, member: Member, path: Path) -> IngestError:
    return IngestError("UNDECODABLE", f"file {member.name}: {why}; fetch the series again", path=path)


def _text(header: pydicom.Dataset, name: str) -> str:
    return str(header.get(name) or "").strip(" \0")


def _values(header: pydicom.Dataset, name: str) -> list[Any]:
    value = header.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)


def _numbers(header: pydicom.Dataset, name: str, count: int) -> tuple[float, ...]:
    values = tuple(float(value) for value in _values(header, name))
    return values if len(values) == count else _NO_VALUES[:count]
