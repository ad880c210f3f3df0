"""Loading: from prepared data to float32 in [0, 1], this project and others, in one run.

Two works on the same real CT: whole volumes on the Merlin grid, and random 40x96x96 crops
of native volumes; both with random flips along three axes and one HU window. Everybody starts from data prepared once
and from warm caches: ours from a packed store with checksums, and once more with a cache of decoded chunks in memory,
as MONAI's CacheDataset has one; others from what suits them best (see rivals_*.py).
What can run with worker processes runs with none and with two. Raw .nii.gz, read anew each epoch, is a row of its own
with the epoch from which packing pays. A round is several passes in one iterator, so that nobody's start counts much;
it begins with nothing read ahead and ends with the last batch, for all. Rates, CPU time and ratios are of the same
rounds; peak memory is of a process for each provider alone.

`python -m benchmarks.loading PROVIDER WORK STORE SCRATCH` is that process. `python -m benchmarks.loading_table` makes
README's tables and plot of the newest rows.
"""

import functools
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa

import ctload
from benchmarks import rivals_loading as rivals
from benchmarks.rivals_loading import BATCH, Epoch, Work
from benchmarks.rows import Row, alternate, append_rows, paired_ratios, row_of
from benchmarks.usage import PeakMemory, cpu_seconds, memory_mib
from ctload.storage.manifest import Studies

COPIES = 4  # each real study is packed this often, so that a round is long enough to time
CROP = (40, 96, 96)
OURS = "ctload numba"  # what pipeline="auto" is on the CPU
CACHED = f"{OURS}, cache in RAM"  # of decoded chunks, as int16
PACKS = 3  # of which the median counts
CACHE_BYTES = 8 << 30  # more than all studies need
RAW = "raw .nii.gz each epoch"
WINDOW = ctload.HuWindow(rivals.LOW, rivals.HIGH)
WORKS = {
    "merlin": ("store -> whole 160x224x224, flips, window", None, 4),
    "native": ("store -> random 40x96x96 of native, flips, window", CROP, 16),
}


def run(data: Path, scratch: Path, num_rounds: int) -> None:
    """Pack what is below `data`, time both works and append the rows."""
    sources = sorted([*data.rglob("*.nii.gz"), *data.rglob("*.zip")])
    works = []
    for preset in WORKS:
        store = scratch / f"{preset}.zarr"
        _pack(sources, store, preset)
        works.append(work_on(preset, store, scratch))
    timed = [run_work(work, num_rounds) for work in works]
    for work, names in zip(works, timed, strict=True):
        append_rows("loading", _peaks(work, names, _config(work)))


def work_on(preset: str, store: Path, scratch: Path) -> Work:
    name, crop, repeats = WORKS[preset]
    return Work(name, store, crop, scratch, repeats)


