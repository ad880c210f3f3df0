"""Positions of slices to one grid: every irregularity has its code, and none becomes a mean spacing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import GeometryError, IngestError
from ctload.readers.slices import SliceGeometry, stack_of

AXIAL = (1.0, 0, 0, 0, 1, 0)


def geometry(heights_mm, orientation=AXIAL, spacing_mm=(0.7, 0.8), shape=(6, 8)):
    normal = np.cross(orientation[:3], orientation[3:])
    num_slices = len(heights_mm)
    return SliceGeometry(
        np.array([-12.0, -34.0, 56.0]) + np.outer(heights_mm, normal),
        np.tile(orientation, (num_slices, 1)),
        np.tile(spacing_mm, (num_slices, 1)),
        np.tile(shape, (num_slices, 1)),
    )


def code_of(slices):
    with pytest.raises((GeometryError, IngestError)) as raised:
        stack_of(slices, "a.zip")
    assert "a.zip" in str(raised.value)
    return raised.value.code


@st.composite
def orientations(draw):
    """Two unit vectors at right angles, any direction."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return (*turned[:, 0], *turned[:, 1])


@settings(max_examples=150, deadline=None)
@given(
    orientation=orientations(),
    num_slices=st.integers(3, 40),
    gap_mm=st.floats(0.3, 10),
    seed=st.integers(0, 1000),
    digits=st.integers(2, 6),
)
def test_a_regular_stack_is_found_in_any_file_order_and_its_affine_is_exact(
    orientation, num_slices, gap_mm, seed, digits
):
    slices = geometry(gap_mm * np.arange(num_slices), orientation)
    slices = replace(slices, position_mm=slices.position_mm.round(digits))
    shuffle = np.random.default_rng(seed).permutation(num_slices)
    found = stack_of(replace(slices, position_mm=slices.position_mm[shuffle]), "a")
    assert np.array_equal(shuffle[found.order], np.arange(num_slices))
    for number in (0, num_slices - 1):
        # Voxel (z, row 2, column 3) in LPS by the DICOM standard (PS3.3 C.7.6.2.1.1), then to RAS.
        lps = slices.position_mm[number] + 3 * 0.8 * np.array(orientation[:3]) + 2 * 0.7 * np.array(orientation[3:])
        assert np.allclose(found.affine @ [number, 2, 3, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(num_slices=st.integers(4, 60), gap_mm=st.floats(0.3, 10), missing=st.data())
def test_a_missing_slice_is_a_gap_wherever_it_is(num_slices, gap_mm, missing):
    gone = missing.draw(st.integers(1, num_slices - 2))
    heights = np.delete(gap_mm * np.arange(num_slices), gone)
    if len(heights) > 3:  # of three slices, two gaps in the ratio 1 : 2 have no most common one
        assert code_of(geometry(heights)) == "GAP"


@settings(max_examples=100, deadline=None)
@given(num_slices=st.integers(5, 40), moved=st.data(), by=st.floats(0.11, 0.4))
def test_a_slice_off_its_place_is_non_uniform(num_slices, moved, by):
    heights = 2.5 * np.arange(num_slices)
    heights[moved.draw(st.integers(1, num_slices - 2))] += by * 2.5
    assert code_of(geometry(heights)) == "NON_UNIFORM"


def test_two_spacings_in_one_series_are_non_uniform():
    assert code_of(geometry([0, 4, 8, 12, 19, 26, 33])) == "NON_UNIFORM"


def test_a_spacing_that_drifts_is_non_uniform():
    assert code_of(geometry(np.cumsum(2.0 + 0.01 * np.arange(40)))) == "NON_UNIFORM"


def test_two_slices_at_one_place_are_duplicates():
    assert code_of(geometry([0, 2.5, 5, 5, 7.5])) == "DUPLICATE_POSITION"
    assert code_of(geometry([0, 0, 2.5, 2.5, 5, 5])) == "DUPLICATE_POSITION"


@pytest.mark.parametrize("degrees", [-20, 0.5, 14, 30])
def test_a_stack_that_leans_is_a_gantry_tilt(degrees):
    slices = geometry(2.5 * np.arange(30))
    slices.position_mm[:, 1] += np.tan(np.radians(degrees)) * 2.5 * np.arange(30)
    assert code_of(slices) == "GANTRY_TILT"


def test_rounded_positions_are_no_tilt():
    slices = geometry(0.625 * np.arange(200), orientation=(1, 0, 0, 0, 0.9998477, -0.0174524))
    rounded = replace(slices, position_mm=slices.position_mm.round(2))
    assert len(stack_of(rounded, "a").order) == 200


def test_a_slice_moved_sideways_is_non_uniform():
    slices = geometry(2.5 * np.arange(9))
    slices.position_mm[4, 0] += 5
    assert code_of(slices) == "NON_UNIFORM"


def test_one_slice_of_another_plane_spacing_or_size_is_refused():
    turned, scaled, cut = (geometry(2.5 * np.arange(5)) for _ in range(3))
    turned.orientation[2] = (0, 1, 0, 0, 0, -1)
    scaled.spacing_mm[2] = (0.7, 0.9)
    cut.shape[2] = (6, 9)
    assert [code_of(slices) for slices in (turned, scaled, cut)] == [
        "MIXED_ORIENTATION",
        "MIXED_SPACING",
        "MIXED_SPACING",
    ]


def test_cosines_that_are_no_unit_vectors_are_no_geometry():
    assert code_of(geometry(2.5 * np.arange(5), orientation=(1, 0, 0, 1, 0, 0))) == "NO_GEOMETRY"
    assert code_of(geometry(2.5 * np.arange(5), orientation=(1, 0, 0, 0, 0.5, 0))) == "NO_GEOMETRY"


@pytest.mark.parametrize("num_slices", [1, 2])
def test_fewer_than_three_slices_are_too_few(num_slices):
    assert code_of(geometry(2.5 * np.arange(num_slices))) == "TOO_FEW_SLICES"
