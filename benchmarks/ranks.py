"""Ranks: several loader processes of one world that share a machine and a store, as on a node with several GPUs.

Each rank takes its part of every batch of whole volumes, flips and window, and does nothing with it. Cores are shared
as torchrun's LOCAL_WORLD_SIZE says. The rows: studies/s of all ranks together, what a rank waited for a study, and the
aggregate against that of one process. All ranks start to count together, after batches that do not count.
Rows go to results/loading.csv.

`python -m benchmarks.ranks STORE RANK WORLD NUM_BATCHES` is one rank.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import ctload
from benchmarks.rows import append_rows, paired_ratios, row_of
from ctload.storage.manifest import Studies

WORLDS = (1, 2, 8)
BATCH, WARM_UP, STUDIES = 16, 2, 320
WORK = "ranks of one world, whole volumes, flips, window"


def run(data: Path, scratch: Path, num_rounds: int) -> None:
    """Pack what is below `data` on the Merlin grid and measure every world, in turn."""
    sources = sorted([*data.rglob("*.nii.gz"), *data.rglob("*.zip")])
    store = scratch / "ranks.zarr"
    ctload.pack(sources, store, preset="merlin", workers=1, progress=False)
    run_worlds(store, WORLDS, STUDIES, num_rounds)


def run_worlds(store: Path, worlds: tuple[int, ...], num_studies: int, num_rounds: int) -> None:
    """Append the rows of worlds over one store, `num_studies` a round."""
    rates: dict[int, list[float]] = {world: [] for world in worlds}
    waits: dict[int, list[float]] = {world: [] for world in worlds}
    for round_number in range(num_rounds + 1):
        for world in worlds:
            rate, wait_ms = measure(store, world, num_studies // BATCH)
            if round_number:
                rates[world].append(rate)
                waits[world] += wait_ms
    config = f"batch={BATCH} over all ranks, cores={len(os.sched_getaffinity(0))} studies={num_studies}"
    rows = []
    for world in worlds:
        name = f"ctload ranks={world}"
        rows.append(row_of(WORK, name, config, "aggregate rate", "studies/s", rates[world]))
        rows.append(row_of(WORK, name, config, "wait of a rank", "ms/study", waits[world]))
        if world != worlds[0]:
            ratios = paired_ratios(rates[world], rates[worlds[0]])
            rows.append(row_of(WORK, f"{name} / ranks={worlds[0]}", config, "ratio", "x", ratios))
    append_rows("loading", rows)


def measure(store: Path, world: int, num_batches: int) -> tuple[float, list[float]]:
    """Studies/s of all ranks together, from the first one's start to the last one's end, and each one's wait."""
    environment = os.environ | {"LOCAL_WORLD_SIZE": str(world)}
    command = [sys.executable, "-m", "benchmarks.ranks", str(store)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(world), str(num_batches)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(world)
    ]  # fmt: skip
    pipes = [(rank.stdin, rank.stdout) for rank in ranks]
    try:
        for _, told in pipes:
            assert told is not None
            told.readline()  # it is warm
        started = time.perf_counter()
        for words, _ in pipes:
            assert words is not None
            words.write("go\n")
            words.flush()
        waits = [float(told.readline()) for _, told in pipes if told is not None]
        seconds = time.perf_counter() - started
    finally:
        for rank in ranks:
            rank.communicate()
    return num_batches * BATCH / seconds, waits


def main() -> None:
    path, rank, world, num_batches = Path(sys.argv[1]), *map(int, sys.argv[2:])
    store = ctload.open_store(path)
    rows = np.arange((num_batches + WARM_UP) * BATCH) % len(store)
    loader = ctload.Loader(
        Studies(store.studies.table.take(pa.array(rows)), store),
        sampler=ctload.ShuffleSampler(BATCH, seed=0),
        augment=ctload.Augment(flip=(0.5, 0.5, 0.5)),
        rank=rank,
        world_size=world,
        reads_past_epoch=False,
    )
    for _ in range(2):  # compilers and the system's file cache
        iterator = iter(loader)
        next(iterator)
        iterator.close()  # pyright: ignore[reportAttributeAccessIssue]
    loader.load_state_dict(loader.state_dict() | {"step": WARM_UP})
    before = loader.stats()
    print("warm", flush=True)
    sys.stdin.readline()
    number = sum(len(batch.study) for batch in loader)
    print(1e3 * (loader.stats().wait_s - before.wait_s) / number, flush=True)


if __name__ == "__main__":
    main()
