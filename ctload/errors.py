"""Every error that ctload raises on purpose. Each message names the value, the limit and the way out.

All derive from CtloadError and carry the study and the path they speak of, where there is one, so that a
caller can act on `error.study` without parsing text.
"""

from pathlib import Path


class CtloadError(Exception):
    """Base of all errors of this library.

    Args:
        message: What is wrong and the way out, without the study or the path (they are put in front).
        study: Id of the study at fault.
        path: File or folder at fault.
    """

    def __init__(self, message: str, *, study: str | None = None, path: str | Path | None = None) -> None:
        self.message = message
        self.study = study
        self.path = None if path is None else str(path)
        where = [f"study {study}" if study is not None else "", self.path or ""]
        prefix = ", ".join(part for part in where if part)
        super().__init__(f"{prefix}: {message}" if prefix else message)

    def __reduce__(self):
        # Exceptions cross process borders by pickle; the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.__dict__.copy(), self.args))


def _rebuild(cls: type[CtloadError], state: dict, args: tuple) -> CtloadError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class CodedError(CtloadError):
    """An error with a code from a closed list, for tables and filters."""

    CODES: frozenset[str] = frozenset()

    def __init__(self, code: str, message: str, *, study: str | None = None, path: str | Path | None = None) -> None:
        assert code in self.CODES, code
        self.code = code
        super().__init__(f"[{code}] {message}", study=study, path=path)


class GeometryError(CodedError):
    """The slices or the affine of a source do not describe one regular grid."""

    CODES = frozenset(
        {"GAP", "DUPLICATE_POSITION", "NON_UNIFORM", "GANTRY_TILT", "MIXED_ORIENTATION", "MIXED_SPACING",
         "SHEARED", "NO_GEOMETRY"}
    )  # fmt: skip


class IngestError(CodedError):
    """A source cannot be packed; the code says why."""

    CODES = frozenset(
        {"MULTI_SERIES", "NO_SERIES", "LOCALIZER", "TOO_FEW_SLICES", "MISSING_RESCALE", "MULTI_FRAME", "NON_CT",
         "UNDECODABLE", "NOT_HU", "TRUNCATED", "OUT_OF_INT16", "NOT_A_VOLUME", "DUPLICATE_STUDY"}
    )  # fmt: skip


class SeriesRuleError(CtloadError):
    """A rule that chooses series cannot be read, or asks for a column that is not there."""


class StoreFormatError(CtloadError):
    """The folder is no store, or of a format version this library does not read."""


class StoreBusyError(CtloadError):
    """Another pack is writing this store."""


class PresetMismatchError(CtloadError):
    """The store was packed with another preset than the one asked for."""


class ChecksumError(CtloadError):
    """Bytes on disk are not the bytes that were written."""


class MissingChunkError(CtloadError):
    """A chunk or a whole shard is gone; it would otherwise read as fill value."""


class ManifestError(CtloadError):
    """A table of studies is not what its schema says: a column, a type, a duplicate id."""


class PlanError(CtloadError):
    """A crop, an augmentation or a window cannot be drawn for these studies."""


class SamplerError(CtloadError):
    """A batch cannot be drawn as asked: quotas, strata, world size."""


class ResumeMismatchError(CtloadError):
    """A saved state belongs to other studies, another sampler or another plan."""


class LoaderError(CtloadError):
    """A loader is used in a way that cannot give right batches (two iterators, use after close)."""


class ForkAfterOpenError(CtloadError):
    """The process forked after the store was opened: its reader threads are gone in the child."""
