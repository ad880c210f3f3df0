"""Ring: from a store into memory that is in use, against a floor by hand and against nnU-Net's files. No pipeline.

Whole volumes of the Merlin grid, four reads at a time into four slots, on one thread and on two, against pread and
blosc by hand (by_hand.py), which checks nothing. Random 96^3 crops of a native chest, one at a time on one thread,
against nnU-Net's blosc2 files, which have no checksum: float32 as it stores them, and int16 in the same chunks.
Rows go to results/loading.csv.
"""

import functools
import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import ctload
from benchmarks.by_hand import Shard, read_by_hand, shard_of
from benchmarks.chunks import EDGE, boxes_of
from benchmarks.rows import Row, alternate, append_rows, paired_ratios, row_of
from ctload.geometry import Box, Triple
from ctload.storage import chunking, layout

SLOTS, COPIES = 4, 4
WHOLE = "store -> ring, whole 160x224x224"
CROPS = f"store -> ring, random {EDGE}^3 of a native chest"


def run(data: Path, scratch: Path, num_rounds: int) -> None:
    """Both works on the volumes below `data`; crops on those that are deep enough."""
    sources = sorted([*data.rglob("*.nii.gz"), *data.rglob("*.zip")])
    stores = {}
    for preset in ("merlin", "native"):
        stores[preset] = scratch / f"ring-{preset}.zarr"
        ctload.pack(sources, stores[preset], preset=preset, workers=1, progress=False)
    append_rows("loading", whole_rows(stores["merlin"], num_rounds))
    append_rows("loading", crop_rows(stores["native"], scratch, num_rounds))


def whole_rows(path: Path, num_rounds: int) -> list[Row]:
    """Whole volumes: ours and by hand, on one thread and on two."""
    makers = {"ctload": _ours, "by hand": _by_hand}
    ways = {f"{who}, threads={number}": make(path, number) for number in (1, 2) for who, make in makers.items()}
    rates = alternate(ways, num_rounds=num_rounds)
    config = f"slots={SLOTS} crc32c of ours is checked"
    rows = [row_of(WHOLE, name, config, "rate", "studies/s", values) for name, values in rates.items()]
    for over, under in (
        ("ctload, threads=1", "by hand, threads=1"),
        ("ctload, threads=2", "by hand, threads=2"),
        ("ctload, threads=2", "ctload, threads=1"),
    ):
        ratios = paired_ratios(rates[over], rates[under])
        rows.append(row_of(WHOLE, f"{over} / {under}", config, "ratio", "x", ratios))
    return rows


def _ours(path: Path, threads: int) -> Callable[[], float]:
    store = ctload.open_store(path, num_threads=threads)
    shapes, todo = store.studies.shapes.tolist(), list(range(len(store))) * COPIES
    slots = [np.ones(max(map(np.prod, shapes)), np.int16) for _ in range(SLOTS)]

    def once() -> float:
        started, pending = time.perf_counter(), []
        for number, row in enumerate(todo):
            if number >= SLOTS:
                pending[number - SLOTS].result()
            depth, height, width = shapes[row]
            into = slots[number % SLOTS][: depth * height * width].reshape(shapes[row])
            pending.append(store.start_read(row, Box.whole((depth, height, width)), into))
        for read in pending[-SLOTS:]:
            read.result()
        return len(todo) / (time.perf_counter() - started)

    return once


def shards_in(path: Path) -> list[Shard]:
    """The volumes' shards of a store, in the order of its rows."""
    studies = ctload.open_store(path).studies
    folders = studies.table["path"].to_pylist()
    shapes: list[Triple] = [(depth, height, width) for depth, height, width in studies.shapes.tolist()]
    return [
        shard_of(path / folder / layout.shard_file("0"), shape, chunking.chunk_shape(shape))
        for folder, shape in zip(folders, shapes, strict=True)
    ]


