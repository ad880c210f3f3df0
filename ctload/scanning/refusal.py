"""Refusal: a source that was not packed, and why, in words that can be handed on."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ctload.errors import CodedError, CtloadError
from ctload.scanning.redaction import names_in, redacted


@dataclass(frozen=True)
class Refusal:
    """A source that was not packed.

    Attributes:
        study: Its id.
        source: Where it is. For the local user: it may name a patient, and enters no file.
        code: Code of the error, as `GeometryError.CODES` and `IngestError.CODES` list them, or its kind.
        reason: The message with the way out, without names of files and folders.
        detail: The message as it was.
        hashed: Keyed hash of the source's relative path, as it stands in a store.
    """

    study: str
    source: str
    code: str
    reason: str
    detail: str
    hashed: str = ""


def refusal_of(
    error: Exception,
    study: str,
    path: Path,
    *,
    paths: Iterable[Path] = (),
    files: Collection[str] = (),
    hashed: str = "",
) -> Refusal:
    """The refusal that an error of a source amounts to.

    Args:
        error: What was raised.
        study: The source's id; where it is also a file's name it stays, being the id.
        path: Where the source is.
        paths: Further files and folders that must not be named.
        files: Names below `path` that must not.
        hashed: Keyed hash of the relative path.
    """
    code = error.code if isinstance(error, CodedError) else type(error).__name__
    text = error.message if isinstance(error, CtloadError) else str(error)
    text = text.removeprefix(f"[{code}] ")
    names = names_in([path, *paths], files) - {study}
    return Refusal(study, str(path), code, redacted(text, names), text, hashed)
