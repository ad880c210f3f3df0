"""pack: sources in, a store out. Parallel over sources, resumable at any moment, never half done.

Journal x preset hash x digest of the source's bytes decide what is reused. Memory is one volume per worker.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ctload.errors import CtloadError
from ctload.packing.report import PackReport, StudyReport
from ctload.packing.source import PackOptions, collect_sources, key_of_tables
from ctload.packing.worker import Outcome, PackTask, PackWorker, run_in_worker, start_worker
from ctload.packing.writer import StoreWriter
from ctload.process.orphan import end_pool
from ctload.readers.ct_rate import read_corrections
from ctload.scanning.refusal import Refusal
from ctload.scanning.series_rule import SeriesRule
from ctload.scanning.source_table import PackSource
from ctload.storage.keymap import KeyMap, open_keymap, read_keymap
from ctload.storage.preset import Preset

__all__ = ["PackReport", "pack", "part_path"]


def pack(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    preset: str | Preset,
    workers: int = 1,
    unit: str | None = None,
    series_rule: str | None = None,
    part: tuple[int, int] | None = None,
    resample_irregular: bool = False,
    ct_rate_metadata: str | Path | None = None,
    hash_ids: bool = False,
    carry: Sequence[str] = (),
    keys: str | Path | None = None,
    profile: str = "fast",
    progress: bool = True,
    wait_s: float = 5.0,
) -> PackReport:
    """Pack sources into a store, which is made or added to. Killed at any moment and run again, it ends the same.

    Where every source of a new store is refused, no store is made.

    Args:
        sources: NIfTI files, DICOM folders or zips, folders of those, scan tables, and tables (.csv, .parquet) with
            the columns study and path; further columns of a table are carried into the manifest.
        out: The store. A secret key and the sources' paths go to OUT.keys.json beside it.
        preset: "native", "merlin", "ct-rate", another name `Preset.from_name` takes, or a Preset.
        workers: Processes. With more than one a script needs the usual `if __name__ == "__main__":`.
        unit: "HU", "SUV" or "arbitrary" for sources without one of their own; None means HU, and refuses values that
            cannot be HU.
        series_rule: Which series of a study is its volume (`ctload.scanning.series_rule`); None takes the only one.
        part: (i, n) packs the i-th of n parts of the studies, into `part_path(out, part)`; `ctload.packing.merging`
            puts them together. All parts share the key in OUT.keys.json.
        resample_irregular: Correct gantry tilt and varying gaps by interpolation, instead of refusing.
        ct_rate_metadata: CT-RATE's `*_metadata.csv`, for NIfTI files whose headers lack rescale and geometry.
        hash_ids: The id of a NIfTI file is a keyed hash of its name, not the name.
        carry: Columns of a scan that go into the manifest: patient (a keyed hash), kernel, phase, ...
        keys: A key map whose key a new store takes, so that two stores have the same ids.
        profile: "fast" (lz4) or "archive" (zstd).
        progress: Show a progress bar where the output is a terminal.
        wait_s: How long to wait for another pack on this store, in seconds.

    Raises:
        PresetMismatchError: No such preset, or the store has another one.
        StoreBusyError: Another pack is at work on the store.
        ManifestError: A table of sources is not as it must be.
        SeriesRuleError: The rule cannot be read, or asks for a column that there is not.
        CtloadError: The store cannot be written to, a worker died, or keys do not fit together.
    """
    preset = Preset.from_name(preset) if isinstance(preset, str) else preset
    if workers < 1:
        raise CtloadError(f"workers must be at least 1, got {workers}")
    options = PackOptions(
        unit=unit,
        rule=None if series_rule is None else SeriesRule.from_text(series_rule),
        part=part,
        resample_irregular=resample_irregular,
        corrections=None if ct_rate_metadata is None else read_corrections(Path(ct_rate_metadata)),
        is_stem_hashed=hash_ids,
        carry=tuple(carry),
    )
    root = Path(out) if part is None else part_path(Path(out), part)
    key = _key(sources, Path(out), keys, is_part=part is not None)
    collected, refused = collect_sources(sources, options, key=key, workers=workers, progress=progress)
    with StoreWriter(root, preset, profile=profile, wait_s=wait_s) as writer:
        keymap = open_keymap(root, key=key)  # under the lock: another pack may have made the store meanwhile
        tasks = _tasks(collected, keymap, writer)
        keymap.save()
        outcomes: list[Outcome] = []
        with tqdm(total=len(tasks), desc="pack", unit="study", disable=None if progress else True) as bar:
            for outcome in _outcomes(tasks, writer, preset, key, workers):
                outcomes.append(outcome)
                bar.update()
        if part is not None or not writer.is_new or any(outcome.entry for outcome in outcomes):
            writer.finish()
        else:
            writer.discard()
            keymap.discard()
        return _report(root, outcomes, refused, writer)


def part_path(out: Path, part: tuple[int, int]) -> Path:
    """Where the i-th of n parts of a store is packed."""
    return out.with_name(f"{out.name}.part-{part[0]}-of-{part[1]}")


def _key(sources: Sequence[str | Path], out: Path, keys: str | Path | None, *, is_part: bool) -> bytes:
    """The key of a store: its own, else that of `keys` or of a scan table, else a new one, which parts share."""
    listed = key_of_tables(sources)
    asked = None if keys is None else read_keymap(Path(keys)).key
    if None not in (asked, listed) and asked != listed:
        raise CtloadError(
            "this key map is not that of the scan table, whose ids would be other ones; leave --keys out", path=keys
        )
    keymap = open_keymap(out, key=asked or listed)
    if is_part and keymap.is_new:
        out.parent.mkdir(parents=True, exist_ok=True)
        keymap.create()
        return open_keymap(out, key=asked or listed).key  # of whichever part was first
    return keymap.key


def _tasks(collected: list[PackSource], keymap: KeyMap, writer: StoreWriter) -> list[PackTask]:
    study_of = {entry.row["source"]: study for study, entry in writer.entries.items()}
    tasks = []
    for source in collected:
        hashed = keymap.add(source.relative)
        tasks.append(PackTask(source, hashed, writer.entries.get(source.study), study_of.get(hashed, source.study)))
    return tasks


def _outcomes(
    tasks: list[PackTask], writer: StoreWriter, preset: Preset, key: bytes, workers: int
) -> Iterator[Outcome]:
    """Outcomes as they come. Anything but a refusal stops the pack; what was packed until then stays packed."""
    if workers == 1:
        with closing(PackWorker(writer.path, writer.header, preset, key)) as worker:
            yield from map(worker.run, tasks)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(writer.path, writer.header, preset, key, writer.lock.for_worker()),
    )
    try:
        for future in as_completed([pool.submit(run_in_worker, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise CtloadError(
            "a worker process died, most likely for want of memory; run again with fewer workers, what is packed "
            "is kept",
            path=writer.path,
        ) from error
    finally:
        end_pool(pool, set(multiprocessing.active_children()) - others)


def _report(root: Path, outcomes: list[Outcome], refused: list[Refusal], writer: StoreWriter) -> PackReport:
    studies = [
        StudyReport(each.study, each.is_reused, each.entry.row["source"], each.entry.row, each.left_out)
        for each in outcomes
        if each.entry is not None
    ]
    refused = [*refused, *(each.refusal for each in outcomes if each.refusal is not None)]
    return PackReport(
        store=root,
        studies=tuple(sorted(studies, key=lambda each: each.study)),
        refused=tuple(_kept(each, writer) for each in sorted(refused, key=lambda each: (each.study, each.source))),
        num_studies=len(writer.entries),
    )


def _kept(refusal: Refusal, writer: StoreWriter) -> Refusal:
    """The refusal, and that the store still has what was packed from this source before, if it has."""
    known = writer.entries.get(refusal.study)
    if known is None or known.row["source"] != refusal.hashed:
        return refusal
    stays = "; the store keeps what was packed from this source before, `ctload drop` removes it"
    return replace(refusal, reason=refusal.reason + stays, detail=refusal.detail + stays)
