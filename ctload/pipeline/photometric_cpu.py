"""CpuPhotometric: the photometric pass of a pipeline whose geometry ran on the CPU, over threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from ctload.pipeline.output_pool import OutputPool
from ctload.planning.plan import BatchPlan
from ctload.voxels.photometric import photometric_batch


class CpuPhotometric:
    """Runs the numba pass into recycled memory.

    Args:
        num_threads: >= 1; with 1 no thread is started.
    """

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, "ctload-photometric") if num_threads > 1 else None
        self._pool = OutputPool()

    def allocate(self, num_voxels: int) -> np.ndarray:
        """(num_voxels,) int16, ordinary memory."""
        return np.empty(num_voxels, np.int16)

    def run(self, volumes: Sequence[object], plan: BatchPlan, num_channels: int) -> np.ndarray:
        """B * C volumes of host memory -> (B, C * W, D, H, W) float32."""
        out = self._pool.take((plan.batch_size, num_channels * plan.window.shape[1], *plan.crop_shape))
        photometric_batch([np.asarray(volume) for volume in volumes], plan, out, threads=self._threads)
        return out

    def spread(self, tasks: Sequence[tuple[Callable[..., Any], tuple]]) -> None:
        """Run tasks, functions with their arguments, on the threads, and wait for all."""
        if self._threads is None:
            for function, arguments in tasks:
                function(*arguments)
            return
        started = [self._threads.submit(function, *arguments) for function, arguments in tasks]
        wait(started)  # all, so that none still writes when the first error is raised
        for task in started:
            task.result()

    def collect(self, volumes: Sequence[object], shape: tuple[int, ...]) -> np.ndarray:
        """B * L label maps of host memory -> (B, L, D, H, W) int16 of their own."""
        return np.stack([np.asarray(volume) for volume in volumes]).reshape(shape)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
