"""Quarantine: the record of a study that could not be read, and of the one that took its place. Plain data."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


class DamagedStudyWarning(UserWarning):
    """A damaged study was replaced; said once for each study and rank."""


@dataclass(frozen=True)
class Replaced:
    """One study in quarantine.

    Attributes:
        study: Its id.
        substitute: Id of the study that took its place when it was found.
        epoch: Of the batch where it was found.
        step: Of that batch.
        error: Name of the error: "ChecksumError" or "MissingChunkError".
        message: What the error said, with the file at fault.
    """

    study: str
    substitute: str
    epoch: int
    step: int
    error: str
    message: str


def to_state(records: Iterable[Replaced]) -> list[dict[str, Any]]:
    """Records as plain data for a checkpoint."""
    return [asdict(record) for record in records]


def from_state(state: Iterable[dict[str, Any]]) -> list[Replaced]:
    """Records of a checkpoint."""
    return [Replaced(**record) for record in state]


def merge(quarantines: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The quarantines of all ranks as one, each study once, in the order they were found.

    Args:
        quarantines: `loader.state_dict()["quarantine"]` of every rank.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in sorted(
        (record for quarantine in quarantines for record in quarantine),
        key=lambda record: (record["epoch"], record["step"], record["study"]),
    ):
        found.setdefault(record["study"], record)
    return list(found.values())
