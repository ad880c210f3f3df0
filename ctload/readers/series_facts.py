"""DICOM headers to the facts that a table of series shows: whose it is, how it was made, where its slices lie.

Pixels are not decoded. pydicom's objects do not leave this file; a file that cannot be parsed is told of, not raised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom

from ctload.errors import CodedError, GeometryError, IngestError
from ctload.readers import dicomdir
from ctload.readers.damage import quietly, typed_damage
from ctload.readers.frames import geometry_of_frames
from ctload.readers.members import Member
from ctload.readers.scanned import Damaged
from ctload.readers.series import Instance, instance_of, read_header
from ctload.readers.slices import SliceGeometry

TEXTS = {
    "study_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "accession": "AccessionNumber",
    "study_date": "StudyDate",
    "description": "SeriesDescription",
    "protocol": "ProtocolName",
    "kernel": "ConvolutionKernel",
    "contrast": "ContrastBolusAgent",
}


@dataclass(frozen=True)
class ObjectFacts:
    """One DICOM object.

    Attributes:
        instance: What the choice of a series needs; its member names the file and opens nothing.
        texts: The header's values by the names of TEXTS, "" where there are none.
        thickness_mm: SliceThickness; None where there is none.
        frames: Where the frames of a multi-frame object lie.
        frames_code: Code of why that cannot be told; "" if it can, or for a single frame.
    """

    instance: Instance
    texts: dict[str, str]
    thickness_mm: float | None
    frames: SliceGeometry | None = None
    frames_code: str = ""


def facts_of(
    members: Sequence[Member], path: Path
) -> tuple[list[ObjectFacts], list[Damaged], list[dicomdir.ListedSeries]]:
    """The facts of every DICOM object among these files, the files that cannot be read, and the series that a DICOMDIR
    lists. Other files are ignored.

    Args:
        members: Files of one source.
        path: The source, for messages.
    """
    found: list[ObjectFacts] = []
    damaged: list[Damaged] = []
    listed: list[dicomdir.ListedSeries] = []
    with quietly():
        for member in members:
            if member.name.rpartition("/")[2].upper() == dicomdir.NAME:
                listed += dicomdir.listed_series(member)
            try:
                facts = _facts(member, path)
            except CodedError as error:
                damaged.append(Damaged(member.name, error.code, error.message))
            except OSError as error:
                damaged.append(Damaged(member.name, "UNDECODABLE", f"it cannot be read ({error.strerror})"))
            else:
                found += [] if facts is None else [facts]
    return found, damaged, listed


def _facts(member: Member, path: Path) -> ObjectFacts | None:
    with typed_damage(member, path):
        header = read_header(member, path)
        instance = None if header is None else instance_of(header, member, path)
        if header is None or instance is None:
            return None
        closed = replace(instance, member=Member(member.name, member.size, _not_open, _not_open))
        facts = ObjectFacts(
            closed, {name: _text(header.get(keyword)) for name, keyword in TEXTS.items()}, _number(header)
        )
        return _with_frames(facts, header, path) if instance.is_multi_frame else facts


def _with_frames(facts: ObjectFacts, header: pydicom.Dataset, path: Path) -> ObjectFacts:
    try:
        return replace(facts, frames=geometry_of_frames(header, path))
    except GeometryError as error:
        return replace(facts, frames_code=error.code)


def _text(value: Any) -> str:
    """A header's value on one line: kernels of two parts are joined by a backslash, as DICOM writes them."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return " ".join("\\".join(str(part) for part in parts).replace("\0", " ").split())


def _number(header: pydicom.Dataset) -> float | None:
    text = _text(header.get("SliceThickness"))
    return float(text) if text else None


def _not_open() -> Any:
    raise IngestError("UNDECODABLE", "the facts of a file do not open it")
