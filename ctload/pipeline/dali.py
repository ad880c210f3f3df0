"""The DALI pipeline: flip, warp and blur in NVIDIA DALI, on the CPU or on a GPU, then the photometric pass.

DALI holds no random state here: every number of a plan enters as an argument of its own. Its graph has only the
operators that some plan may need; a flip before a warp is folded into the warp's matrix. DALI reads the slot where it
lies (no copy), which binds the slot until the outputs were consumed: one batch is in DALI at a time, and `execute`
returns when its outputs were read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nvidia.dali import Pipeline as DaliGraph
from nvidia.dali import fn
from nvidia.dali.types import DALIDataType

from ctload.pipeline.photometric_cpu import CpuPhotometric
from ctload.pipeline.spec import PipelineSpec, blur_radius, box_matrices
from ctload.plan import BatchPlan


def dali_matrices(plan: BatchPlan) -> np.ndarray:
    """Zoom, flip and warp of a plan as DALI has them: box_matrices in (x, y, z), (B, 3, 4) float32."""
    return box_matrices(plan)[:, ::-1][:, :, [2, 1, 0, 3]].astype(np.float32)


def _graph(spec: PipelineSpec, device_id: int | None) -> DaliGraph:
    """The DALI graph of a spec: (B * C) samples DHWC int16 -> the same after geometry, on a GPU or (None) the CPU."""
    graph = DaliGraph(
        batch_size=spec.max_batch * spec.num_channels,
        num_threads=spec.num_threads,
        device_id=device_id,
        prefetch_queue_depth=1,
    )

    def argument(name: str, dtype: DALIDataType, ndim: int) -> Any:
        return fn.external_source(name=name, dtype=dtype, ndim=ndim)

    with graph:
        volume: Any = fn.external_source(name="voxels", layout="DHWC", dtype=DALIDataType.INT16, ndim=4, no_copy=True)
        volume = volume if device_id is None else volume.gpu()
        if spec.has_warp or spec.has_zoom:
            matrix = argument("matrix", DALIDataType.FLOAT, 2)
            size = {"size": argument("size", DALIDataType.FLOAT, 1)} if spec.has_zoom else {}
            volume = fn.warp_affine(volume, matrix=matrix, fill_value=spec.fill_value, dtype=DALIDataType.FLOAT, **size)
        elif spec.has_flip:
            z, y, x = (argument(f"flip_{axis}", DALIDataType.INT32, 0) for axis in "zyx")
            volume = fn.flip(volume, depthwise=z, vertical=y, horizontal=x)
        if spec.has_blur:
            sigma, window_size = (
                argument("sigma", DALIDataType.FLOAT, 1),
                argument("window_size", DALIDataType.INT32, 1),
            )
            volume = fn.gaussian_blur(volume, sigma=sigma, window_size=window_size, dtype=DALIDataType.FLOAT)
        graph.set_outputs(volume)
    graph.build()
    return graph


class DaliPipeline:
    """See Pipeline.

    Args:
        spec: What stays the same over all batches.
        device_id: Number of the GPU; None is the CPU.
    """

    def __init__(self, spec: PipelineSpec, device_id: int | None) -> None:
        self.spec = spec
        has_graph = device_id is not None or spec.has_flip or spec.has_warp or spec.has_zoom or spec.has_blur
        self._photometric = _photometric(spec, device_id)
        self._graph = _graph(spec, device_id) if has_graph else None
        self._in_flight = False

    def allocate(self, num_voxels: int) -> np.ndarray:
        return self._photometric.allocate(num_voxels)

    def execute(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> Any:
        num_channels = self.spec.num_channels
        # B * C arrays (d, h, w, 1). A part of what was read, for one of several views, is copied together.
        samples = [np.ascontiguousarray(channel)[..., None] for box in slot for channel in box[:num_channels]]
        if self._graph is None:
            return self._photometric.run(samples, plan, num_channels)
        assert not self._in_flight, "the slot of the batch before is still in DALI"
        self._in_flight = True
        self._feed(self._graph, samples, plan, num_channels)
        self._graph.schedule_run()
        (outputs,) = self._graph.share_outputs()  # waits for the device, so the slot was read
        try:
            return self._photometric.run([outputs[i] for i in range(len(samples))], plan, num_channels)
        finally:
            del outputs
            self._graph.release_outputs()
            self._in_flight = False

    def _feed(self, graph: DaliGraph, samples: list[np.ndarray], plan: BatchPlan, num_channels: int) -> None:
        """Hand DALI one iteration; every channel of a study gets the study's numbers."""

        def feed(name: str, values: np.ndarray) -> None:
            graph.feed_input(name, np.repeat(values, num_channels, axis=0))

        graph.feed_input("voxels", samples)
        if self.spec.has_warp or self.spec.has_zoom:
            feed("matrix", dali_matrices(plan))
            if self.spec.has_zoom:
                feed("size", np.tile(np.array(plan.crop_shape, np.float32), (plan.batch_size, 1)))
        elif self.spec.has_flip:
            for axis, name in enumerate("zyx"):
                feed(f"flip_{name}", plan.flip[:, axis].astype(np.int32))
        if self.spec.has_blur:
            assert plan.blur_sigma is not None
            radius = blur_radius(plan.blur_sigma)
            feed("window_size", (2 * radius + 1).astype(np.int32))
            # A window of one voxel blurs nothing, but DALI wants a sigma above 0.
            feed("sigma", np.where(radius > 0, plan.blur_sigma, 1).astype(np.float32))

    def close(self) -> None:
        self._photometric.close()
        self._graph = None


def _photometric(spec: PipelineSpec, device_id: int | None) -> Any:
    if device_id is None:
        return CpuPhotometric(spec.num_threads)
    from ctload.pipeline.photometric_cuda import CudaPhotometric  # needs CuPy and a device

    return CudaPhotometric(device_id)


def open_dali(spec: PipelineSpec, device_id: int | None = None) -> DaliPipeline:
    """A DALI pipeline on the CPU (None) or on a GPU, for batches as `spec` says."""
    return DaliPipeline(spec, device_id)
