"""A DICOMDIR to the series it lists: a copy that lost the end of a series, or a whole series, shows nowhere else.

The index of a CD or an export (DICOM PS3.10, PS3.3 F) names each file of each series below its own folder.
"""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pydicom

from ctload.readers.members import Member
from ctload.readers.phase import phase_words
from ctload.readers.scanned import ScannedSeries
from ctload.readers.series import study_id

NAME = "DICOMDIR"
_LEVELS = ("PATIENT", "STUDY", "SERIES")  # from the outer to the inner


@dataclass(frozen=True)
class ListedSeries:
    """A series that a DICOMDIR lists, with what it says of it; "" where it says nothing.

    Attributes:
        files: Its files, relative to the source that the DICOMDIR is a member of.
    """

    series_uid: str
    study_uid: str
    patient_id: str
    modality: str
    description: str
    files: tuple[str, ...]


def listed_series(member: Member) -> list[ListedSeries]:
    """Every series with files that a DICOMDIR lists.

    A damaged index lists nothing: it proves nothing against the files.
    """
    try:
        index = pydicom.dcmread(BytesIO(member.read()), force=True)
        return _listed(index, member.name.rpartition("/")[0])
    except Exception:  # the parser's, of whatever kind
        return []


def summary_of_missing(
    listed: ListedSeries, *, path: Path, source: str, kind: str, unit: str | None, key: bytes
) -> ScannedSeries:
    """A series of which no file is here, as a row.

    Args:
        listed: What the DICOMDIR says.
        path: Folder or zip of the DICOMDIR.
        source: The same, relative to what was scanned.
        kind: "dicom" or "dicom-zip".
        unit: What will be read; None and "HU" look for CT.
        key: Of the ids.
    """
    series = study_id(listed.series_uid, key)
    is_volume = unit not in (None, "HU") or listed.modality in ("", "CT")
    return ScannedSeries(
        study=study_id(listed.study_uid, key) if listed.study_uid else series,
        series=series,
        kind=kind,
        path=path,
        source=source,
        patient=study_id(f"patient {listed.patient_id}", key) if listed.patient_id else "",
        modality=listed.modality,
        description=listed.description,
        phase=phase_words(listed.description, ""),
        code="TRUNCATED" if is_volume else "NON_CT",
        reason=f"none of the {len(listed.files)} file(s) that DICOMDIR lists of it is here; copy the series again",
        study_uid=listed.study_uid,
        series_uid=listed.series_uid,
        patient_id=listed.patient_id,
    )


def _listed(index: pydicom.Dataset, folder: str) -> list[ListedSeries]:
    found: dict[str, ListedSeries] = {}
    # The records that the next one belongs to.
    above: dict[str, pydicom.Dataset] = dict.fromkeys(_LEVELS, pydicom.Dataset())
    for record in index.get("DirectoryRecordSequence") or []:
        level = str(record.get("DirectoryRecordType") or "")
        if level in above:
            above.update(dict.fromkeys(_LEVELS[_LEVELS.index(level) :], pydicom.Dataset()))
            above[level] = record
            continue
        uid = _text(above["SERIES"], "SeriesInstanceUID")
        if uid and record.get("ReferencedFileID"):
            parts = record.ReferencedFileID
            name = parts if isinstance(parts, str) else "/".join(map(str, parts))
            series = found.setdefault(uid, _series(uid, above))
            found[uid] = replace(series, files=(*series.files, f"{folder}/{name}" if folder else name))
    return list(found.values())


def _series(uid: str, above: dict[str, pydicom.Dataset]) -> ListedSeries:
    return ListedSeries(
        series_uid=uid,
        study_uid=_text(above["STUDY"], "StudyInstanceUID"),
        patient_id=_text(above["PATIENT"], "PatientID"),
        modality=_text(above["SERIES"], "Modality"),
        description=_text(above["SERIES"], "SeriesDescription"),
        files=(),
    )


def _text(record: pydicom.Dataset, keyword: str) -> str:
    """A record's value on one line, "" where there is none."""
    return " ".join(str(record.get(keyword) or "").replace("\0", " ").split())
