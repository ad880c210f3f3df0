"""Others' ways from prepared data to batches: float32 in [0, 1], a random crop, random flips. Each as fast as it goes.

A provider is made once and gives one epoch per call: every study once. What it prepares it prepares before. Packages
that are not installed raise ImportError: `pip install torchio SimpleITK nnunetv2`. MONAI: rivals_monai.py.
"""

import importlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

import ctload
from ctload.geometry import Triple
from ctload.voxels.photometric import run_photometric

Epoch = Callable[[], int]
"""Goes through all studies, slow providers Work.few times and others Work.repeats, and tells how many came."""
LOW, HIGH = -1000, 1000
BATCH = 4


@dataclass(frozen=True)
class Work:
    """What everybody does.

    Attributes:
        name: For the rows.
        store: A packed store.
        crop: (D, H, W), or None for whole volumes.
        scratch: Where others prepare their data; made once.
        repeats: Passes of a round; of slow providers `few`.
    """

    name: str
    store: Path
    crop: Triple | None
    scratch: Path
    repeats: int = 8

    @property
    def ids(self) -> list[str]:
        return ctload.open_store(self.store).studies.ids

    @property
    def few(self) -> int:
        return max(1, self.repeats // 4)

    def folder(self, kind: str) -> Path:
        return self.scratch / f"{self.store.stem}.{kind}"


def windowed(voxels: np.ndarray) -> torch.Tensor:
    """(D, H, W) HU -> (1, D, H, W) float32 in [0, 1]."""
    return torch.from_numpy(voxels).float()[None].sub_(LOW).clamp_(0, HIGH - LOW).div_(HIGH - LOW)


def randomly_flipped(volume: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    axes = [axis for axis in (1, 2, 3) if rng.random() < 0.5]
    return volume.flip(axes) if axes else volume


class Items(Dataset):
    """Map style over anything that can be opened by a study's file and sliced."""

    def __init__(self, files: list[Path], opener: Callable[[Path], Any], crop: Triple | None) -> None:
        self.files, self.opener, self.crop = files, opener, crop

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        rng = np.random.default_rng()
        opened = self.opener(self.files[index])
        shape = opened.shape[-3:]
        size = shape if self.crop is None else self.crop
        start = [int(rng.integers(0, max(n - c, 0) + 1)) for n, c in zip(shape, size, strict=True)]
        box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
        part = opened[box] if len(opened.shape) == 3 else opened[(slice(None), *box)]
        voxels = np.array(part) if isinstance(part, np.memmap) else part
        if voxels.dtype == np.float32:
            return randomly_flipped(torch.from_numpy(voxels), rng)
        return windowed(randomly_flipped(torch.from_numpy(voxels)[None], rng)[0].numpy())  # flips half the bytes


def open_npy(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def open_zarr(path: Path) -> Any:
    return importlib.import_module("zarr").open_array(path, mode="r")


def open_blosc2(path: Path) -> Any:
    """As nnUNetDatasetBlosc2.load_case opens it, without the segmentation."""
    return importlib.import_module("blosc2").open(str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")


def open_nifti(path: Path) -> np.ndarray:
    """All of a .nii.gz, by the fastest reader of gzip among those of the field."""
    sitk = importlib.import_module("SimpleITK")
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def epochs_of(
    dataset: Any, num_workers: int, repeats: int, *, count: Callable[[Any], int] = len, loader: Any = DataLoader
) -> Epoch:
    """A round of PyTorch's DataLoader or one of its kind: one iterator over REPEATS passes, so that its start hardly
    counts. Worker processes live on; they are forked from one that has imported what they need and opened nothing."""
    how: dict[str, Any] = {}
    if num_workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.rivals_loading", "benchmarks.rivals_monai", "torchio", "blosc2"])
        how = {"persistent_workers": True, "multiprocessing_context": context}
    order = RandomSampler(dataset, num_samples=repeats * len(dataset))
    made = loader(dataset, batch_size=BATCH, sampler=order, num_workers=num_workers, **how)
    return lambda: sum(count(batch) for batch in made)


def files_of(work: Work, kind: str, write: Callable[[Any, np.ndarray], Any]) -> list[Path]:
    """One file per study, written the first time."""
    folder, store = work.folder(kind), ctload.open_store(work.store)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{study}.{kind}" for study in store.studies.ids]
    for study, path in zip(store.studies.ids, files, strict=True):
        if not path.exists():
            write(str(path), store.read(study))
    return files


def npy(work: Work, num_workers: int) -> Epoch:
    return epochs_of(Items(files_of(work, "npy", np.save), open_npy, work.crop), num_workers, work.repeats)


def nifti_gz(work: Work, num_workers: int) -> Epoch:
    sitk = importlib.import_module("SimpleITK")

    def write(path: str, voxels: np.ndarray) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), path, useCompression=True, compressionLevel=6)

    return epochs_of(Items(files_of(work, "nii.gz", write), open_nifti, work.crop), num_workers, 1)


def zarr_python(work: Work, num_workers: int) -> Epoch:
    studies = ctload.open_store(work.store).studies
    files = [work.store / path / "0" for path in studies.table["path"].to_pylist()]
    return epochs_of(Items(files, open_zarr, work.crop), num_workers, work.few)


def blosc2(work: Work, num_workers: int) -> Epoch:
    """nnU-Net's files, float32 as it stores them, with its chunks for this patch."""
    rival = importlib.import_module("nnunetv2.training.dataloading.nnunet_dataset")

    def write(path: str, voxels: np.ndarray) -> None:
        data = windowed(voxels).numpy()
        blocks, chunks = rival.comp_blosc2_params(data.shape, work.crop or data.shape[1:])
        stem = path.removesuffix(".b2nd")
        rival.nnUNetDatasetBlosc2.save_case(data, np.zeros((1, 1, 1, 1), np.int8), {}, stem, chunks=chunks,
                                            blocks=blocks, chunks_seg=(1,) * 4, blocks_seg=(1,) * 4)  # fmt: skip

    return epochs_of(Items(files_of(work, "b2nd", write), open_blosc2, work.crop), num_workers, work.repeats)


def tensorstore_torch(work: Work) -> Epoch:
    """Without DALI and without ctload's pipeline: decode ahead by futures of the same reader, torch does the rest."""
    store, rng = ctload.open_store(work.store), np.random.default_rng(0)
    shapes = store.studies.shapes

    def begin(rows: np.ndarray) -> list[Any]:
        reads = []
        for row in rows.tolist():
            size = tuple(shapes[row].tolist()) if work.crop is None else work.crop
            z, y, x = (int(rng.integers(0, max(n - c, 0) + 1)) for n, c in zip(shapes[row], size, strict=True))
            box = ctload.Box((z, y, x), (z + size[0], y + size[1], x + size[2]))
            reads.append(store.start_read(row, box, np.empty(size, np.int16)))
        return reads

    def epoch() -> int:
        order = np.concatenate([rng.permutation(len(store)) for _ in range(work.repeats)])
        batches = np.array_split(order, -(-len(order) // BATCH))
        ahead, number = [begin(rows) for rows in batches[:2]], 0
        for at in range(len(batches)):
            reads = ahead.pop(0)
            if at + 2 < len(batches):
                ahead.append(begin(batches[at + 2]))
            flipped = [randomly_flipped(torch.from_numpy(read.result())[None], rng)[0].numpy() for read in reads]
            number += len(torch.stack([windowed(volume) for volume in flipped]))
        return number

    return epoch


def mmap_floor(work: Work) -> Epoch:
    """Memory-mapped int16 files and one fused pass to float32 on one thread, without flips: the floor."""
    files = files_of(work, "npy", np.save)
    one, zero, low, high = np.float32(1), np.float32(0), np.float32(LOW), np.float32(HIGH)

    def epoch() -> int:
        rng = np.random.default_rng(0)
        for path in files * work.repeats:
            voxels = np.load(path, mmap_mode="r")
            if work.crop is not None:
                start = [int(rng.integers(0, max(n - c, 0) + 1)) for n, c in zip(voxels.shape, work.crop, strict=True)]
                voxels = voxels[tuple(slice(s, s + c) for s, c in zip(start, work.crop, strict=True))]
            flat = np.ascontiguousarray(voxels).reshape(-1)
            run_photometric(flat, low, high, zero, one, one, zero, np.uint64(0), 0, 0, np.empty(flat.size, np.float32))
        return len(files) * work.repeats

    return epoch
