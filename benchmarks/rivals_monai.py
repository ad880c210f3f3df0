"""MONAI's caches over studies of a store: the volumes are read and windowed once, the rest is done each epoch."""

from pathlib import Path

import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset, PersistentDataset
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


def monai(work: Work, num_workers: int, *, cache: str) -> Epoch:
    """CacheDataset keeps tensors in memory, PersistentDataset in files."""
    random: list[Transform] = [RandFlip(prob=0.5, spatial_axis=axis) for axis in range(3)]
    if work.crop is not None:
        random.insert(0, RandSpatialCrop(work.crop, random_size=False))
    chain = Compose([ReadStored(work.store), *random])
    repeats = work.repeats if cache == "CacheDataset" else 1
    if cache == "CacheDataset":
        dataset = CacheDataset(work.ids, chain, progress=False, copy_cache=False)
    else:
        dataset = PersistentDataset(work.ids, chain, cache_dir=work.folder("monai"))
    return epochs_of(dataset, num_workers, repeats, loader=DataLoader)
