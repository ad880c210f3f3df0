"""The photometric pass: the numba form, its NumPy twin, and the CUDA form run on the host."""

import ctypes
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctload.pipeline.photometric_reference import photometric_volume
from ctload.pipeline.photometric_source import CHANNEL_DTYPE, CUDA_SOURCE, KERNEL_NAMES, channel_records
from ctload.planning.plan import BatchPlan
from ctload.voxels.photometric import TASK_VOXELS, photometric_batch
from tests.ctload.plans import plain_plan, random_plan, random_slot

TOLERANCE = 1e-6
SHAPE = (9, 11, 13)


def by_reference(slot: np.ndarray, plan: BatchPlan) -> np.ndarray:
    windows = plan.window.shape[1]
    return np.stack(
        [
            [
                photometric_volume(slot[b, c], plan, b, c * windows + w, w)
                for c in range(slot.shape[1])
                for w in range(windows)
            ]
            for b in range(len(slot))
        ]
    )


def by_numba(slot: np.ndarray, plan: BatchPlan, threads: ThreadPoolExecutor | None = None) -> np.ndarray:
    out = np.empty((len(slot), slot.shape[1] * plan.window.shape[1], *slot.shape[2:]), np.float32)
    photometric_batch([volume for study in slot for volume in study], plan, out, threads=threads)
    return out


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("seed", range(8))
def test_numba_and_numpy_agree(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 3, SHAPE, windows=2)
    slot = random_slot(rng, 3, 2, SHAPE).astype(dtype)
    if dtype is np.float32:
        slot = slot + rng.random(slot.shape, np.float32)
    np.testing.assert_allclose(by_numba(slot, plan), by_reference(slot, plan), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("gamma", [0.2, 0.5, 0.999, 1.0, 1.7, 5.0])
def test_gamma_is_right_over_the_whole_range_of_stored_values(gamma: float) -> None:
    slot = np.arange(-1100, 1100, dtype=np.int16).reshape(1, 1, 10, 20, 11)
    plan = replace(plain_plan(1, (10, 20, 11)), gamma=np.array([gamma], np.float32))
    expected = np.clip((slot + 1000) / 2000, 0, 1) ** np.float64(np.float32(gamma))
    np.testing.assert_allclose(by_numba(slot, plan), expected, rtol=0, atol=TOLERANCE)


def test_the_window_maps_its_ends_to_0_and_1_and_clips_beyond() -> None:
    slot = np.array([-32768, -1001, -1000, 0, 1000, 1001, 32767, 0], np.int16).reshape(1, 1, 2, 2, 2)
    assert by_numba(slot, plain_plan(1, (2, 2, 2))).ravel().tolist() == [0, 0, 0, 0.5, 1, 1, 1, 0.5]


def test_the_number_of_threads_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 300, 401)  # more than one task, and no whole number of blocks
    assert np.prod(shape) > TASK_VOXELS
    plan = replace(random_plan(rng, 1, shape, windows=2), noise_sigma=np.array([0.1], np.float32))
    slot = random_slot(rng, 1, 1, shape)
    with ThreadPoolExecutor(3) as threads:
        np.testing.assert_array_equal(by_numba(slot, plan), by_numba(slot, plan, threads))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("shape", [SHAPE, (3, 300, 401)])
def test_mirrored_views_and_parts_of_larger_arrays_give_the_bits_of_their_copies(shape: tuple, dtype: type) -> None:
    rng = np.random.default_rng(4)
    plan = random_plan(rng, 1, shape, windows=2)
    whole = random_slot(rng, 1, 1, tuple(size + 3 for size in shape))[0, 0].astype(dtype)
    part = whole[1:-2, 3:, 2:-1]
    for mirrored in np.ndindex(2, 2, 2):
        view = np.flip(part, tuple(np.flatnonzero(mirrored).tolist()))
        got, expected = np.empty((2, 1, 2, *shape), np.float32)
        photometric_batch([view], plan, got)
        photometric_batch([np.ascontiguousarray(view)], plan, expected)
        np.testing.assert_array_equal(got, expected)


def test_noise_differs_between_channels_windows_and_studies() -> None:
    rng = np.random.default_rng(0)
    plan = replace(plain_plan(2, SHAPE, windows=2), noise_sigma=np.full(2, 0.1, np.float32))
    slot = np.repeat(np.repeat(random_slot(rng, 1, 1, SHAPE), 2, axis=0), 2, axis=1)
    plan = replace(plan, window=np.repeat(plan.window[:, :1], 2, axis=1))
    volumes = by_numba(slot, plan).reshape(8, -1)
    assert len({volume.tobytes() for volume in volumes}) == 8


