"""pack: sources in, a store out. Parallel over sources, resumable at any moment, never half done.

Journal x preset hash x digest of the source's bytes decide what is reused. Memory is one volume per worker.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ctload.errors import CtloadError
from ctload.keymap import open_keymap
from ctload.pack_source import Refusal, collect_sources
from ctload.pack_worker import Outcome, PackTask, PackWorker, run_in_worker, start_worker
from ctload.preset import Preset
from ctload.writer import StoreWriter


@dataclass(frozen=True)
class PackReport:
    """What a pack did.

    Attributes:
        packed, reused: Study ids, sorted.
        refused: What was not packed, and why.
        left_out: (study, sentence) of what readers did not take from a source they packed.
        num_clipped_low, num_clipped_high: Voxels beyond the preset's clip range, over packed and reused studies.
        num_studies: Studies in the store now.
    """

    packed: tuple[str, ...]
    reused: tuple[str, ...]
    refused: tuple[Refusal, ...]
    left_out: tuple[tuple[str, str], ...]
    num_clipped_low: int
    num_clipped_high: int
    num_studies: int


def pack(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    preset: str | Preset,
    workers: int = 1,
    unit: str | None = None,
    profile: str = "fast",
    progress: bool = True,
    wait_s: float = 5.0,
) -> PackReport:
    """Pack sources into a store, which is made or added to. Killed at any moment and run again, it ends the same.

    Where every source of a new store is refused, no store is made.

    Args:
        sources: NIfTI files, DICOM folders or zips, folders of those, and tables (.csv, .parquet) with the columns
            study and path; further columns of a table are carried into the manifest.
        out: The store. A secret key and the sources' paths go to OUT.keys.json beside it.
        preset: "native", "merlin", "ct-rate", another name `Preset.from_name` takes, or a Preset.
        workers: Processes. With more than one a script needs the usual `if __name__ == "__main__":`.
        unit: "HU", "SUV" or "arbitrary" for sources without one of their own; None means HU.
        profile: "fast" (lz4) or "archive" (zstd).
        progress: Show a progress bar where the output is a terminal.
        wait_s: How long to wait for another pack on this store, in seconds.

    Raises:
        PresetMismatchError: No such preset, or the store has another one.
        StoreBusyError: Another pack is at work on the store.
        ManifestError: A table of sources is not as it must be.
        CtloadError: The store cannot be written to, or a worker died.
    """
    rule = Preset.from_name(preset) if isinstance(preset, str) else preset
    if workers < 1:
        raise CtloadError(f"workers must be at least 1, got {workers}")
    collected, refused = collect_sources(sources, unit=unit)
    root = Path(out)
    with StoreWriter(root, rule, profile=profile, wait_s=wait_s) as writer:
        keymap = open_keymap(root)
        tasks = [PackTask(each, keymap.add(each.relative), writer.entries.get(each.study)) for each in collected]
        keymap.save()
        outcomes: list[Outcome] = []
        with tqdm(total=len(tasks), desc="pack", unit="study", disable=None if progress else True) as bar:
            for outcome in _outcomes(tasks, writer, rule, workers):
                outcomes.append(outcome)
                bar.update()
        if not writer.is_new or any(outcome.entry for outcome in outcomes):
            writer.finish()
        else:
            writer.discard()
            keymap.discard()
        return _report(outcomes, refused, len(writer.entries))


def _outcomes(tasks: list[PackTask], writer: StoreWriter, preset: Preset, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come. Anything but a refusal stops the pack; what was packed until then stays packed."""
    if workers == 1:
        with closing(PackWorker(writer.path, writer.header, preset)) as worker:
            yield from map(worker.run, tasks)
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(writer.path, writer.header, preset, writer.lock.for_worker()),
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
        pool.shutdown(cancel_futures=True)


def _report(outcomes: list[Outcome], refused: list[Refusal], num_studies: int) -> PackReport:
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    return PackReport(
        packed=tuple(sorted(each.study for each in outcomes if each.entry is not None and not each.is_reused)),
        reused=tuple(sorted(each.study for each in outcomes if each.is_reused)),
        refused=(*refused, *(each.refusal for each in outcomes if each.refusal is not None)),
        left_out=tuple(sorted((each.study, sentence) for each in outcomes for sentence in each.left_out)),
        num_clipped_low=sum(entry.row["num_clipped_low"] for entry in entries),
        num_clipped_high=sum(entry.row["num_clipped_high"] for entry in entries),
        num_studies=num_studies,
    )
