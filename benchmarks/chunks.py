"""Chunks: how the shape of a chunk decides what a read costs, on real CT. Rows go to results/chunks.csv.

Two grids: whole volumes of 160x224x224 (the Merlin grid), and a chest at native resolution; of each whole reads and
random crops of 96^3 and of 40x96x96, over several inner chunks, each volume in one shard with the store's own codecs,
in one thread of tensorstore. Then, for the store's own chunks of the native volume: a crop by its chunks, a crop out of
the whole volume, and by hand with all of the shard's bytes against the bytes of the chunks that are needed.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorstore
import zarr

import ctload
from benchmarks.by_hand import read_by_hand, shard_of
from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctload.geometry import Box, Triple
from ctload.storage import chunking, layout
from ctload.storage.shard_reader import open_shard, reader_context

EDGE, CROPS = 96, 8
WORKS: dict[str, Triple | None] = {
    "whole": None,
    "random 96^3": (EDGE, EDGE, EDGE),
    "random 40x96x96": (40, EDGE, EDGE),
}
SHAPES: dict[str, tuple[Triple, ...]] = {
    "merlin": (
        (8, 224, 224), (16, 224, 224), (32, 224, 224), (160, 224, 224), (16, 112, 112), (32, 64, 64), (64, 64, 64)
    ),
    "native": ((32, 32, 32), (32, 64, 64), (64, 64, 64), (96, 96, 96), (128, 128, 128), (16, 128, 128), (16, 512, 512)),
}  # fmt: skip


def run(data: Path, scratch: Path, num_rounds: int) -> None:
    """Sweep chunk shapes over the volumes below `data`."""
    sources = sorted([*data.rglob("*.nii.gz"), *data.rglob("*.zip")])
    for preset, shapes in SHAPES.items():
        store = scratch / f"chunks-{preset}.zarr"
        ctload.pack(sources, store, preset=preset, workers=1, progress=False)
        volumes = [volume for volume in map(ctload.open_store(store).read, _ids(store)) if min(volume.shape) >= EDGE]
        sweep(f"{preset} grid", volumes, shapes, scratch / f"chunks-{preset}", num_rounds)


def _ids(store: Path) -> list[str]:
    return ctload.open_store(store).studies.ids


def sweep(grid: str, volumes: list[np.ndarray], shapes: tuple[Triple, ...], folder: Path, num_rounds: int) -> None:
    """Time all kinds of reads of all volumes over all chunk shapes, and append the rows.

    Args:
        grid: Name of the volumes' grid, for the rows.
        volumes: (D, H, W) int16 each, no axis below EDGE.
        shapes: Of chunks, (D, H, W); the default of the first volume joins them.
        folder: Where arrays are written.
        num_rounds: Rounds that count.
    """
    own = chunking.chunk_shape(_shape(volumes[0]))
    shapes = (own, *(shape for shape in shapes if shape != own))
    config = f"volumes={len(volumes)} of {'x'.join(map(str, volumes[0].shape))}, threads=1, lz4 + crc32c"
    for work, crop in WORKS.items():
        timed = {}
        for chunk in shapes:
            paths = [written(volume, chunk, folder / f"{'x'.join(map(str, chunk))}-{at}")
                     for at, volume in enumerate(volumes)]  # fmt: skip
            boxes = [boxes_of(volume, crop) for volume in volumes]
            timed[chunk] = functools.partial(_read_ms, paths, boxes)
        times = alternate({_name(chunk, own): once for chunk, once in timed.items()}, num_rounds=num_rounds)
        _append(f"{grid}, {work}", times, _name(own, own), config)
    if max(volumes[0].shape[1:]) > chunking.SMALL_PLANE:
        paths = [folder / f"{'x'.join(map(str, own))}-{at}" for at in range(len(volumes))]
        _append(f"{grid}, shard against parts", _shard_times(volumes, paths, num_rounds), "parts, tensorstore", config)


def written(volume: np.ndarray, chunk: Triple, folder: Path) -> Path:
    """The volume as one shard of such chunks, with the store's codecs; written the first time."""
    if not folder.exists():
        shard = tuple(-(-size // part) * part for size, part in zip(volume.shape, chunk, strict=True))
        profile = chunking.profile_named("fast")
        array = zarr.create_array(
            str(folder), shape=volume.shape, dtype="int16", chunks=chunk, shards=shard, fill_value=-1024,
            serializer=chunking.serializer(), compressors=chunking.compressors(volume.dtype, profile),
            config={"write_empty_chunks": True},
        )  # fmt: skip
        array[...] = volume
    return folder


def boxes_of(volume: np.ndarray, crop: Triple | None) -> list[Box]:
    """The whole volume, or random boxes inside it, always the same."""
    if crop is None:
        return [Box.whole(_shape(volume))]
    rng, room = np.random.default_rng(0), np.array(volume.shape) - crop
    corners = [[int(rng.integers(0, size + 1)) for size in room.tolist()] for _ in range(CROPS)]
    return [Box((z, y, x), (z + crop[0], y + crop[1], x + crop[2])) for z, y, x in corners]


def _read_ms(paths: list[Path], boxes: list[list[Box]]) -> float:
    """Milliseconds of one read with tensorstore in one thread."""
    context = reader_context(1)
    handles = [open_shard(path, context) for path in paths]

    def read(at: int, box: Box, out: np.ndarray) -> None:
        target = tensorstore.array(out, context=context, copy=False, write=True)
        target.write(handles[at][_slices(box)]).result()

    return _timed_ms(read, boxes)


def _timed_ms(read: Callable[[int, Box, np.ndarray], None], boxes: list[list[Box]]) -> float:
    """Milliseconds of one read of a box into memory that is in use, after a round of all boxes that does not count."""
    memory = np.ones(max(int(np.prod(box.shape)) for some in boxes for box in some), np.int16)
    todo = [(at, box, memory[: int(np.prod(box.shape))].reshape(box.shape))
            for at, some in enumerate(boxes) for box in some]  # fmt: skip
    for is_counted in (False, True):
        started = time.perf_counter()
        for at, box, out in todo:
            read(at, box, out)
        if is_counted:
            return 1e3 * (time.perf_counter() - started) / len(todo)
    raise AssertionError


def _shard_times(volumes: list[np.ndarray], paths: list[Path], num_rounds: int) -> dict[str, list[float]]:
    """Ways to a crop of volumes in the store's own chunks."""
    boxes = [boxes_of(volume, WORKS["random 96^3"]) for volume in volumes]
    own = chunking.chunk_shape(_shape(volumes[0]))
    shards = [shard_of(path / layout.SHARD, _shape(volume), own) for path, volume in zip(paths, volumes, strict=True)]
    buffer = bytearray(b"\1") * max(shard.path.stat().st_size for shard in shards)
    whole = np.ones(max(volume.size for volume in volumes), np.int16)
    context = reader_context(1)
    handles = [open_shard(path, context) for path in paths]

    def by_hand(at: int, box: Box, out: np.ndarray, *, is_whole: bool) -> None:
        read_by_hand(shards[at], box, out, buffer, is_whole=is_whole)

    def out_of_all(at: int, box: Box, out: np.ndarray) -> None:
        voxels = whole[: volumes[at].size].reshape(volumes[at].shape)
        tensorstore.array(voxels, context=context, copy=False, write=True).write(handles[at]).result()
        out[...] = voxels[_slices(box)]

    ways: dict[str, Callable[[], float]] = {
        "parts, tensorstore": functools.partial(_read_ms, paths, boxes),
        "all decoded, tensorstore": functools.partial(_timed_ms, out_of_all, boxes),
    }
    for name, is_whole in (("parts, by hand, no checksum", False), ("all bytes, by hand, no checksum", True)):
        ways[name] = functools.partial(_timed_ms, functools.partial(by_hand, is_whole=is_whole), boxes)
    return alternate(ways, num_rounds=num_rounds)


def _append(work: str, times: dict[str, list[float]], own: str, config: str) -> None:
    rows = [row_of(work, name, config, "time", "ms/read", values) for name, values in times.items()]
    rows += [row_of(work, f"{name} / {own}", config, "ratio", "x", paired_ratios(values, times[own]))
             for name, values in times.items() if name != own]  # fmt: skip
    append_rows("chunks", rows)


def _name(chunk: Triple, own: Triple) -> str:
    return f"chunks {'x'.join(map(str, chunk))}{' (the default)' if chunk == own else ''}"


def _shape(volume: np.ndarray) -> Triple:
    depth, height, width = volume.shape
    return (depth, height, width)


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(first, last) for first, last in zip(box.start, box.stop, strict=True))
