"""MONAI's caches over studies of a store: the volumes are read and windowed once, the rest is done each epoch.

Its tensors carry no metadata (set_track_meta(False)), which is faster and what the others give too.
"""

import functools
from pathlib import Path

import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset, PersistentDataset
from monai.data.meta_obj import set_track_meta
from monai.data.utils import worker_init_fn
from monai.transforms.compose import Compose
from monai.transforms.croppad.array import RandSpatialCrop
from monai.transforms.spatial.array import RandFlip
from monai.transforms.transform import Transform

import ctload
from benchmarks.rivals_loading import Epoch, Work, epochs_of, windowed


class ReadStored(Transform):
    """A study of the store as a float32 (1, D, H, W) tensor in [0, 1]: MONAI's prepared data, made once."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, study: str) -> torch.Tensor:
        return windowed(ctload.open_store(self.store).read(study))


def start_worker(worker: int) -> None:
    """What MONAI does in each worker, without metadata."""
    set_track_meta(False)
    worker_init_fn(worker)


def monai(work: Work, num_workers: int, *, cache: str) -> Epoch:
    """CacheDataset keeps tensors in memory, PersistentDataset in files."""
    set_track_meta(False)
    random: list[Transform] = [RandFlip(prob=0.5, spatial_axis=axis) for axis in range(3)]
    if work.crop is not None:
        random.insert(0, RandSpatialCrop(work.crop, random_size=False))
    chain = Compose([ReadStored(work.store), *random])
    if cache == "CacheDataset":
        dataset = CacheDataset(work.ids, chain, progress=False, copy_cache=False)
    else:
        dataset = PersistentDataset(work.ids, chain, cache_dir=work.folder("monai"))
    repeats = work.repeats if cache == "CacheDataset" else work.few
    loader = functools.partial(DataLoader, worker_init_fn=start_worker)
    return epochs_of(dataset, num_workers, repeats, loader=loader)
