"""prepare(): where voxels land in space, what is clipped, padded, rounded and lost."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctload.errors import IngestError
from ctload.geometry import from_xyz_affine, spacing_of
from ctload.packing.resample import prepare, prepare_exact
from ctload.readers.volume import Volume
from ctload.storage.preset import PRESETS, Preset
from ctload.voxels.grid import axes_of
from tests.ctload.test_geometry import affines

SMALL = {
    "merlin": Preset("m", (3.0, 1.5, 1.5), (8, 12, 14), (-1024, 3071)),
    "ct-rate": Preset("c", (1.5, 0.75, 0.75), (20, 30, 34), (-1024, 3071), align="edges"),
    "general": Preset("g", (3.0, 2.0, 2.0), None, (-1024, 3071), antialias=True, align="centre"),
    "native": PRESETS["native"],
}


def volume_of(voxels, affine=None, **fields):
    affine = from_xyz_affine(np.diag([0.8, 0.8, 2.5, 1.0])) if affine is None else affine
    return Volume(voxels, affine, fields.pop("unit", "HU"), affine, **fields)


def places(shape, affine):
    """(D, H, W, 3), where each voxel lies, RAS+ mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=40, deadline=None)
@given(affine=affines(), shape=st.tuples(*[st.integers(3, 20)] * 3))
def test_every_voxel_keeps_its_place_in_space(name, affine, shape):
    """A field that is linear in mm, sampled, is the same linear field on the stored grid: affine and voxels agree."""
    slope = np.array([1.7, -2.3, 0.9])
    source = from_xyz_affine(affine)
    volume = volume_of((places(shape, source) @ slope).astype(np.float32), source)
    exact = prepare_exact(volume, Preset(**{**SMALL[name].__dict__, "clip_hu": None}))
    stored = prepare(volume, SMALL[name])
    found = places(exact.shape, stored.affine) @ slope
    # Inside the source only: beyond its outermost voxel centres the border repeats.
    back = np.linalg.inv(source)
    index = places(exact.shape, stored.affine) @ back[:3, :3].T + back[:3, 3]
    reach = max(SMALL[name].spacing_mm) / np.array(spacing_of(source)) if SMALL[name].antialias else np.zeros(3)
    inside = ((index >= reach) & (index <= np.array(shape) - 1 - reach)).all(axis=-1)
    assume(inside.any())
    # The centroid of a sampled triangle filter lies up to 0.086 source voxels beside its centre (at a step of 1.21).
    drift = 0.09 * np.abs(slope @ source[:3, :3]).sum() if SMALL[name].antialias else 0.0
    assert np.abs(exact - found)[inside].max() <= 1e-5 * np.abs(volume.voxels).max() + drift


@settings(max_examples=60, deadline=None)
@given(affine=affines(), shape=st.tuples(*[st.integers(2, 40)] * 3), name=st.sampled_from(["merlin", "general"]))
def test_a_resampled_grid_has_exactly_the_asked_spacing_and_shape(affine, shape, name):
    stored = prepare(volume_of(np.zeros(shape, np.int16), from_xyz_affine(affine)), SMALL[name])
    assert np.allclose(spacing_of(stored.affine), SMALL[name].spacing_mm, rtol=1e-12)
    if SMALL[name].grid is not None:
        assert stored.arrays["0"].shape == SMALL[name].grid
    assert stored.arrays["0"].dtype == np.int16
    assert stored.arrays["0"].flags.c_contiguous


def test_only_what_survives_the_crop_is_interpolated():
    voxels = np.random.default_rng(0).integers(-1000, 1000, (30, 40, 50)).astype(np.int16)
    small, large = (Preset("p", (2.0, 1.0, 1.0), grid) for grid in ((6, 8, 10), (60, 64, 70)))
    inner, outer = (prepare(volume_of(voxels), preset) for preset in (small, large))
    axes = axes_of(voxels.shape, volume_of(voxels).affine, small)
    assert [axis.num_kept for axis in axes] == [6, 8, 10]
    first = np.linalg.inv(outer.affine) @ inner.affine @ [0, 0, 0, 1]
    z, y, x = (slice(round(start), round(start) + size) for start, size in zip(first[:3], (6, 8, 10), strict=True))
    assert np.array_equal(outer.arrays["0"][z, y, x], inner.arrays["0"])


