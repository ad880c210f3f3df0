"""A DICOMDIR to the files it lists: a copy that lost slices at an end of a series shows nowhere else.

The index of a CD or an export (DICOM PS3.10, PS3.3 F) names each file of each series below its own folder.
"""

from io import BytesIO

import pydicom

from ctload.readers.members import Member

NAME = "DICOMDIR"


def listed_files(member: Member) -> list[tuple[str, str]]:
    """(SeriesInstanceUID, file) of every file that a DICOMDIR lists, relative to the source that it is a member of.

    A damaged index lists nothing: it proves nothing against the files.
    """
    try:
        index = pydicom.dcmread(BytesIO(member.read()), force=True)
        folder = member.name.rpartition("/")[0]
        return [(series, f"{folder}/{name}" if folder else name) for series, name in _listed(index)]
    except Exception:  # the parser's, of whatever kind
        return []


def _listed(index: pydicom.Dataset) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    series = ""
    for record in index.get("DirectoryRecordSequence") or []:
        kind = str(record.get("DirectoryRecordType") or "")
        if kind in ("PATIENT", "STUDY", "SERIES"):
            series = str(record.get("SeriesInstanceUID") or "") if kind == "SERIES" else ""
        elif series and record.get("ReferencedFileID"):
            parts = record.ReferencedFileID
            found.append((series, parts if isinstance(parts, str) else "/".join(map(str, parts))))
    return found
