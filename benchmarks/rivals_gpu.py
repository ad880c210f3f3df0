"""Others' ways from prepared data to augmented float32 volumes on a GPU: MONAI's transforms there, torch's grid_sample.

Both get their data for nothing: every volume lies in memory before the first call, MONAI's as the windowed float32 that
its CacheDataset keeps (on the host, or all of it on the device, as its guide to fast training has it; that ends where
the device's memory does), torch's as int16 in pinned memory. The work: a random crop, flips along three axes with
probability 1/2, a rotation of up to ANGLE_DEG about each axis and a magnification of up to SCALE in one trilinear
interpolation, 0 outside; one HU window to [0, 1].
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import ctload
from benchmarks.rivals_loading import BATCH, HIGH, LOW, windowed
from ctload.geometry import Triple

ANGLE_DEG, SCALE = 10.0, 1.1
AUGMENT = ctload.Augment(flip=(0.5, 0.5, 0.5), rotate_deg=(ANGLE_DEG, ANGLE_DEG, ANGLE_DEG), scale=(1 / SCALE, SCALE))


def monai_on_device(
    store: ctload.Store, crop: Triple | None, epochs: int, device: torch.device, *, is_cached_there: bool
) -> Callable[[], float]:
    """Its CacheDataset and ThreadDataLoader.

    Args:
        store: Studies of one shape.
        crop: (D, H, W), or None for whole volumes.
        epochs: Of one call.
        device: Where the batches go, and where the transforms run.
        is_cached_there: The cache lies on the device.
    """
    # Here, because a GPU machine may lack it: then the row says so.
    from monai.data.dataset import CacheDataset
    from monai.data.meta_obj import set_track_meta
    from monai.data.thread_buffer import ThreadDataLoader
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.array import RandSpatialCrop
    from monai.transforms.spatial.array import RandAffine, RandFlip
    from monai.transforms.transform import Transform
    from monai.transforms.utility.array import ToDevice

    class ReadStored(Transform):
        """A study as a windowed float32 (1, D, H, W) tensor: what CacheDataset keeps."""

        def __call__(self, study: str) -> torch.Tensor:
            return windowed(store.read(study)).to(device if is_cached_there else "cpu")

    angles, scales = [math.radians(ANGLE_DEG)] * 3, [(1 / SCALE - 1, SCALE - 1)] * 3
    chain: list[Any] = [ReadStored()]
    if crop is not None:
        chain.append(RandSpatialCrop(crop, random_size=False))
    if not is_cached_there:
        chain.append(ToDevice(device))
    chain += [RandFlip(prob=0.5, spatial_axis=axis) for axis in range(3)]
    chain.append(
        RandAffine(
            prob=1.0,
            rotate_range=angles,
            scale_range=scales,
            padding_mode="zeros",
            cache_grid=True,
            device=device,
            spatial_size=crop or store.studies.shapes[0].tolist(),
        )
    )
    set_track_meta(False)
    try:
        dataset = CacheDataset(store.studies.ids, Compose(chain), progress=False, copy_cache=False)
    finally:
        set_track_meta(True)
    loader = ThreadDataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0)

    def call() -> float:
        set_track_meta(False)
        try:
            return float(sum(batch[0, 0, 0, 0, 0] for _ in range(epochs) for batch in loader))
        finally:
            set_track_meta(True)

    return call


def grid_sample_on_device(
    store: ctload.Store, crop: Triple | None, epochs: int, device: torch.device
) -> Callable[[], float]:
    """Plain torch: pinned int16 to the device, one affine_grid and one grid_sample a batch; arguments as above.

    Whole volumes are sent and cropped there: a slice of a pinned tensor would first be gathered into pageable memory.
    """
    size = crop or tuple(store.studies.shapes[0].tolist())
    held = [torch.from_numpy(store.read(study)) for study in store.studies.ids]
    if device.type == "cuda":
        held = [volume.pin_memory() for volume in held]
    rng = np.random.default_rng(0)

    def epoch() -> torch.Tensor:
        order, seen = rng.permutation(len(held)), torch.zeros((), device=device)
        for rows in np.array_split(order, -(-len(order) // BATCH)):
            there = [_cropped(held[row].to(device, non_blocking=True), size, rng) for row in rows]
            batch = torch.stack(there)[:, None].float().sub_(LOW).clamp_(0, HIGH - LOW).div_(HIGH - LOW)
            theta = torch.from_numpy(np.stack([_theta(size, rng) for _ in rows])).to(device, non_blocking=True)
            grid = functional.affine_grid(theta, list(batch.shape), align_corners=False)
            warped = functional.grid_sample(batch, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            seen += warped[0, 0, 0, 0, 0]
        return seen

    return lambda: float(sum(epoch() for _ in range(epochs)))


def _cropped(volume: torch.Tensor, size: Any, rng: np.random.Generator) -> torch.Tensor:
    start = [int(rng.integers(0, have - want + 1)) for have, want in zip(volume.shape, size, strict=True)]
    return volume[tuple(slice(at, at + want) for at, want in zip(start, size, strict=True))]


def _theta(size: Any, rng: np.random.Generator) -> np.ndarray:
    scale = math.exp(rng.uniform(-1, 1) * math.log(SCALE))
    angles = [math.radians(rng.uniform(-ANGLE_DEG, ANGLE_DEG)) for _ in range(3)]
    return theta_of(size, angles, scale, rng.random(3) < 0.5)


def theta_of(size: Any, angles: list[float], scale: float, flips: Any) -> np.ndarray:
    """(3, 4) float32 for affine_grid, whose axes are (x, y, z) in [-1, 1].

    Args:
        size: (D, H, W) of the batch.
        angles: Radians in the planes (x, y), (x, z) and (y, z), rigid in voxels.
        scale: From voxels that leave to voxels that enter.
        flips: Of x, y and z.
    """
    matrix = np.eye(3) * scale
    for (first, second), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    half = np.array(size[::-1]) / 2
    linear = (matrix * np.where(flips, -1.0, 1.0)) * half / half[:, None]
    return np.concatenate([linear, np.zeros((3, 1))], 1).astype(np.float32)
