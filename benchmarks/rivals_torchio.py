"""TorchIO over uncompressed .nii files of int16: its Queue for crops, its SubjectsLoader for whole volumes.

From each volume that it loads the Queue takes four crops, which is what it is for; all others read each crop anew.
Window and flips are done on the crop, not on the whole volume before it.
"""

from pathlib import Path

import numpy as np
import SimpleITK  # pyright: ignore[reportMissingImports]
import torchio  # pyright: ignore[reportMissingImports]

from benchmarks.rivals_loading import BATCH, HIGH, LOW, Epoch, Work, epochs_of, files_of

PATCHES_PER_VOLUME = 4


def _write(path: str, voxels: np.ndarray) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), path)


def _chain() -> torchio.Compose:
    window = torchio.RescaleIntensity(out_min_max=(0, 1), in_min_max=(LOW, HIGH))
    return torchio.Compose([torchio.Clamp(LOW, HIGH), window, torchio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5)])


def _subjects(files: list[Path], transform: torchio.Compose | None) -> torchio.SubjectsDataset:
    return torchio.SubjectsDataset([torchio.Subject(ct=torchio.ScalarImage(path)) for path in files], transform)


class CropQueue(torchio.Queue):
    """A Queue whose crops are transformed one by one."""

    chain: torchio.Compose

    def __getitem__(self, index: int) -> torchio.Subject:
        return self.chain(super().__getitem__(index))


def torchio_epochs(work: Work, num_workers: int) -> Epoch:
    """Crops: four of each volume in a round, of work.few passes. Whole volumes: one pass."""
    files = files_of(work, "nii", _write)
    if work.crop is None:
        return epochs_of(
            _subjects(files, _chain()),
            num_workers,
            1,
            count=lambda batch: len(batch["ct"]["data"]),
            loader=torchio.SubjectsLoader,
        )
    depth, height, width = work.crop
    queue = CropQueue(
        _subjects(files, None),
        max_length=len(files) * PATCHES_PER_VOLUME,
        samples_per_volume=PATCHES_PER_VOLUME,
        sampler=torchio.data.UniformSampler((width, height, depth)),
        num_workers=num_workers,
        start_background=False,
    )
    queue.chain = _chain()
    made = torchio.SubjectsLoader(queue, batch_size=BATCH)
    return lambda: sum(len(batch["ct"]["data"]) for _ in range(max(1, work.few // 4)) for batch in made)
