"""Cases of loading to the GPU: made-up volumes with noise in every voxel, from a store to the device.

The store's lz4 ratio is part of the configuration, so that a row can be held against stores of real CT. Its files were
just written: reading comes from the page cache.

A loader reads on past an epoch, which while no clock runs would look like speed. So a call takes several epochs, calls
follow one another without a pause, and what was made ready before the first is used up by the calls that warm.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Blosc

import ctload
from benchmarks.gpu_case import Case, device
from ctload.testing import synthetic_store, synthetic_volume

STUDIES = 32
NEEDED_RATE = 75.0  # studies/s that one training step of an H200 would eat
EPOCHS = 4  # of one call: 32 batches, of which at most three were begun in the call before


def loading(is_tiny: bool) -> Iterator[Case]:
    """Some epochs per call: whole volumes and crops, windowed, on the device in float32."""
    shape = (16, 32, 32) if is_tiny else (160, 224, 224)
    studies = 4 if is_tiny else STUDIES
    ratio = compression_ratio(synthetic_volume(shape, 0))
    crops = {"whole": ctload.WholeVolume(), "crop": ctload.RandomCrop((8, 16, 16) if is_tiny else (96, 160, 160))}
    for name, crop in crops.items():
        make = functools.partial(_epochs, shape, studies, crop)
        config = f"{name} of {shape[0]}x{shape[1]}x{shape[2]} batch=4 studies={studies} lz4={ratio:.2f}"
        predicted = None if is_tiny else NEEDED_RATE
        yield Case("store -> device", "ctload dali", config, make, studies * EPOCHS, predicted=predicted)


def _epochs(shape: tuple[int, int, int], studies: int, crop: Any) -> Callable[[], Any]:
    folder = Path(tempfile.mkdtemp(prefix="ctload-gpu-"))
    store = synthetic_store(folder / "store.zarr", num_studies=studies, shape=shape)
    loader = ctload.Loader(
        store.studies,
        sampler=ctload.ShuffleSampler(batch_size=4, seed=0),
        crop=crop,
        window=ctload.HuWindow(-1000, 1000),
        pipeline="dali",
        device=device().type,
        to="torch",
    )

    def epochs() -> float:
        # A sum, not a list: what indexes a batch keeps all of it. The last line waits for the device.
        seen = sum(batch.volume[0, 0, 0, 0, 0] for _ in range(EPOCHS) for batch in loader)
        return float(seen)

    return epochs


def compression_ratio(voxels: np.ndarray) -> float:
    """Bytes of the voxels over those that the store's codec makes of them."""
    return voxels.nbytes / len(Blosc("lz4", 5, Blosc.SHUFFLE).encode(np.ascontiguousarray(voxels)))
