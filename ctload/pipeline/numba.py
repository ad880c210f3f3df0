"""The numba pipeline: plans executed on the CPU by compiled loops over threads. What pipeline="auto" is on the CPU.

Exists beside DALI because DALI's affine warp on a CPU is slow; the numbers are in benchmarks/README.md. Needs nothing
that the core of ctload does not need.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctload.pipeline.photometric_cpu import CpuPhotometric
from ctload.pipeline.spec import PipelineSpec, blur_radius, box_matrices
from ctload.planning.plan import BatchPlan
from ctload.voxels.coarsening import coarsen
from ctload.voxels.warp import blur_yx_slices, blur_z_slices, flip_slices, warp_label_slices, warp_slices

_TASK_SLICES = 16
"""Slices of one task of the thread pool."""
Task = tuple[Callable[..., Any], tuple]


class NumbaPipeline:
    """See Pipeline. Two float32 buffers of a batch are kept from call to call."""

    def __init__(self, spec: PipelineSpec) -> None:
        self.spec = spec
        self._photometric = CpuPhotometric(spec.num_threads)
        self._buffers: dict[str, np.ndarray] = {}

    def allocate(self, num_voxels: int) -> np.ndarray:
        return self._photometric.allocate(num_voxels)

    def execute(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> np.ndarray:
        num_channels = self.spec.num_channels
        sources = [channel for box in slot for channel in box[:num_channels]]
        if plan.warp is None and plan.zoom is None and plan.blur_sigma is None and plan.coarse_shape is None:
            # The pass reads mirrored and partial views where they lie.
            return self._photometric.run(_mirrored(sources, plan, num_channels), plan, num_channels)
        volumes = self._moved([np.ascontiguousarray(source) for source in sources], plan, num_channels)
        if plan.blur_sigma is not None:
            volumes = self._blurred(volumes, plan, num_channels)
        if plan.coarse_shape is not None:
            volumes = self._coarsened(volumes, plan, num_channels)
        return self._photometric.run(volumes, plan, num_channels)

    def execute_labels(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> np.ndarray:
        maps = [np.ascontiguousarray(array) for box in slot for array in box[self.spec.num_channels :]]
        shape = (plan.batch_size, self.spec.num_labels, *plan.crop_shape)
        out, matrices = np.empty(shape, np.int16), box_matrices(plan)
        is_warped = plan.warp is not None or plan.zoom is not None
        tasks: list[Task] = []
        for number, labels in enumerate(maps):
            study, at = divmod(number, self.spec.num_labels)
            if is_warped:
                tasks += _slabs(warp_label_slices, (labels, matrices[study]), out[study, at])
            else:
                tasks += _slabs(flip_slices, (labels, *plan.flip[study].tolist()), out[study, at])
        self._photometric.spread(tasks)
        return out

    def close(self) -> None:
        self._photometric.close()
        self._buffers = {}

    def _moved(self, sources: list[np.ndarray], plan: BatchPlan, num_channels: int) -> list[np.ndarray]:
        """B * C volumes after zoom, flip and warp: the sources themselves where nothing is to be done."""
        if plan.warp is None and plan.zoom is None:
            return self._flipped(sources, plan, num_channels)
        out, matrices = self._buffer("moved", len(sources), plan, np.float32), box_matrices(plan)
        fill = np.float32(self.spec.fill_value)
        tasks: list[Task] = []
        for number, source in enumerate(sources):
            tasks += _slabs(warp_slices, (source, matrices[number // num_channels], fill), out[number])
        self._photometric.spread(tasks)
        return list(out)

    def _flipped(self, sources: list[np.ndarray], plan: BatchPlan, num_arrays: int) -> list[np.ndarray]:
        if not plan.flip.any():
            return sources
        out = self._buffer("flipped", len(sources), plan, np.int16)
        volumes, tasks = list(sources), []
        for number, source in enumerate(sources):
            flips = plan.flip[number // num_arrays].tolist()
            if any(flips):
                tasks += _slabs(flip_slices, (source, *flips), out[number])
                volumes[number] = out[number]
        self._photometric.spread(tasks)
        return volumes

    def _blurred(self, volumes: list[np.ndarray], plan: BatchPlan, num_channels: int) -> list[np.ndarray]:
        assert plan.blur_sigma is not None
        along_z = self._buffer("blurred along z", len(volumes), plan, np.float32)
        out = self._buffer("blurred", len(volumes), plan, np.float32)
        blurred, first, second = list(volumes), [], []
        for number, volume in enumerate(volumes):
            sigma = plan.blur_sigma[number // num_channels]
            if not sigma.any():
                continue
            z, y, x = (_kernel(float(part)) for part in sigma)
            first += _slabs(blur_z_slices, (volume, z), along_z[number])
            second += [
                (blur_yx_slices, (along_z[number, at : at + _TASK_SLICES], y, x, out[number, at : at + _TASK_SLICES]))
                for at in range(0, len(volume), _TASK_SLICES)
            ]
            blurred[number] = out[number]
        self._photometric.spread(first)
        self._photometric.spread(second)
        return blurred

    def _coarsened(self, volumes: list[np.ndarray], plan: BatchPlan, num_channels: int) -> list[np.ndarray]:
        coarse = plan.coarse_shape
        assert coarse is not None
        done = list(volumes)

        def coarsen_at(number: int) -> None:
            done[number] = coarsen(np.ascontiguousarray(volumes[number], np.float32), coarse[number // num_channels])

        changed = np.any(coarse < np.array(plan.crop_shape), axis=1)
        self._photometric.spread([(coarsen_at, (at,)) for at in range(len(volumes)) if changed[at // num_channels]])
        return done

    def _buffer(self, name: str, num: int, plan: BatchPlan, dtype: type) -> np.ndarray:
        """(num, D, H, W), the same memory as at the last call of that name and shape."""
        shape = (num, *plan.crop_shape)
        kept = self._buffers.get(name)
        if kept is None or kept.shape[1:] != shape[1:] or len(kept) < num:
            kept = self._buffers[name] = np.empty(shape, dtype)
        return kept[:num]


def _mirrored(sources: list[np.ndarray], plan: BatchPlan, num_channels: int) -> list[np.ndarray]:
    """Views of the sources, flipped as the plan says."""
    return [
        np.flip(source, tuple(np.flatnonzero(plan.flip[number // num_channels]).tolist()))
        for number, source in enumerate(sources)
    ]


def _slabs(kernel: Callable[..., Any], arguments: tuple, out: np.ndarray) -> list[Task]:
    """Tasks that fill `out` by ranges of slices."""
    return [(kernel, (*arguments, at, out[at : at + _TASK_SLICES])) for at in range(0, out.shape[0], _TASK_SLICES)]


def _kernel(sigma: float) -> np.ndarray:
    """(2 r + 1,) float32, as of pipeline/reference.py; one voxel of weight 1 for sigma 0."""
    radius = int(blur_radius(np.array(sigma)))
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def open_numba(spec: PipelineSpec) -> NumbaPipeline:
    """A numba pipeline for batches as `spec` says."""
    return NumbaPipeline(spec)
