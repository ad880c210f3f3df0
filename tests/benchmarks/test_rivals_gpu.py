"""The rivals on a device do the work they are timed for, here on the CPU."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.rivals_gpu import grid_sample_on_device, monai_on_device, theta_of
from ctload.testing import synthetic_store

CPU = torch.device("cpu")
NO = (False, False, False)


def _warped(volume: torch.Tensor, theta: np.ndarray) -> torch.Tensor:
    grid = functional.affine_grid(torch.from_numpy(theta)[None], [1, 1, *volume.shape], align_corners=False)
    return functional.grid_sample(volume[None, None], grid, align_corners=False)[0, 0]


def test_flips_and_turns_are_those_of_voxels():
    volume = torch.rand(6, 10, 8)
    nothing = [0.0, 0.0, 0.0]
    torch.testing.assert_close(_warped(volume, theta_of(volume.shape, nothing, 1.0, NO)), volume)
    for axis in range(3):  # of (x, y, z), which are the last to the first
        flips = [axis == 0, axis == 1, axis == 2]
        expected = volume.flip(2 - axis)
        torch.testing.assert_close(_warped(volume, theta_of(volume.shape, nothing, 1.0, flips)), expected)
    square = torch.rand(6, 8, 8)
    quarter = _warped(square, theta_of(square.shape, [math.pi / 2, 0.0, 0.0], 1.0, NO))
    assert any(torch.allclose(quarter, torch.rot90(square, times, (1, 2)), atol=1e-5) for times in (1, 3))


def test_a_turn_is_rigid_in_voxels_of_a_long_volume():
    theta = theta_of((4, 16, 8), [0.3, -0.2, 0.1], 1.0, NO)[:, :3].astype(np.float64)
    half = np.array([4.0, 8.0, 2.0])
    in_voxels = theta * half[:, None] / half
    np.testing.assert_allclose(in_voxels @ in_voxels.T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("crop", [None, (8, 12, 12)])
def test_every_rival_goes_through_a_round(tmp_path, crop):
    pytest.importorskip("monai")
    store = synthetic_store(tmp_path / "store", 4, (12, 16, 16))
    for is_cached_there in (False, True):
        assert math.isfinite(monai_on_device(store, crop, 1, CPU, is_cached_there=is_cached_there)())
    assert math.isfinite(grid_sample_on_device(store, crop, 1, CPU)())
