"""Plans and volumes by hand, for tests of execution: no sampler, no store."""

import numpy as np

from ctload.pipeline.spec import PipelineSpec
from ctload.planning.plan import BatchPlan

FILL = -1024


def plain_plan(batch: int, shape: tuple[int, int, int], *, windows: int = 1) -> BatchPlan:
    """A plan that only windows: [-1000, 1000], and [-160, 240] as the second."""
    ends = np.array([(-1000, 1000), (-160, 240), (-1350, 150)][:windows], np.float32)
    return BatchPlan(
        epoch=0,
        step=0,
        unit="",
        rows=np.arange(batch),
        box_start=np.zeros((batch, 3), np.int64),
        crop_shape=shape,
        flip=np.zeros((batch, 3), bool),
        warp=None,
        blur_sigma=None,
        window=np.repeat(ends[None], batch, axis=0),
        brightness=np.zeros(batch, np.float32),
        contrast=np.ones(batch, np.float32),
        gamma=np.ones(batch, np.float32),
        noise_sigma=np.zeros(batch, np.float32),
        noise_key=np.arange(batch, dtype=np.uint64),
    )


def rotation(rng: np.random.Generator, max_deg: float) -> np.ndarray:
    """(3, 3), turned about each axis by up to max_deg."""
    turned = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(rng.uniform(-max_deg, max_deg))
        plane = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turned = turned @ turn
    return turned


def random_warp(rng: np.random.Generator, batch: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(B, 3, 4): rotation, scale and shift about the middle of the crop."""
    warps = np.empty((batch, 3, 4))
    middle = np.array(shape) / 2
    for study in range(batch):
        linear = rotation(rng, 20) * rng.uniform(0.8, 1.25, 3)
        warps[study, :, :3] = linear
        warps[study, :, 3] = middle - linear @ middle + rng.uniform(-4, 4, 3)
    return warps


def random_plan(
    rng: np.random.Generator,
    batch: int,
    shape: tuple[int, int, int],
    *,
    windows: int = 1,
    warp: bool = False,
    blur: bool = False,
    zoom: bool = False,
    coarse: bool = False,
    photometric: bool = True,
) -> BatchPlan:
    """A plan that uses everything it is asked to."""
    plan = vars(plain_plan(batch, shape, windows=windows))
    plan["flip"] = rng.random((batch, 3)) < 0.5
    if warp:
        plan["warp"] = random_warp(rng, batch, shape)
    if blur:
        plan["blur_sigma"] = (rng.uniform(0, 1.5, (batch, 3)) * (rng.random((batch, 3)) < 0.8)).astype(np.float32)
    if zoom:
        size = np.array(shape) * rng.uniform(0.5, 1.6, (batch, 3))
        plan["box_shape"] = np.ceil(size).astype(np.int64) + 2
        plan["zoom"] = np.stack([size / np.array(shape), 1 + (np.ceil(size) - size) * rng.random((batch, 3))], axis=2)
    if coarse:
        coarser = np.rint(np.array(shape) / rng.uniform(1, 3, (batch, 3))).astype(np.int64)
        plan["coarse_shape"] = np.where(rng.random((batch, 1)) < 0.8, np.maximum(coarser, 1), np.array(shape))
    if photometric:
        plan["brightness"] = rng.uniform(-0.1, 0.1, batch).astype(np.float32)
        plan["contrast"] = rng.uniform(0.75, 1.25, batch).astype(np.float32)
        plan["gamma"] = rng.uniform(0.8, 1.4, batch).astype(np.float32)
        plan["noise_sigma"] = (rng.uniform(0, 0.1, batch) * (rng.random(batch) < 0.7)).astype(np.float32)
        plan["noise_key"] = rng.integers(0, 2**64, batch, dtype=np.uint64)
    return BatchPlan(**plan)


def random_slot(rng: np.random.Generator, batch: int, channels: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(B, C, D, H, W) int16: smooth structure over the CT range, and noise of 30 HU."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, 6, n) for n in shape), indexing="ij"))
    slot = np.empty((batch, channels, *shape), np.int16)
    for study in range(batch):
        for channel in range(channels):
            phase = rng.uniform(0, 6, 3)[:, None, None, None]
            smooth = 900 * np.sin(grid * rng.uniform(0.5, 2) + phase).prod(axis=0) - 100
            slot[study, channel] = np.clip(smooth + 30 * rng.standard_normal(shape), -1024, 3071)
    return slot


def random_boxes(rng: np.random.Generator, plan: BatchPlan, arrays: int) -> list[np.ndarray]:
    """Of each study (C, d, h, w) int16, the box that a plan reads."""
    return [random_slot(rng, 1, arrays, tuple(shape))[0] for shape in plan.box_shapes.tolist()]


def spec_of(plan: BatchPlan, channels: int = 1, *, num_threads: int = 1) -> PipelineSpec:
    """The spec that just covers a plan."""
    return PipelineSpec(
        max_batch=plan.batch_size,
        num_channels=channels,
        num_windows=plan.window.shape[1],
        fill_value=FILL,
        has_flip=bool(plan.flip.any()),
        has_warp=plan.warp is not None,
        has_blur=plan.blur_sigma is not None,
        has_zoom=plan.zoom is not None,
        has_coarse=plan.coarse_shape is not None,
        num_threads=num_threads,
    )