def run_work(work: Work, num_rounds: int) -> list[str]:
    """Time one work, append its rows and name who took part."""
    epochs, timed = {}, {}
    for name, make in providers(work).items():
        try:
            epochs[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        timed[name] = Timed(epochs[name])
    rates = alternate(timed, num_rounds=num_rounds)
    config = _config(work)
    rows = [row_of(work.name, name, config, "rate", "studies/s", values) for name, values in rates.items()]
    for name, one in timed.items():
        rows.append(row_of(work.name, name, config, "cpu", "ms/study", one.cpu_ms[1:]))
    for ours, (name, values) in itertools.product((OURS, CACHED), rates.items()):
        if name != ours:
            ratios = paired_ratios(rates[ours], values)
            rows.append(row_of(work.name, f"{ours} / {name}", config, "ratio", "x", ratios))
    append_rows("loading", [*rows, *_break_even(work, rates, config)])
    return list(rates)


class Timed:
    """One round per call, timed: studies per second leave, CPU time is kept.

    Args:
        epoch: The round.
    """

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self.cpu_ms: list[float] = []

    def __call__(self) -> float:
        cpu, started = cpu_seconds(), time.perf_counter()
        number = self._epoch()
        wall_s = time.perf_counter() - started
        self.cpu_ms.append(1e3 * (cpu_seconds() - cpu) / number)
        return number / wall_s


def providers(work: Work) -> dict[str, Callable[[], Epoch]]:
    """Everybody by name; each is made when it is called."""
    made: dict[str, Callable[[], Epoch]] = {
        f"ctload {pipeline}": functools.partial(_ours, work, pipeline) for pipeline in ("numba", "dali", "reference")
    }
    made[CACHED] = functools.partial(_ours, work, "numba", cache_bytes=CACHE_BYTES)
    made["tensorstore + torch, no DALI"] = functools.partial(rivals.tensorstore_torch, work)
    for workers in (0, 2):
        at = f"workers={workers}"
        for cache in ("CacheDataset", "PersistentDataset"):
            made[f"monai {cache} {at}"] = functools.partial(_monai, work, workers, cache)
        made[f"torchio {at}"] = functools.partial(_torchio, work, workers)
        made[f"nnU-Net blosc2 files {at}"] = functools.partial(rivals.blosc2, work, workers)
        made[f"zarr-python {at}"] = functools.partial(rivals.zarr_python, work, workers)
        made[f"torch DataLoader .npy {at}"] = functools.partial(rivals.npy, work, workers)
    made[RAW] = functools.partial(rivals.nifti_gz, work, 2)
    made["npy mmap, no checksum, no flips"] = functools.partial(rivals.mmap_floor, work)
    return made


def _ours(work: Work, pipeline: str, cache_bytes: int = 0) -> Epoch:
    """An epoch of the loader is a round: every study work.repeats times. It ends with it and reads nothing beyond."""
    store = ctload.open_store(work.store, cache_bytes=cache_bytes)
    rows = np.tile(np.arange(len(store)), work.repeats if pipeline != "reference" else 1)
    loader = ctload.Loader(
        Studies(store.studies.table.take(pa.array(rows)), store),
        sampler=ctload.ShuffleSampler(batch_size=BATCH, seed=0),
        crop=ctload.WholeVolume() if work.crop is None else ctload.RandomCrop(work.crop),
        window=WINDOW,
        augment=ctload.Augment(flip=(0.5, 0.5, 0.5)),
        pipeline=pipeline,
        to="torch",
        reads_past_epoch=False,
    )
    return lambda: sum(len(batch.study) for batch in loader)


def _monai(work: Work, workers: int, cache: str) -> Epoch:
    from benchmarks.rivals_monai import monai

    return monai(work, workers, cache=cache)


def _torchio(work: Work, workers: int) -> Epoch:
    from benchmarks.rivals_torchio import torchio_epochs

    return torchio_epochs(work, workers)


def _pack(sources: list[Path], out: Path, preset: str) -> None:
    """A store of COPIES of every source that can be packed; which ones could not is printed."""
    table = out.with_suffix(".csv")
    lines = [
        f"{source.parent.name}-{number},{source.resolve()}"
        for source, number in itertools.product(sources, range(COPIES))
    ]
    table.write_text("\n".join(["study,path", *lines]) + "\n")
    report = ctload.pack([table], out, preset=preset, workers=2, progress=False)
    for refused in report.refused:
        print(refused)


def _break_even(work: Work, rates: dict[str, list[float]], config: str) -> list[Row]:
    """From which epoch on packing the .nii.gz files and reading the store takes less time than reading them anew."""
    if RAW not in rates:
        return []
    files = sorted(work.folder("nii.gz").glob("*.nii.gz"))
    packs_s = [_pack_again(files, work.scratch / f"{work.store.stem}.again.zarr") for _ in range(PACKS)]
    pack_s = statistics.median(packs_s)
    epochs = [pack_s / (1 / raw - 1 / ours) for raw, ours in zip(rates[RAW], rates[OURS], strict=True)]
    return [
        row_of(work.name, "ctload pack, 2 workers", config, "ingest", "s/study", packs_s),
        row_of(work.name, f"{OURS} against {RAW}", config, "break-even", "epochs", epochs),
    ]


def _pack_again(files: list[Path], out: Path) -> float:
    """Seconds a study of the command, start and all, into a new store, with nothing of others left to be written.

    A process of its own: workers that this one spawned would import all the rivals first.
    """
    shutil.rmtree(out, ignore_errors=True)
    words = ["pack", *files, "--out", out, "--preset", "native", "--workers", "2"]
    os.sync()
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ctload.cli", *map(str, words)], check=True, capture_output=True)
    return (time.perf_counter() - started) / len(files)


def _peaks(work: Work, names: list[str], config: str) -> list[Row]:
    """Peak memory of each provider, beyond what its process held before it was made."""
    rows = []
    for name in names:
        command = [sys.executable, "-m", "benchmarks.loading", name, work.store.stem, work.store, work.scratch]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        rows.append(row_of(work.name, name, config, "peak memory", "MiB", [float(done.stdout.split()[-1])]))
    return rows


def _config(work: Work) -> str:
    found = [f"studies={len(work.ids)} batch={BATCH} cores=2 machine=shared"]
    for package in ("torch", "monai", "torchio", "nnunetv2", "blosc2", "zarr", "tensorstore", "SimpleITK"):
        try:
            found.append(f"{package}={version(package)}")
        except PackageNotFoundError:
            continue
    return " ".join(found)


def main() -> None:
    provider, work, store, scratch = sys.argv[1:]
    before = memory_mib()
    with PeakMemory() as peak:
        epoch = providers(work_on(work, Path(store), Path(scratch)))[provider]()
        for _ in range(2):
            epoch()
    print(peak.mib - before)


if __name__ == "__main__":
    main()
