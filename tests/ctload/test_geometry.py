"""Canonical orientation against nibabel, for every axis order and for oblique volumes."""

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.geometry import Box, box_affine, from_xyz_affine, spacing_of, to_canonical

AXIS_ORDERS = [(order, signs) for order in np.ndindex(3, 3, 3) if len(set(order)) == 3 for signs in np.ndindex(2, 2, 2)]


@st.composite
def affines(draw):
    """(4, 4), (x, y, z) -> RAS+ mm: any axis order and direction, turned by up to 40 degrees, any spacing."""
    order, signs = draw(st.sampled_from(AXIS_ORDERS))
    linear = np.zeros((3, 3))
    linear[range(3), order] = 1 - 2 * np.array(signs)
    angles = [draw(st.floats(-0.35, 0.35)) for _ in range(3)]
    for (i, j), angle in zip([(0, 1), (0, 2), (1, 2)], angles, strict=True):
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        linear = turn @ linear
    affine = np.eye(4)
    affine[:3, :3] = linear * [draw(st.floats(0.3, 6.0)) for _ in range(3)]
    affine[:3, 3] = [draw(st.floats(-400, 400)) for _ in range(3)]
    return affine


@settings(max_examples=200, deadline=None)
@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_canonical_volume_equals_that_of_nibabel(affine, shape):
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)  # (x, y, z)
    expected = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
    found, found_affine = to_canonical(voxels.T, from_xyz_affine(affine))
    assert np.array_equal(found, np.asarray(expected.dataobj).T)
    assert np.allclose(found_affine, from_xyz_affine(expected.affine), atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_canonical_is_a_fixed_point_and_moves_no_voxel_in_space(affine, shape):
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    source = from_xyz_affine(affine)
    once, once_affine = to_canonical(voxels, source)
    twice, twice_affine = to_canonical(once, once_affine)
    assert np.array_equal(once, twice)
    assert np.array_equal(once_affine, twice_affine)
    for value in (0, voxels.size - 1):
        here, there = (np.argwhere(array == value)[0] for array in (voxels, once))
        assert np.allclose(source[:3, :3] @ here + source[:3, 3], once_affine[:3, :3] @ there + once_affine[:3, 3])


def test_spacing_and_box_affine_follow_the_axes():
    affine = from_xyz_affine(np.diag([0.7, 0.8, 2.5, 1.0]))
    assert spacing_of(affine) == (2.5, 0.8, 0.7)
    moved = box_affine(affine, (2, 3, 4))
    assert np.allclose(moved[:3, 3], [4 * 0.7, 3 * 0.8, 2 * 2.5])
    assert Box((1, 2, 3), (4, 6, 8)).shape == (3, 4, 5)
