"""What `pack` was given, as one PackSource per study: paths in, sources and refusals out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctload.errors import CodedError, IngestError
from ctload.readers import find_sources
from ctload.source_table import SUFFIXES, PackSource, read_source_table


@dataclass(frozen=True)
class Refusal:
    """A source that was not packed.

    Attributes:
        study: Its id; "" where none could be told.
        source: Where it is.
        code: Code of the error, as `GeometryError.CODES` and `IngestError.CODES` list them, or its kind.
        reason: The message, with the way out.
    """

    study: str
    source: str
    code: str
    reason: str


def collect_sources(given: Sequence[str | Path], *, unit: str | None = None) -> tuple[list[PackSource], list[Refusal]]:
    """Every study to be packed, and what was refused before it was read.

    Args:
        given: Files, folders, and tables of sources (.csv, .parquet).
        unit: "HU", "SUV" or "arbitrary" for sources without one of their own; None means HU.

    Raises:
        ManifestError: A table is not as it must be.
    """
    sources: list[PackSource] = []
    refused: list[Refusal] = []
    for path in map(Path, given):
        if path.suffix.lower() in SUFFIXES:
            sources += read_source_table(path, unit=unit)
        else:
            found, bad = _found_below(path, unit)
            sources += found
            refused += bad
    return _without_duplicates(sources, refused)


def _found_below(given: Path, unit: str | None) -> tuple[list[PackSource], list[Refusal]]:
    """Sources at or below a path; the ones that cannot be identified are refused one by one."""
    top = given.resolve()
    sources: list[PackSource] = []
    refused: list[Refusal] = []
    waiting = [top]
    while waiting:
        place = waiting.pop(0)
        try:
            found = find_sources(place)
        except CodedError as error:
            if place.is_dir() and error.path != str(place):  # it names something deeper: look at each part alone
                waiting += sorted(part for part in place.iterdir() if not part.name.startswith("."))
            elif place == top or _looks_like_source(place, error):
                refused.append(refusal_of(error, "", place))
            continue
        base = top.parent.parent if top.is_file() else top.parent
        sources += [
            PackSource(source.study, source.path.relative_to(base).as_posix(), source.path, unit) for source in found
        ]
    return sources, refused


def _looks_like_source(place: Path, error: CodedError) -> bool:
    return error.code != "NOT_A_VOLUME" or place.name.lower().endswith((".nii", ".nii.gz", ".zip"))


def refusal_of(error: Exception, study: str, source: Path) -> Refusal:
    """The refusal that an error of a source amounts to."""
    code = error.code if isinstance(error, CodedError) else type(error).__name__
    return Refusal(study, str(source), code, str(error))


def _without_duplicates(
    sources: Iterable[PackSource], refused: list[Refusal]
) -> tuple[list[PackSource], list[Refusal]]:
    """Refuse every source whose study id another one has too; the same file given twice counts once."""
    by_study: defaultdict[str, dict[Path, PackSource]] = defaultdict(dict)
    for source in sources:
        by_study[source.study].setdefault(source.path.resolve(), source)
    kept: list[PackSource] = []
    for study, same in by_study.items():
        if len(same) == 1:
            kept += same.values()
            continue
        for path in same:
            others = ", ".join(str(other) for other in same if other != path)
            error = IngestError(
                "DUPLICATE_STUDY",
                f"{others} has the same study id; rename one, or give ids in a table with the columns study and path",
                study=study,
                path=path,
            )
            refused.append(refusal_of(error, study, path))
    return kept, refused