def _by_hand(path: Path, threads: int) -> Callable[[], float]:
    shards, shapes = shards_in(path), ctload.open_store(path).studies.shapes.tolist()
    size = max(shard.path.stat().st_size for shard in shards)
    slots = [(np.ones(max(map(np.prod, shapes)), np.int16), bytearray(b"\1") * size) for _ in range(threads)]
    blosc = importlib.import_module("numcodecs.blosc")

    def some(worker: int) -> int:
        memory, buffer = slots[worker]
        rows = range(worker, len(shards) * COPIES, threads)
        for row in rows:
            depth, height, width = shapes[row % len(shards)]
            out = memory[: depth * height * width].reshape(depth, height, width)
            read_by_hand(shards[row % len(shards)], Box.whole((depth, height, width)), out, buffer, is_whole=True)
        return len(rows)

    def once() -> float:
        blosc.use_threads = False  # pyright: ignore[reportAttributeAccessIssue]  # each of our threads decodes on its own
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            number = sum(pool.map(some, range(threads)))
        return number / (time.perf_counter() - started)

    return once


def crop_rows(path: Path, scratch: Path, num_rounds: int) -> list[Row]:
    """Random cubes of the volumes that are large enough."""
    store = ctload.open_store(path, num_threads=1)
    rows = [row for row, shape in enumerate(store.studies.shapes.tolist()) if min(shape) >= EDGE]
    volumes = {row: store.read(store.studies.ids[row]) for row in rows}
    boxes = [(row, box) for row, volume in volumes.items() for box in boxes_of(volume, (EDGE, EDGE, EDGE))]
    out = np.ones((EDGE, EDGE, EDGE), np.int16)
    ways: dict[str, Callable[[int, Box], Any]] = {"ctload": lambda row, box: store.start_read(row, box, out).result()}
    try:
        for kind in ("float32", "int16"):
            files = {row: _blosc2_file(volume.astype(kind), scratch / f"ring-{kind}-{row}.b2nd")
                     for row, volume in volumes.items()}  # fmt: skip
            ways[f"nnU-Net blosc2 {kind}, no checksum"] = functools.partial(_read_blosc2, files)
    except ImportError as error:
        print(f"nnU-Net's files are left out: {error}")
    rates = alternate({name: functools.partial(_crops_per_s, way, boxes) for name, way in ways.items()},
                      num_rounds=num_rounds)  # fmt: skip
    config = "threads=1"
    found = [row_of(CROPS, name, config, "rate", "crops/s", values) for name, values in rates.items()]
    for name, values in rates.items():
        if name != "ctload":
            ratios = paired_ratios(rates["ctload"], values)
            found.append(row_of(CROPS, f"ctload / {name}", config, "ratio", "x", ratios))
    return found


def _crops_per_s(read: Callable[[int, Box], Any], boxes: list[tuple[int, Box]]) -> float:
    started = time.perf_counter()
    for row, box in boxes:
        read(row, box)
    return len(boxes) / (time.perf_counter() - started)


def _blosc2_file(voxels: np.ndarray, path: Path) -> Any:
    """Written and opened as nnU-Net does it, for patches of EDGE^3."""
    rival = importlib.import_module("nnunetv2.training.dataloading.nnunet_dataset")
    blosc2 = importlib.import_module("blosc2")
    data, stem = np.ascontiguousarray(voxels[None]), str(path.with_suffix(""))
    blocks, chunks = rival.comp_blosc2_params(data.shape, (EDGE,) * 3, bytes_per_pixel=voxels.itemsize)
    for old in (path, path.with_name(f"{path.stem}_seg.b2nd")):
        old.unlink(missing_ok=True)  # of an earlier call: neither is written over
    rival.nnUNetDatasetBlosc2.save_case(data, np.zeros((1, 1, 1, 1), np.int8), {}, stem, chunks=chunks, blocks=blocks,
                                        chunks_seg=(1,) * 4, blocks_seg=(1,) * 4)  # fmt: skip
    return blosc2.open(str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")


def _read_blosc2(files: dict[int, Any], row: int, box: Box) -> np.ndarray:
    z, y, x = (slice(first, last) for first, last in zip(box.start, box.stop, strict=True))
    return files[row][:, z, y, x]