def mutated_photometric(order: str):
    """The pass with its steps in another order, as a reader of the wrong formula would write it."""

    def run(volume: np.ndarray, plan: BatchPlan, study: int, window: int) -> np.ndarray:
        low, high = plan.window[study, window]
        v = np.clip((volume.astype(np.float32) - low) / (high - low), 0, 1)
        steps = {
            "contrast": lambda v: (v - 0.5) * plan.contrast[study] + 0.5,
            "brightness": lambda v: v + plan.brightness[study],
            "gamma": lambda v: np.clip(v, 0, 1) ** plan.gamma[study],
            "contrast about 0": lambda v: v * plan.contrast[study],
        }
        for name in order.split(", "):
            v = steps[name](v)
        return np.clip(v, 0, 1)

    return run


@pytest.mark.parametrize(
    ("order", "is_right"),
    [
        ("contrast, brightness, gamma", True),
        ("gamma, contrast, brightness", False),
        ("brightness, contrast, gamma", False),
        ("contrast, gamma, brightness", False),
        ("contrast about 0, brightness, gamma", False),
    ],
)
def test_another_order_of_the_steps_is_noticed(order: str, is_right: bool) -> None:
    rng = np.random.default_rng(3)
    plan = random_plan(rng, 1, SHAPE)
    numbers = {"contrast": 1.2, "brightness": 0.05, "gamma": 1.3, "noise_sigma": 0}
    plan = replace(plan, **{name: np.array([value], np.float32) for name, value in numbers.items()})
    slot = random_slot(rng, 1, 1, SHAPE)
    difference = np.abs(mutated_photometric(order)(slot[0, 0], plan, 0, 0) - by_numba(slot, plan)[0, 0]).max()
    assert (difference <= TOLERANCE) == is_right


HOST_SHIM = r"""
#include <cmath>
#define __device__
#define __global__
#define __forceinline__ inline
struct Index { unsigned int x, y; };
static Index blockIdx, threadIdx, gridDim, blockDim;
static unsigned int __umulhi(unsigned int a, unsigned int b) { return ((unsigned long long)a * b) >> 32; }
static void sincospif(float x, float* s, float* c) { *s = std::sin(M_PI * x); *c = std::cos(M_PI * x); }
"""

HOST_MAIN = r"""
extern "C" void run(int is_float, const Channel* channels, float* out, unsigned long long n, unsigned int rows) {
    gridDim = {3, rows}; blockDim = {32, 1};
    for (blockIdx.y = 0; blockIdx.y < rows; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
                is_float ? photometric_float32(channels, out, n) : photometric_int16(channels, out, n);
}
"""


@pytest.fixture(scope="module")
def cuda_on_the_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The CUDA source compiled as C++, every thread of the grid run in turn."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler (g++ or clang++)")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "kernel.cpp").write_text(HOST_SHIM + CUDA_SOURCE + HOST_MAIN)
    options = ["-O1", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", folder / "kernel.so", folder / "kernel.cpp"], check=True)
    return ctypes.CDLL(str(folder / "kernel.so"))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("seed", range(3))
def test_the_cuda_source_agrees_when_run_on_the_host(cuda_on_the_host: ctypes.CDLL, seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 2, SHAPE, windows=2)
    plan = replace(plan, noise_sigma=np.array([0.1, 0.0], np.float32))
    slot = random_slot(rng, 2, 2, SHAPE).astype(dtype)
    records = channel_records([volume.ctypes.data for study in slot for volume in study], plan, 2)
    assert CHANNEL_DTYPE.itemsize == 48
    out = np.full((2, 4, *SHAPE), np.nan, np.float32)
    pointer = ctypes.c_void_p
    cuda_on_the_host.run(
        int(dtype is np.float32),
        pointer(records.ctypes.data),
        pointer(out.ctypes.data),
        ctypes.c_ulonglong(int(np.prod(SHAPE))),
        ctypes.c_uint(len(records)),
    )
    np.testing.assert_allclose(out, by_reference(slot, plan), rtol=0, atol=TOLERANCE)


def test_the_cuda_source_compiles_for_hopper_without_spills(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc (CUDA toolkit)")
    (tmp_path / "kernel.cu").write_text(CUDA_SOURCE)
    command = [nvcc, "-arch=sm_90", "--fmad=false", "-Xptxas", "-v", "-cubin", "-o", "kernel.cubin", "kernel.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = done.stdout + done.stderr
    assert all(name in report for name in KERNEL_NAMES.values())
    assert report.count("0 bytes spill stores, 0 bytes spill loads") == len(KERNEL_NAMES)
