"""The DALI pipeline: flip, warp and blur in NVIDIA DALI, on the CPU or on a GPU, then the photometric pass.

DALI holds no random state here: every number of a plan enters as an argument of its own. Its graph has only the
operators that some plan may need; a flip before a warp is folded into the warp's matrix. DALI reads the slot where it
lies (no copy), which binds the slot until the outputs were consumed: one batch is in DALI at a time, and `execute`
returns when its outputs were read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nvidia.dali import Pipeline as DaliGraph
from nvidia.dali import fn
from nvidia.dali.types import DALIDataType, DALIInterpType

from ctload.pipeline.photometric_cpu import CpuPhotometric
from ctload.pipeline.spec import PipelineSpec, blur_radius, box_matrices
from ctload.planning.plan import BatchPlan


def dali_matrices(plan: BatchPlan) -> np.ndarray:
    """Zoom, flip and warp of a plan as DALI has them: box_matrices in (x, y, z), (B, 3, 4) float32."""
    return box_matrices(plan)[:, ::-1][:, :, [2, 1, 0, 3]].astype(np.float32)


def _graph(spec: PipelineSpec, device_id: int | None, *, is_label: bool = False) -> DaliGraph:
    """The DALI graph of a spec: samples DHWC int16 -> the same after geometry, on a GPU or (None) the CPU.

    Channels become float32 where they are interpolated or blurred; label maps stay int16.
    """
    graph = DaliGraph(
        batch_size=spec.max_batch * (spec.num_labels if is_label else spec.num_channels),
        num_threads=spec.num_threads,
        device_id=device_id,
        prefetch_queue_depth=1,
    )
    kind = {"interp_type": DALIInterpType.INTERP_NN, "dtype": DALIDataType.INT16, "fill_value": 0.0}
    if not is_label:
        kind = {"dtype": DALIDataType.FLOAT, "fill_value": spec.fill_value}

    def argument(name: str, dtype: DALIDataType, ndim: int) -> Any:
        return fn.external_source(name=name, dtype=dtype, ndim=ndim)

    with graph:
        volume: Any = fn.external_source(name="voxels", layout="DHWC", dtype=DALIDataType.INT16, ndim=4, no_copy=True)
        volume = volume if device_id is None else volume.gpu()
        if spec.has_warp or spec.has_zoom:
            matrix = argument("matrix", DALIDataType.FLOAT, 2)
            size = {"size": argument("size", DALIDataType.FLOAT, 1)} if spec.has_zoom else {}
            volume = fn.warp_affine(volume, matrix=matrix, **kind, **size)
        elif spec.has_flip:
            z, y, x = (argument(f"flip_{axis}", DALIDataType.INT32, 0) for axis in "zyx")
            volume = fn.flip(volume, depthwise=z, vertical=y, horizontal=x)
        if spec.has_blur and not is_label:
            sigma, window_size = (
                argument("sigma", DALIDataType.FLOAT, 1),
                argument("window_size", DALIDataType.INT32, 1),
            )
            volume = fn.gaussian_blur(volume, sigma=sigma, window_size=window_size, dtype=DALIDataType.FLOAT)
        if spec.has_coarse and not is_label:
            linear = {"interp_type": DALIInterpType.INTERP_LINEAR, "dtype": DALIDataType.FLOAT}
            coarse, whole = argument("coarse", DALIDataType.FLOAT, 1), argument("whole", DALIDataType.FLOAT, 1)
            volume = fn.resize(volume, size=coarse, antialias=True, **linear)
            volume = fn.resize(volume, size=whole, antialias=False, **linear)
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
        moves = device_id is not None or spec.has_flip or spec.has_warp or spec.has_zoom
        self._photometric = _photometric(spec, device_id)
        self._graph = _graph(spec, device_id) if moves or spec.has_blur or spec.has_coarse else None
        self._label_graph = _graph(spec, device_id, is_label=True) if moves and spec.num_labels else None
        self._in_flight = False

    def allocate(self, num_voxels: int) -> np.ndarray:
        return self._photometric.allocate(num_voxels)

    def execute(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> Any:
        num_channels = self.spec.num_channels
        samples = _samples(slot, slice(0, num_channels))
        return self._run(self._graph, samples, plan, lambda outputs: self._photometric.run(outputs, plan, num_channels))

    def execute_labels(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> Any:
        samples = _samples(slot, slice(self.spec.num_channels, None))
        shape = (len(slot), self.spec.num_labels, *plan.crop_shape)
        return self._run(self._label_graph, samples, plan, lambda outputs: self._photometric.collect(outputs, shape))

    def _run(
        self,
        graph: DaliGraph | None,
        samples: list[np.ndarray],
        plan: BatchPlan,
        consume: Callable[[Sequence[Any]], Any],
    ) -> Any:
        """What `consume` makes of the samples after geometry; it must not keep them."""
        if graph is None:
            return consume(samples)
        assert not self._in_flight, "the slot of the batch before is still in DALI"
        self._in_flight = True
        self._feed(graph, samples, plan, is_label=graph is self._label_graph)
        graph.schedule_run()
        (outputs,) = graph.share_outputs()  # waits for the device, so the slot was read
        try:
            return consume([outputs[i] for i in range(len(samples))])
        finally:
            del outputs
            graph.release_outputs()
            self._in_flight = False

    def _feed(self, graph: DaliGraph, samples: list[np.ndarray], plan: BatchPlan, *, is_label: bool) -> None:
        """Hand DALI one iteration; every array of a study gets the study's numbers."""

        def feed(name: str, values: np.ndarray) -> None:
            graph.feed_input(name, np.repeat(values, len(samples) // plan.batch_size, axis=0))

        graph.feed_input("voxels", samples)
        if self.spec.has_warp or self.spec.has_zoom:
            feed("matrix", dali_matrices(plan))
            if self.spec.has_zoom:
                feed("size", np.tile(np.array(plan.crop_shape, np.float32), (plan.batch_size, 1)))
        elif self.spec.has_flip:
            for axis, name in enumerate("zyx"):
                feed(f"flip_{name}", plan.flip[:, axis].astype(np.int32))
        if self.spec.has_blur and not is_label:
            assert plan.blur_sigma is not None
            radius = blur_radius(plan.blur_sigma)
            feed("window_size", (2 * radius + 1).astype(np.int32))
            # A window of one voxel blurs nothing, but DALI wants a sigma above 0.
            feed("sigma", np.where(radius > 0, plan.blur_sigma, 1).astype(np.float32))
        if self.spec.has_coarse and not is_label:
            assert plan.coarse_shape is not None
            feed("coarse", plan.coarse_shape.astype(np.float32))
            feed("whole", np.tile(np.array(plan.crop_shape, np.float32), (plan.batch_size, 1)))

    def close(self) -> None:
        self._photometric.close()
        self._graph = self._label_graph = None


def _samples(slot: Sequence[np.ndarray], arrays: slice) -> list[np.ndarray]:
    """Some arrays of every study, each (d, h, w, 1). Parts of what was read, for one of several views, are copied."""
    return [np.ascontiguousarray(array)[..., None] for box in slot for array in box[arrays]]


def _photometric(spec: PipelineSpec, device_id: int | None) -> Any:
    if device_id is None:
        return CpuPhotometric(spec.num_threads)
    from ctload.pipeline.photometric_cuda import CudaPhotometric  # needs CuPy and a device

    return CudaPhotometric(device_id)


def open_dali(spec: PipelineSpec, device_id: int | None = None) -> DaliPipeline:
    """A DALI pipeline on the CPU (None) or on a GPU, for batches as `spec` says."""
    return DaliPipeline(spec, device_id)
