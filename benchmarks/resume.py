"""Resume: how long a fresh process takes from a saved state to the first batch, in a store of a million studies.

The manifest has a million rows; they share the files of a few small made-up volumes, since what is measured does not
depend on voxels. Each measurement is a process of its own, so that compiled code comes from numba's cache on disk and
nothing is warm but the system's file cache. Opening the store (the manifest is read and checked) is a row of its own.
Rows go to results/loading.csv.

`python -m benchmarks.resume STORE SAMPLER EPOCH STEP` is one such process.
"""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

import ctload
from benchmarks.rows import Row, append_rows, row_of
from ctload.sampling.sampler import Sampler
from ctload.storage import layout
from ctload.storage.header import read_header, write_header
from ctload.storage.manifest_file import encode_manifest
from ctload.testing import synthetic_store

STUDIES, BATCH, SHAPE, FILES = 1_000_000, 8, (8, 24, 24), 4
WORK = "first batch after a resume"
CROP = ctload.RandomCrop((8, 16, 16))


def run(scratch: Path, num_rounds: int) -> None:
    """Measure every sampler `num_rounds` times, in turn, and append the rows."""
    store = large_store(scratch / f"resume-{STUDIES}.zarr", STUDIES)
    append_rows("loading", rows_of(store, STUDIES, num_rounds))


def large_store(path: Path, num_studies: int) -> Path:
    """A store of few volumes whose manifest has many rows; made the first time."""
    if path.exists():
        return path
    table = synthetic_store(path, FILES, SHAPE).studies.table
    rng = np.random.default_rng(0)
    table = table.take(pa.array(np.arange(num_studies) % FILES))
    ids = pa.array([f"study-{number:07d}" for number in range(num_studies)])
    table = table.set_column(table.column_names.index("study"), "study", ids)
    table = table.append_column("abnormal", pa.array((rng.random(num_studies) < 0.4).astype(np.int64)))
    table = table.append_column("weight", pa.array(rng.random(num_studies) + 0.1))
    content = encode_manifest(table)
    (path / layout.MANIFEST).write_bytes(content)
    digests = (xxhash.xxh3_128_hexdigest(content),)
    write_header(path, dataclasses.replace(read_header(path), manifest_digests=digests, num_studies=num_studies))
    return path


def samplers() -> dict[str, Sampler]:
    """What is resumed."""
    stratified = ctload.StratifiedSampler(by="abnormal", quotas={"normal": 2, "abnormal": 6}, batch_size=BATCH, seed=0)
    return {
        "shuffled": ctload.ShuffleSampler(BATCH, seed=0),
        "stratified": stratified,
        "shuffled twin": ctload.ShuffledTwin(stratified),
        "weighted": ctload.WeightedSampler("weight", batch_size=BATCH, seed=0),
    }


def rows_of(store: Path, num_studies: int, num_rounds: int) -> list[Row]:
    """Resume in the middle of the second epoch, in fresh processes."""
    opened: list[float] = []
    resumed: dict[str, list[float]] = {name: [] for name in samplers()}
    for round_number in range(num_rounds + 1):
        for name, values in resumed.items():
            open_s, first_s = measure(store, name, 1, num_studies // BATCH // 2)
            if round_number:
                opened.append(open_s)
                values.append(first_s)
    config = f"studies={num_studies} batch={BATCH} fresh process"
    rows = [row_of(WORK, f"ctload {name}", config, "time", "s", values) for name, values in resumed.items()]
    return [*rows, row_of(WORK, "ctload open_store", config, "time", "s", opened)]


def measure(store: Path, sampler: str, epoch: int, step: int) -> tuple[float, float]:
    """Seconds of opening the store, and from there to the first batch, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.resume", str(store), sampler, str(epoch), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    open_s, first_s = map(float, done.stdout.split()[-2:])
    return open_s, first_s


def main() -> None:
    path, name, epoch, step = sys.argv[1:]
    started = time.perf_counter()
    store = ctload.open_store(path)
    opened = time.perf_counter()
    with ctload.Loader(store.studies, sampler=samplers()[name], crop=CROP) as loader:
        loader.load_state_dict(loader.state_dict() | {"epoch": int(epoch), "step": int(step)})
        batch = next(iter(loader))
        first = time.perf_counter()
    assert (batch.plan.epoch, batch.plan.step) == (int(epoch), int(step))
    print(opened - started, first - opened)


if __name__ == "__main__":
    main()
