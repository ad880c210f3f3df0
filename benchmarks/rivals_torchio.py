"""TorchIO over uncompressed .nii files of int16: its Queue for crops, its SubjectsLoader for whole volumes."""

from pathlib import Path

import numpy as np
import SimpleITK  # pyright: ignore[reportMissingImports]
import torchio  # pyright: ignore[reportMissingImports]

from benchmarks.rivals_loading import BATCH, HIGH, LOW, Epoch, Work, epochs_of, files_of


def _write(path: str, voxels: np.ndarray) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), path)


def _subjects(files: list[Path]) -> torchio.SubjectsDataset:
    window = torchio.RescaleIntensity(out_min_max=(0, 1), in_min_max=(LOW, HIGH))
    chain = torchio.Compose(
        [torchio.Clamp(LOW, HIGH), window, torchio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5)]
    )
    return torchio.SubjectsDataset([torchio.Subject(ct=torchio.ScalarImage(path)) for path in files], transform=chain)


def torchio_epochs(work: Work, num_workers: int) -> Epoch:
    """One patch of each volume, as everybody; its Queue transforms the whole volume before it takes the patch."""
    files = files_of(work, "nii", _write)
    subjects = _subjects(files)
    if work.crop is None:
        return epochs_of(
            subjects, num_workers, 1, count=lambda batch: len(batch["ct"]["data"]), loader=torchio.SubjectsLoader
        )
    depth, height, width = work.crop
    patches = torchio.data.UniformSampler((width, height, depth))

    def epoch() -> int:
        queue = torchio.Queue(subjects, max_length=len(files), samples_per_volume=1, sampler=patches,
                              num_workers=num_workers)  # fmt: skip
        return sum(len(batch["ct"]["data"]) for batch in torchio.SubjectsLoader(queue, batch_size=BATCH))

    return epoch
