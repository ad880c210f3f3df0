"""Which series of each study is packed: rows of a scan in, one PackSource per chosen series and refusals out.

A study whose rows leave no series, or more than one without leave, is refused: MULTI_SERIES, NO_SERIES, or the code
that stands nearest to a volume. Nothing is guessed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctload.errors import CodedError, GeometryError, IngestError
from ctload.readers.ct_rate import Correction
from ctload.readers.scanned import IRREGULAR, NO_VOLUME, ScannedSeries
from ctload.readers.walk import FILE_KINDS
from ctload.scanning.refusal import Refusal, refusal_of
from ctload.scanning.series_rule import SeriesRule
from ctload.scanning.source_table import PackSource
from ctload.storage.keymap import keyed_hash

# What a NIfTI header lacks that a table of corrections brings.
_CORRECTED = ("NO_GEOMETRY", "SHEARED", "NOT_HU")


@dataclass(frozen=True)
class Candidate:
    """A series that may be its study's volume.

    Attributes:
        scanned: What a scan found of it.
        study: The id of its study; a table may have given another one than the scan.
        columns: What a rule sees.
        unit: What its values are; None means HU.
        channels, labels: Name -> path, from a table.
        extra: Values for the manifest; None where no table names any.
        is_listed: Whether a table names it.
    """

    scanned: ScannedSeries
    study: str
    columns: Mapping[str, Any]
    unit: str | None = None
    channels: Mapping[str, Path] = field(default_factory=dict)
    labels: Mapping[str, Path] = field(default_factory=dict)
    extra: Mapping[str, Any] | None = None
    is_listed: bool = False


@dataclass(frozen=True)
class ChoiceOptions:
    """How series are chosen.

    Attributes:
        key: Of the store, for the hashes of sources.
        rule: What the user said; None takes the only series of a study.
        resample_irregular: Whether tilt and varying gaps may be corrected.
        corrections: NIfTI stem -> what its header should have said; None for headers that are right.
    """

    key: bytes
    rule: SeriesRule | None = None
    resample_irregular: bool = False
    corrections: Mapping[str, Correction] | None = None


def choose(candidates: Iterable[Candidate], options: ChoiceOptions) -> tuple[list[PackSource], list[Refusal]]:
    """The series to pack, and the studies that have none."""
    studies: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        studies[candidate.study].append(candidate)
    sources: list[PackSource] = []
    refused: list[Refusal] = []
    for study, members in studies.items():
        try:
            chosen = _chosen(members, options)
            others = [each for each in members if each not in chosen]
            sources += [_source(each, others, options, is_one=len(chosen) == 1) for each in chosen]
        except CodedError as error:
            shown = members[0].scanned
            names = [path for each in members for path in (each.scanned.path, Path(each.scanned.source))]
            files = [name for each in members for name in each.scanned.files]
            hashed = keyed_hash(relative_of(shown), options.key)
            refused.append(refusal_of(error, study, shown.path, paths=names, files=files, hashed=hashed))
    return sources, refused


def relative_of(scanned: ScannedSeries) -> str:
    """What is hashed as the source of a series: its relative path, and the series where a path may hold several."""
    return scanned.source if scanned.kind in FILE_KINDS else f"{scanned.source}#{scanned.series}"


def _chosen(members: list[Candidate], options: ChoiceOptions) -> list[Candidate]:
    packable = [each for each in members if _is_packable(each.scanned, options)]
    if not packable:
        raise _nearest(members)
    if options.rule is None:
        # Two files of one name are no study of two series: both are refused as duplicates later.
        is_of_files = all(each.scanned.kind in FILE_KINDS and not each.is_listed for each in packable)
        if len(packable) > 1 and not is_of_files:
            raise _tie(packable, "no rule chooses one")
        return packable
    left = [packable[place] for place in options.rule.chosen([each.columns for each in packable])]
    if not left:
        raise IngestError(
            "NO_SERIES",
            f"none of {len(packable)} series is what the rule {options.rule.text!r} asks for: {_listed(packable)}; "
            "widen the rule ('prefer' keeps the others where none fits), or leave the study out of the table",
        )
    if len(left) > 1 and not options.rule.takes_all:
        raise _tie(left, f"the rule {options.rule.text!r} leaves them all")
    return left


def _is_packable(scanned: ScannedSeries, options: ChoiceOptions) -> bool:
    if options.corrections is not None and scanned.kind == "nifti" and scanned.code in _CORRECTED:
        return True
    return scanned.is_candidate(resample_irregular=options.resample_irregular)


def _nearest(members: Sequence[Candidate]) -> CodedError:
    """The reason nearest to a volume is the one that helps."""
    nearest = min(
        members, key=lambda each: NO_VOLUME.index(each.scanned.code) if each.scanned.code in NO_VOLUME else -1
    )
    code, reason = nearest.scanned.code, nearest.scanned.reason.removeprefix(f"[{nearest.scanned.code}] ")
    if len(members) > 1:
        codes = Counter(each.scanned.code for each in members)
        reason += f" (its series: {', '.join(f'{count} {name}' for name, count in sorted(codes.items()))})"
    return (GeometryError if code in GeometryError.CODES else IngestError)(code, reason)


def _tie(left: Sequence[Candidate], why: str) -> IngestError:
    return IngestError(
        "MULTI_SERIES",
        f'{len(left)} series may be the volume and {why}: {_listed(left)}; choose with --series-rule ("most slices", '
        '"all" for each as a study of its own), or edit the table that `ctload scan` writes',
    )


def _listed(candidates: Sequence[Candidate]) -> str:
    shown = [
        f"{each.scanned.series} ({each.scanned.num_slices} slices of {_mm(each.scanned.spacing_z_mm)}"
        f"{each.scanned.phase and ', '}{each.scanned.phase})"
        for each in candidates[:6]
    ]
    return ", ".join(shown) + (f" and {len(candidates) - 6} more" if len(candidates) > 6 else "")


def _mm(value: float | None) -> str:
    return "unknown spacing" if value is None else f"{value:g} mm"


def _source(chosen: Candidate, others: list[Candidate], options: ChoiceOptions, *, is_one: bool) -> PackSource:
    scanned = chosen.scanned
    takes_all = options.rule is not None and options.rule.takes_all
    is_renamed = chosen.study != scanned.study
    correction = None
    if options.corrections is not None and scanned.kind == "nifti":
        correction = options.corrections.get(_stem(scanned.path))
        if correction is None:
            raise IngestError(
                "NOT_HU",
                "the table of --ct-rate-metadata has no row for this volume, so its rescale is not known; add the row, "
                "or pack it alone without the table",
            )
    return PackSource(
        study=scanned.series if takes_all and not (is_renamed and is_one) else chosen.study,
        relative=relative_of(scanned),
        path=scanned.path,
        unit=chosen.unit,
        channels=chosen.channels,
        labels=chosen.labels,
        extra=chosen.extra,
        series="" if scanned.kind in FILE_KINDS else scanned.series,
        files=scanned.files,
        resample_irregular=scanned.code in IRREGULAR,
        correction=correction,
        left_out=(*scanned.left_out, *_left_behind(others)),
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _left_behind(others: Sequence[Candidate]) -> list[str]:
    """What the choice did not take of the study, by code."""
    codes = Counter(each.scanned.code or "not chosen" for each in others)
    return [f"left out, {count} other series: {code}" for code, count in sorted(codes.items())]
