"""scan: files, folders, zips and DICOMDIR trees in, one ScannedSeries per series or file out. Reads headers only.

Series are put together over all folders of one SOURCE, since exports spread and mix them; a zip stands for itself.
A DICOM file that cannot be parsed could belong to any series of its folder, so all of them get its code. A series of
which only a DICOMDIR tells is a row too.
"""

import importlib
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from ctload.errors import CodedError, CtloadError
from ctload.process.orphan import end_pool, end_with_parent
from ctload.readers import file_stem
from ctload.readers.members import DICOM_SUFFIXES, open_members, starts_as_dicom
from ctload.readers.scanned import Damaged, ScannedSeries
from ctload.readers.walk import FILE_KINDS, NIFTI, ZIP, Place, places_below
from ctload.scanning import listing
from ctload.storage.keymap import keyed_hash

_Group = tuple[Path, Path | None]  # what series are put together in: a SOURCE's folder, and the zip if it is one
_NO_LIMIT = 1 << 62  # headers are streamed: the size of a zip's content does not matter to a scan


@dataclass(frozen=True)
class ScanOptions:
    """What all of a scan shares.

    Attributes:
        key: Of the ids.
        unit: What will be read; None and "HU" look for CT.
        is_stem_hashed: Whether the id of a NIfTI file is a keyed hash of its stem instead of the stem.
    """

    key: bytes
    unit: str | None = None
    is_stem_hashed: bool = False


def scan(
    sources: Sequence[str | Path], options: ScanOptions, *, workers: int = 1, progress: bool = True
) -> list[ScannedSeries]:
    """Every series and every NIfTI file at or below some paths, and what cannot be read there, sorted by source.

    Args:
        sources: Files and folders.
        options: Key, unit, and how NIfTI files are called.
        workers: Processes.
        progress: Show a progress bar where the output is a terminal.

    Raises:
        CtloadError: A reader that is needed is not installed, or a worker died.
    """
    if workers < 1:
        raise CtloadError(f"workers must be at least 1, got {workers}")
    tops = dict.fromkeys(Path(each).resolve() for each in sources)
    places = [place for top in tops for place in places_below(top)]
    empty = tops.keys() - {place.top for place in places if place.problem}
    rows = [_unreadable(place) for place in places if place.problem]
    todo = [place for place in places if not place.problem]
    objects: defaultdict[_Group, list[tuple[Place, Any]]] = defaultdict(list)
    listed: defaultdict[_Group, list[tuple[Place, Any]]] = defaultdict(list)
    damaged: defaultdict[_Group, list[tuple[Place, Damaged]]] = defaultdict(list)
    with tqdm(
        total=sum(place.num_files for place in todo), desc="scan", unit="file", disable=None if progress else True
    ) as bar:
        for place, found in zip(todo, _looked_at(todo, options, workers), strict=True):
            group = (place.root, place.path if place.kind == ZIP else None)
            rows += found.rows
            if found != _Found():
                empty.discard(place.top)
            objects[group] += [(place, each) for each in found.objects]
            damaged[group] += [(place, each) for each in found.damaged]
            listed[group] += [(place, each) for each in found.listed]
            bar.update(place.num_files)
    for group in dict.fromkeys([*objects, *damaged]):
        rows += _grouped(objects[group], damaged[group], listed[group], options)
    told = {each.instance.series_uid for found in objects.values() for _, each in found}
    unread = {listing.key_of(place.path / each.name) for found in damaged.values() for place, each in found}
    for place, each in listing.missing([one for found in listed.values() for one in found], told, unread):
        rows.append(
            _module("dicomdir", "dicom").summary_of_missing(
                each, path=place.path, source=place.source, kind=_kind(place), unit=options.unit, key=options.key
            )
        )
    rows += [_nothing_at(top) for top in empty]
    named = [_named(row, options) for row in rows]
    return sorted(named, key=lambda row: (row.source, row.series))


