"""Loading: studies per second from prepared data to float32 in [0, 1], this project and others, in one run.

Two works on the same real CT, every study once per round: whole volumes on the Merlin grid, and random 40x96x96 crops
of native volumes; both with random flips along three axes and one HU window. Everybody starts from data prepared once:
ours from a packed store with checksums, MONAI from its caches (tensors already windowed, which spares it work), the
floor from memory-mapped int16 .npy files through our own photometric pass, without checksums, flips or drawing.
Caches are warm. MONAI runs with and without worker processes; the better of the two is its row in a table, both stand
in the CSV. Rows say what was measured here, in studies per second and as ratios of the same round.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset, PersistentDataset
from monai.transforms.compose import Compose
from monai.transforms.croppad.array import RandSpatialCrop
from monai.transforms.spatial.array import RandFlip
from monai.transforms.transform import Transform

import ctload
from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctload.photometric import run_photometric

COPIES = 4  # each real study is packed this often, so that a round is long enough to time
CROP = (40, 96, 96)
WINDOW = ctload.HuWindow(-1000, 1000)


class ReadStored(Transform):
    """A study of the store as a float32 (1, D, H, W) tensor in [0, 1]: MONAI's prepared data, made once."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, study: str) -> torch.Tensor:
        voxels = ctload.open_store(self.store).read(study)
        return torch.from_numpy((voxels.astype(np.float32) + 1000).clip(0, 2000) / 2000)[None]


def run(data: Path, scratch: Path, num_rounds: int) -> None:
    """Pack what is below `data`, time both works and append the rows."""
    sources = sorted([*data.rglob("*.nii.gz"), *data.rglob("*.zip")])
    for preset, crop, work in (
        ("merlin", ctload.WholeVolume(), "store -> whole 160x224x224, flips, window"),
        ("native", ctload.RandomCrop(CROP), "store -> random 40x96x96 of native, flips, window"),
    ):
        store = _packed(sources, scratch / f"{preset}.zarr", preset)
        candidates = dict(_ours(store, crop))
        candidates |= dict(_monai(store, scratch, crop))
        candidates["npy mmap, no checksum, no flips"] = _floor(store, scratch, crop)
        values = alternate(candidates, num_rounds=num_rounds)
        _write(work, store, values)


def _packed(sources: list[Path], out: Path, preset: str) -> Path:
    """A store of COPIES of every source that can be packed; which ones could not is printed."""
    table = out.with_suffix(".csv")
    lines = [
        f"{source.parent.name}-{number},{source.resolve()}"
        for source, number in itertools.product(sources, range(COPIES))
    ]
    table.write_text("\n".join(["study,path", *lines]) + "\n")
    report = ctload.pack([table], out, preset=preset, workers=2, progress=False)
    print(report)
    return out


def _ours(store: Path, crop: Any) -> Iterator[tuple[str, Callable[[], float]]]:
    studies = ctload.open_store(store).studies
    for pipeline in ("numba", "dali", "reference"):
        loader = ctload.Loader(
            studies,
            sampler=ctload.ShuffleSampler(batch_size=4, seed=0),
            crop=crop,
            window=WINDOW,
            augment=ctload.Augment(flip=(0.5, 0.5, 0.5)),
            pipeline=pipeline,
            to="torch",
        )
        yield f"ctload {pipeline}", functools.partial(_rate, loader, lambda batch: len(batch.study))


def _monai(store: Path, scratch: Path, crop: Any) -> Iterator[tuple[str, Callable[[], float]]]:
    """MONAI's two caches, in process and with two worker processes that live on over the rounds."""
    ids = ctload.open_store(store).studies.ids
    random: list[Transform] = [RandFlip(prob=0.5, spatial_axis=axis) for axis in range(3)]
    if not isinstance(crop, ctload.WholeVolume):
        random.insert(0, RandSpatialCrop(CROP, random_size=False))
    chain = Compose([ReadStored(store), *random])
    datasets = {
        "monai CacheDataset": CacheDataset(ids, chain, progress=False, copy_cache=False),
        "monai PersistentDataset": PersistentDataset(ids, chain, cache_dir=scratch / f"{store.stem}.monai"),
    }
    for (name, dataset), workers in itertools.product(datasets.items(), (0, 2)):
        loader = DataLoader(
            dataset,
            batch_size=4,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )
        yield f"{name} workers={workers}", functools.partial(_rate, loader, len)


def _floor(store: Path, scratch: Path, crop: Any) -> Callable[[], float]:
    """Memory-mapped int16 files, one fused pass to float32, on one thread: what a loader is held against."""
    opened = ctload.open_store(store)
    folder = scratch / f"{store.stem}.npy"
    folder.mkdir(exist_ok=True)
    files = []
    for study in opened.studies.ids:
        np.save(folder / f"{study}.npy", opened.read(study))
        files.append(folder / f"{study}.npy")

    def one_round() -> float:
        started = time.perf_counter()
        rng = np.random.default_rng(0)
        for path in files:
            voxels = np.load(path, mmap_mode="r")
            if not isinstance(crop, ctload.WholeVolume):
                start = [int(rng.integers(0, max(n - c, 0) + 1)) for n, c in zip(voxels.shape, CROP, strict=True)]
                voxels = voxels[tuple(slice(s, s + c) for s, c in zip(start, CROP, strict=True))]
            flat = np.ascontiguousarray(voxels).reshape(-1)
            one, zero = np.float32(1), np.float32(0)
            out = np.empty(flat.size, np.float32)
            low, high = np.float32(WINDOW.low), np.float32(WINDOW.high)
            run_photometric(flat, low, high, zero, one, one, zero, np.uint64(0), 0, 0, out)
        return len(files) / (time.perf_counter() - started)

    return one_round


def _rate(loader: Any, count: Callable[[Any], int]) -> float:
    """Studies per second over one epoch."""
    started = time.perf_counter()
    num_studies = sum(count(batch) for batch in loader)
    return num_studies / (time.perf_counter() - started)


def _write(work: str, store: Path, values: dict[str, list[float]]) -> None:
    config = (
        f"studies={len(ctload.open_store(store))} batch=4 cores=2 torch={version('torch')} monai={version('monai')}"
    )
    rows = [row_of(work, name, config, "rate", "studies/s", rates) for name, rates in values.items()]
    ours = values["ctload numba"]  # what pipeline="auto" is on the CPU
    rows += [
        row_of(work, f"ctload numba / {name}", config, "ratio", "x", paired_ratios(ours, rates))
        for name, rates in values.items()
        if name != "ctload numba"
    ]
    append_rows("loading", rows)
