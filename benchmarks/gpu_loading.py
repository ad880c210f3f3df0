"""Cases of loading to the GPU: made-up volumes with noise in every voxel, from a store to the device.

The store's lz4 ratio is part of the configuration, so that a row can be held against stores of real CT. Its files were
just written: reading comes from the page cache. "reads only" ends in host memory and is the bound of all that decode.

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
from benchmarks.rivals_gpu import AUGMENT, grid_sample_on_device, monai_on_device
from benchmarks.rivals_loading import BATCH
from ctload.geometry import Triple
from ctload.testing import synthetic_store, synthetic_volume

STUDIES = 32
NEEDED_RATE = 75.0  # studies/s that one training step of an H200 would eat
# Written before any measurement, whole volumes in studies/s: 16 cores decode 100 to 128 each; a cached volume is copied
# at some 8 GB/s into pinned memory; MONAI sends 32 MB of float32 a volume from pageable memory, several kernels each;
# grid_sample reads and writes what one trilinear interpolation must, from pinned int16.
PREDICTED = {
    "ctload dali": 400.0,
    "ctload dali, cache in RAM": 500.0,
    "reads only": 1500.0,
    "monai on the device, cached on the host": 150.0,
    "monai on the device, cached there": 300.0,
    "torch grid_sample, pinned int16 in RAM": 600.0,
}
EPOCHS = 4  # of one call: 32 batches, of which at most three were begun in the call before


def loading(is_tiny: bool) -> Iterator[Case]:
    """Some epochs per call: whole volumes and crops, windowed, on the device in float32; then the same with flips, a
    rotation and a magnification, ours and others'."""
    shape = (16, 32, 32) if is_tiny else (160, 224, 224)
    studies = 4 if is_tiny else STUDIES
    ratio = compression_ratio(synthetic_volume(shape, 0))
    crops: dict[str, Triple | None] = {"whole": None, "crop": (8, 16, 16) if is_tiny else (96, 160, 160)}
    for name, crop in crops.items():
        config = f"{name} of {shape[0]}x{shape[1]}x{shape[2]} batch={BATCH} studies={studies} lz4={ratio:.2f}"
        epochs = functools.partial(_epochs, shape, studies, crop)
        predicted = None if is_tiny else NEEDED_RATE
        yield Case("store -> device", "ctload dali", config, epochs, studies * EPOCHS, predicted=predicted)
        warped = functools.partial(_epochs, shape, studies, crop, augment=AUGMENT)
        others: dict[str, Callable[[], Callable[[], Any]]] = {
            "ctload dali": warped,
            "ctload dali, cache in RAM": functools.partial(warped, is_cached=True),
            "reads only": functools.partial(_reads, shape, studies, crop),
            "monai on the device, cached on the host": functools.partial(_monai, shape, studies, crop, False),
            "monai on the device, cached there": functools.partial(_monai, shape, studies, crop, True),
            "torch grid_sample, pinned int16 in RAM": functools.partial(_grid_sample, shape, studies, crop),
        }
        for provider, make in others.items():
            guess = PREDICTED[provider] if crop is None and not is_tiny else None
            yield Case("store -> warped on device", provider, config, make, studies * EPOCHS, predicted=guess)


def _store(shape: Triple, studies: int, *, is_cached: bool = False) -> ctload.Store:
    folder = Path(tempfile.mkdtemp(prefix="ctload-gpu-"))
    store = synthetic_store(folder / "store.zarr", num_studies=studies, shape=shape)
    return ctload.open_store(store.path, cache_bytes=2 * studies * int(np.prod(shape)) * 2) if is_cached else store


def _epochs(
    shape: Triple,
    studies: int,
    crop: Triple | None,
    *,
    augment: ctload.Augment | None = None,
    is_cached: bool = False,
) -> Callable[[], Any]:
    loader = ctload.Loader(
        _store(shape, studies, is_cached=is_cached).studies,
        sampler=ctload.ShuffleSampler(batch_size=BATCH, seed=0),
        crop=ctload.WholeVolume() if crop is None else ctload.RandomCrop(crop),
        window=ctload.HuWindow(-1000, 1000),
        augment=augment,
        pipeline="dali",
        device=device().type,
        to="torch",
    )

    def epochs() -> float:
        # A sum, not a list: what indexes a batch keeps all of it. The last line waits for the device.
        seen = sum(batch.volume[0, 0, 0, 0, 0] for _ in range(EPOCHS) for batch in loader)
        return float(seen)

    return epochs


def _reads(shape: Triple, studies: int, crop: Triple | None) -> Callable[[], Any]:
    """All studies read into host memory, two batches of reads under way: nothing that decodes goes faster."""
    store, rng = _store(shape, studies), np.random.default_rng(0)
    size = crop or shape
    slots = [np.zeros(size, np.int16) for _ in range(2 * BATCH)]

    def epochs() -> None:
        under_way: list[Any] = []
        for number in range(EPOCHS * studies):
            if len(under_way) == len(slots):
                under_way.pop(0).result()
            z, y, x = (int(rng.integers(0, have - want + 1)) for have, want in zip(shape, size, strict=True))
            box = ctload.Box((z, y, x), (z + size[0], y + size[1], x + size[2]))
            under_way.append(store.start_read(number % studies, box, slots[number % len(slots)]))
        for read in under_way:
            read.result()

    return epochs


def _monai(shape: Triple, studies: int, crop: Triple | None, is_cached_there: bool) -> Callable[[], Any]:
    return monai_on_device(_store(shape, studies), crop, EPOCHS, device(), is_cached_there=is_cached_there)


def _grid_sample(shape: Triple, studies: int, crop: Triple | None) -> Callable[[], Any]:
    return grid_sample_on_device(_store(shape, studies), crop, EPOCHS, device())


def compression_ratio(voxels: np.ndarray) -> float:
    """Bytes of the voxels over those that the store's codec makes of them."""
    return voxels.nbytes / len(Blosc("lz4", 5, Blosc.SHUFFLE).encode(np.ascontiguousarray(voxels)))
