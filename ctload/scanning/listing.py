"""What DICOMDIRs list, held against the files that a scan found: what a copy lost.

Knows places and names only; `ctload.readers.dicomdir` reads the index itself.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ctload.readers.walk import ZIP, Place


def key_of(path: Path) -> str:
    """A file's name for comparing: discs and file systems differ in upper and lower case."""
    return str(path).casefold()


def loss_of(listed: Iterable[tuple[Place, Any]], series_uid: str, present: Collection[str]) -> str:
    """What a series lost of the files that are listed of it, as a sentence; "" if nothing.

    Args:
        listed: Places of DICOMDIRs and the ListedSeries in each.
        series_uid: The series.
        present: `key_of` of its files.
    """
    names = {name for place, each in listed if each.series_uid == series_uid for name in _names(place, each)}
    gone = names.difference(present)
    if not gone or len(gone) == len(names):  # all: the files were moved, and the index says nothing about them
        return ""
    return f"{len(gone)} of the {len(names)} files that DICOMDIR lists are not here; copy the series again"


def missing(
    listed: Iterable[tuple[Place, Any]], told: Collection[str], unread: Collection[str]
) -> Iterator[tuple[Place, Any]]:
    """The listed series of which there is no file, under no name and in no SOURCE.

    Args:
        listed: Places of DICOMDIRs and the ListedSeries in each.
        told: SeriesInstanceUIDs of every series that was found.
        unread: `key_of` of the files that are there but cannot be read; they are told of by themselves.
    """
    seen = set(told)
    for place, each in listed:
        is_alone = place.kind != ZIP and place.top.is_file()  # a DICOMDIR without what lies beside it
        if not is_alone and each.series_uid not in seen and _names(place, each).isdisjoint(unread):
            seen.add(each.series_uid)
            yield place, each


def _names(place: Place, listed: Any) -> set[str]:
    return {key_of(place.path / name) for name in listed.files}