def test_padding_is_split_with_the_odd_voxel_after_and_holds_the_fill_value():
    preset = Preset("p", (2.5, 0.8, 0.8), (4, 6, 9), (-1024, 3071))
    stored = prepare(volume_of(np.full((3, 3, 4), 7, np.int16)), preset)
    inside = np.argwhere(stored.arrays["0"] == 7)
    assert inside.min(axis=0).tolist() == [0, 1, 2]
    assert inside.max(axis=0).tolist() == [2, 3, 5]
    assert (stored.arrays["0"] == -1024).sum() == 4 * 6 * 9 - 3 * 3 * 4
    assert stored.fill_value == -1024


@pytest.mark.parametrize(("size", "grid", "start"), [(5, 2, 1), (5, 3, 1), (4, 3, 1), (6, 3, 2), (7, 4, 1)])
def test_centre_crop_starts_at_half_minus_half(size, grid, start):
    voxels = np.broadcast_to(np.arange(size, dtype=np.int16), (3, 3, size)).copy()
    stored = prepare(volume_of(voxels), Preset("p", (2.5, 0.8, 0.8), (3, 3, grid)))
    assert stored.arrays["0"][0, 0].tolist() == list(range(start, start + grid))


def test_clipping_comes_after_interpolation_and_is_counted():
    line = np.array([-3024, 0, 0, 9000, 0], np.int16)
    voxels = np.broadcast_to(line, (3, 3, 5)).copy()
    preset = Preset("p", (2.5, 0.8, 0.4), None, (-1024, 3071))
    stored = prepare(volume_of(voxels), preset)
    # Between -3024 and 0 lies -1512, which clips; clipping first would have left -512.
    assert stored.arrays["0"][0, 0].tolist() == [-1024, -1024, 0, 0, 0, 3071, 3071, 3071, 0]
    assert (stored.num_clipped_low, stored.num_clipped_high) == (2 * 9, 3 * 9)


def test_native_is_lossless_for_whole_hu():
    rng = np.random.default_rng(0)
    for dtype in (np.int16, np.int32, np.float32):
        voxels = rng.integers(-32768, 32768, (5, 6, 7)).astype(dtype)
        stored = prepare(volume_of(voxels), PRESETS["native"])
        assert np.array_equal(stored.arrays["0"], voxels)
        assert (stored.max_rounding, stored.num_clipped_low, stored.num_clipped_high) == (0, 0, 0)


def test_native_rounds_fractional_hu_to_the_nearest_and_says_by_how_much():
    voxels = np.array([0.5, 1.5, -0.5, 2.25, -1000.4], np.float32).reshape(1, 1, 5)
    stored = prepare(volume_of(voxels), PRESETS["native"])
    assert stored.arrays["0"].ravel().tolist() == [0, 2, 0, 2, -1000]
    assert stored.max_rounding == 0.5


@pytest.mark.parametrize("value", [32768, -32769])
def test_native_refuses_hu_beyond_int16_and_a_clipping_preset_takes_them(value):
    voxels = np.full((3, 3, 3), value, np.int32)
    with pytest.raises(IngestError, match="OUT_OF_INT16"):
        prepare(volume_of(voxels), PRESETS["native"])
    clipped = prepare(volume_of(voxels), SMALL["merlin"]).arrays["0"]
    assert {value > 0: 3071, value < 0: -1024}[True] in clipped


