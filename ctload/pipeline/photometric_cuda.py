"""CudaPhotometric: the photometric pass of a pipeline whose geometry ran on the GPU. Needs CuPy.

The volumes are read where DALI left them, without a copy. The device code is ctload/pipeline/photometric_source.py.
"""

from collections.abc import Sequence
from typing import Any

import cupy  # pyright: ignore[reportMissingImports]
import numpy as np

from ctload.errors import LoaderError
from ctload.pipeline.photometric_source import COMPILE_OPTIONS, CUDA_SOURCE, KERNEL_NAMES, channel_records
from ctload.planning.plan import BatchPlan

_THREADS_PER_BLOCK = 256
_MAX_BLOCKS_X = 1024


class CudaPhotometric:
    """Runs the CUDA pass on one GPU, into memory of CuPy's pool, on a stream of its own, and waits for it.

    The stream is a blocking one: work on CUDA's default stream that still reads a batch finishes before its memory
    is written again. A consumer on another stream keeps a reference until that stream is done with the batch.
    """

    def __init__(self, device_id: int) -> None:
        _check_device(device_id)
        self._device = cupy.cuda.Device(device_id)
        self._module = cupy.RawModule(code=CUDA_SOURCE, options=COMPILE_OPTIONS)
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=False)

    def allocate(self, num_voxels: int) -> np.ndarray:
        """(num_voxels,) int16, page-locked, so that the copy to the device runs at full speed."""
        with self._device:
            memory = cupy.cuda.alloc_pinned_memory(2 * num_voxels)
        return np.frombuffer(memory, np.int16, num_voxels)

    def run(self, volumes: Sequence[Any], plan: BatchPlan, num_channels: int) -> Any:
        """B * C volumes on the device -> cupy.ndarray (B, C * W, D, H, W) float32, finished."""
        with self._device, self._stream:
            inputs = [cupy.asarray(volume) for volume in volumes]  # __cuda_array_interface__, no copy
            records = channel_records([array.data.ptr for array in inputs], plan, num_channels)
            kernel = self._module.get_function(KERNEL_NAMES[inputs[0].dtype.name])
            num_voxels = int(np.prod(plan.crop_shape))
            num_blocks = min(-(-num_voxels // (4 * _THREADS_PER_BLOCK)), _MAX_BLOCKS_X)
            device_records = cupy.asarray(records.view(np.uint8))
            out = cupy.empty((plan.batch_size, num_channels * plan.window.shape[1], *plan.crop_shape), cupy.float32)
            arguments = (device_records, out, np.uint64(num_voxels))
            kernel((num_blocks, len(records)), (_THREADS_PER_BLOCK,), arguments)
            self._stream.synchronize()
        return out

    def collect(self, volumes: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """B * L label maps on the device -> cupy.ndarray (B, L, D, H, W) int16 of their own, finished."""
        with self._device, self._stream:
            out = cupy.stack([cupy.asarray(volume) for volume in volumes]).reshape(shape)
            self._stream.synchronize()
        return out

    def close(self) -> None:
        return None


def _check_device(device_id: int) -> None:
    """Refuse a GPU that is not there.

    Raises:
        LoaderError: No usable driver, or no such GPU.
    """
    try:
        num_devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise LoaderError(f"device='cuda' finds no usable GPU ({error}); take device='cpu'") from error
    if device_id >= num_devices:
        raise LoaderError(f"device='cuda:{device_id}' asked for, but there are {num_devices} GPUs, counted from 0")