@dataclass(frozen=True)
class _Found:
    rows: tuple[ScannedSeries, ...] = ()
    objects: tuple[Any, ...] = ()  # ObjectFacts, whose file imports pydicom
    damaged: tuple[Damaged, ...] = ()
    listed: tuple[Any, ...] = ()  # ListedSeries of a DICOMDIR


def _looked_at(places: list[Place], options: ScanOptions, workers: int) -> Iterator[_Found]:
    """What each place holds, in their order."""
    if workers == 1 or len(places) == 1:
        for place in places:
            yield _look(place, options)
        return
    spawn, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent)
    try:
        yield from pool.map(_look, places, [options] * len(places), chunksize=max(1, min(8, len(places) // workers)))
    except BrokenProcessPool as error:
        raise CtloadError(
            "a worker process of the scan died, most likely for want of memory; run with fewer workers"
        ) from error
    finally:
        end_pool(pool, set(multiprocessing.active_children()) - others)


def _look(place: Place, options: ScanOptions) -> _Found:
    """Read the headers of one place."""
    try:
        if place.kind in FILE_KINDS:
            return _Found(rows=(_file_row(place, options),))
        if place.kind == ZIP:
            return _look_into_zip(place)
        return _look_into_files(place)
    except OSError as error:
        return _Found(rows=(_unreadable(replace(place, problem=f"it cannot be read ({error.strerror})")),))


def _look_into_files(place: Place) -> _Found:
    names, broken = [], []
    for name in place.names:
        try:
            if _may_be_dicom(place.path / name):
                names.append(name)
        except OSError as error:
            broken.append(Damaged(name, "UNDECODABLE", f"a file cannot be read ({error.strerror})"))
    if not names:
        return _Found(damaged=tuple(broken))
    with open_members(place.path, max_bytes=_NO_LIMIT, only=names) as members:
        objects, damaged, listed = _module("series_facts", "dicom").facts_of(members, place.path)
    return _Found(objects=tuple(objects), damaged=(*broken, *damaged), listed=tuple(listed))


def _look_into_zip(place: Place) -> _Found:
    try:
        with open_members(place.path, max_bytes=_NO_LIMIT) as members:
            objects, damaged, listed = _module("series_facts", "dicom").facts_of(members, place.path)
    except CodedError as error:
        return _Found(rows=(_row(place, code=error.code, reason=error.message),))
    if not objects and not damaged and not listed:
        return _Found(
            rows=(_row(place, code="NOT_A_VOLUME", reason="no DICOM file in this zip; unpack NIfTI files first"),)
        )
    return _Found(objects=tuple(objects), damaged=tuple(damaged), listed=tuple(listed))


def _may_be_dicom(path: Path) -> bool:
    return path.name.lower().endswith(DICOM_SUFFIXES) or starts_as_dicom(path)


def _file_row(place: Place, options: ScanOptions) -> ScannedSeries:
    stem = file_stem(place.path)
    name = keyed_hash(stem, options.key) if options.is_stem_hashed else stem
    row = _row(place, study=name, series=name)
    try:
        if place.kind == NIFTI:
            shape, affine = _module("nifti", "nifti").read_nifti_grid(place.path, unit=options.unit)
        else:
            shape, affine = _module("npz", "npz").read_npz_grid(place.path, unit=options.unit)
    except CodedError as error:
        return replace(row, code=error.code, reason=error.message)
    spacing_mm = [round(float((affine[:3, axis] ** 2).sum() ** 0.5), 6) for axis in range(3)]
    return replace(
        row,
        num_slices=shape[0],
        height=shape[1],
        width=shape[2],
        spacing_z_mm=spacing_mm[0],
        spacing_y_mm=spacing_mm[1],
        spacing_x_mm=spacing_mm[2],
    )


def _grouped(
    objects: list[tuple[Place, Any]],
    damaged: list[tuple[Place, Damaged]],
    listed: list[tuple[Place, Any]],
    options: ScanOptions,
) -> Iterator[ScannedSeries]:
    """The series of one SOURCE, or of one zip in it."""
    by_uid: defaultdict[str, list[tuple[Place, Any]]] = defaultdict(list)
    for place, each in objects:
        by_uid[each.instance.series_uid].append((place, each))
    spoiled: defaultdict[str, list[tuple[Place, Damaged]]] = defaultdict(list)
    for place, each in damaged:
        spoiled[_folder_of(place, each.name)].append((place, each))
    hit: set[str] = set()
    for uid, members in by_uid.items():
        row = _series_row(members, options)
        present = {listing.key_of(place.path / each.instance.member.name) for place, each in members}
        reason = listing.loss_of(listed, uid, present)
        if reason:
            row = replace(row, code="TRUNCATED", reason=reason)
        folders = {_folder_of(place, each.instance.member.name) for place, each in members}
        for folder in sorted(folders & spoiled.keys()):
            hit.add(folder)
            place, first = spoiled[folder][0]
            reason = f"{len(spoiled[folder])} DICOM file(s) beside it cannot be read and may be its slices: "
            row = replace(row, code=first.code, reason=reason + first.reason)
        yield row
    for folder in sorted(spoiled.keys() - hit):
        place, first = spoiled[folder][0]
        more = f" ({len(spoiled[folder]) - 1} more such files)" if len(spoiled[folder]) > 1 else ""
        yield _row(place, code=first.code, reason=first.reason + more)


def _folder_of(place: Place, name: str) -> str:
    """Folder of a file, on disk or in its zip."""
    return os.path.dirname(str(place.path / name))


def _series_row(members: list[tuple[Place, Any]], options: ScanOptions) -> ScannedSeries:
    place = members[0][0]
    if place.kind == ZIP:
        path, names = place.path, [each.instance.member.name for _, each in members]
    else:
        whole = [where.path / each.instance.member.name for where, each in members]
        path = Path(os.path.commonpath([file.parent for file in whole]))
        names = [file.relative_to(path).as_posix() for file in whole]
        members = [(where, _renamed(each, name)) for (where, each), name in zip(members, names, strict=True)]
    return _module("series_summary", "dicom").summary_of(
        [each for _, each in members],
        path=path,
        source=path.relative_to(place.base).as_posix(),
        kind=_kind(place),
        files=tuple(sorted(names)),
        unit=options.unit,
        key=options.key,
    )


def _renamed(facts: Any, name: str) -> Any:
    """The facts under the name that is unique in the series: files of two folders may be called alike."""
    return replace(facts, instance=replace(facts.instance, member=replace(facts.instance.member, name=name)))


def _row(place: Place, *, study: str = "", series: str = "", code: str = "", reason: str = "") -> ScannedSeries:
    return ScannedSeries(study, series, _kind(place), place.path, place.source, code=code, reason=reason)


def _kind(place: Place) -> str:
    return "dicom-zip" if place.kind == ZIP else place.kind if place.kind in FILE_KINDS else "dicom"


def _named(row: ScannedSeries, options: ScanOptions) -> ScannedSeries:
    """The row under an id of its place where it has none of its own, without its code in front of the reason."""
    study = row.study or keyed_hash(f"path {row.source}", options.key)
    return replace(row, study=study, reason=row.reason.removeprefix(f"[{row.code}] "))


def _unreadable(place: Place) -> ScannedSeries:
    return _row(place, code="NOT_A_VOLUME" if not place.path.exists() else "UNDECODABLE", reason=place.problem)


def _nothing_at(top: Path) -> ScannedSeries:
    reason = "no .nii, .nii.gz, .npz, zip or DICOM file here; does the path exist and hold one?"
    return ScannedSeries("", "", "dicom", top, top.name, code="NOT_A_VOLUME", reason=reason)


def _module(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(f"ctload.readers.{name}")
    except ModuleNotFoundError as error:
        raise CtloadError(f'{error.name} is not installed; pip install "ctload[{extra}]"') from error