@pytest.mark.parametrize(
    ("quantum", "offset", "levels"), [(1.0, 0.0, (-300, 4000)), (0.363, 0.0, (0, 255)), (0.02, -5.0, (0, 65535))]
)
def test_native_keeps_the_steps_of_an_arbitrary_unit(quantum, offset, levels):
    steps = np.random.default_rng(0).integers(levels[0], levels[1] + 1, (6, 7, 8))
    steps.flat[:2] = levels
    values = (steps * quantum + offset).astype(np.float32)
    volume = volume_of(values, unit="arbitrary", quantum=quantum, quantum_offset=offset)
    stored = prepare(volume, PRESETS["native"])
    assert stored.scale == quantum
    assert stored.max_rounding == 0
    back = stored.arrays["0"] * stored.scale + stored.offset
    assert np.allclose(back, values, rtol=2e-7, atol=abs(offset) * 1e-6)
    if levels[1] < 32768:
        assert np.array_equal(stored.arrays["0"], steps)


def test_arbitrary_floats_get_the_finest_steps_that_cover_them():
    values = np.random.default_rng(0).normal(0, 1e-3, (6, 7, 8)).astype(np.float32)
    stored = prepare(volume_of(values, unit="arbitrary"), PRESETS["native"])
    back = stored.arrays["0"] * stored.scale + stored.offset
    assert stored.arrays["0"].min() == -32768
    assert stored.arrays["0"].max() == 32767
    assert np.abs(back - values).max() <= 0.5001 * stored.scale
    assert 0 < stored.max_rounding <= 0.5


def test_an_arbitrary_unit_is_never_clipped_and_pads_with_its_minimum():
    values = np.full((3, 3, 4), 9000, np.int16)
    values[0] = 5
    stored = prepare(volume_of(values, unit="arbitrary"), Preset("p", (2.5, 0.8, 0.8), (5, 3, 4), (-1024, 3071)))
    back = stored.arrays["0"] * stored.scale + stored.offset
    assert np.allclose(back[1:4], values, atol=stored.scale)
    assert np.allclose(back[0], 5, atol=stored.scale)
    assert stored.num_clipped_high == 0


def test_a_constant_volume_is_kept():
    stored = prepare(volume_of(np.full((3, 3, 3), 0.37, np.float32), unit="SUV"), PRESETS["native"])
    assert np.allclose(stored.arrays["0"] * stored.scale + stored.offset, 0.37, rtol=1e-6)


def test_channels_and_labels_are_on_the_same_grid_and_share_the_scale():
    shape = (6, 20, 20)
    source = from_xyz_affine(np.diag([-0.75, -0.75, 3.0, 1.0]))
    where = places(shape, source)
    organ = ((where[..., 0] + 7) ** 2 + (where[..., 1] + 7) ** 2 < 16).astype(np.uint16) * 300
    first, second = np.zeros(shape, np.int16), (organ // 300 * 100).astype(np.int16)
    volume = volume_of(first, source, channels={"late": second}, labels={"organs": organ})
    stored = prepare(volume, Preset("p", (3.0, 1.5, 1.5), (8, 12, 12), (-1024, 3071)))
    assert list(stored.arrays) == ["0", "1"]
    labels = stored.labels["organs"]
    assert labels.dtype == np.uint16
    assert labels.shape == stored.arrays["1"].shape
    assert set(np.unique(labels)) == {0, 300}
    # A label map follows its image: where the resampled image is sure, the nearest label says the same.
    assert (labels[stored.arrays["1"] > 75] == 300).all()
    assert (labels[stored.arrays["1"] < 25] == 0).all()


def test_channels_of_another_shape_are_refused():
    volume = volume_of(np.zeros((3, 3, 3), np.int16), channels={"late": np.zeros((3, 3, 4), np.int16)})
    with pytest.raises(IngestError, match="shape"):
        prepare(volume, PRESETS["native"])


def test_the_source_is_left_alone():
    voxels = np.random.default_rng(0).integers(-3000, 5000, (5, 6, 7)).astype(np.int16)
    before = voxels.copy()
    for preset in SMALL.values():
        prepare(volume_of(voxels), preset)
    assert np.array_equal(voxels, before)
