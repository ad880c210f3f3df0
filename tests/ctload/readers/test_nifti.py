"""NIfTI files to volumes: values, geometry, and every way in which a file can be wrong."""

import gzip
import random
import tracemalloc
import zipfile
from contextlib import contextmanager

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import CtloadError, GeometryError, IngestError
from ctload.geometry import from_xyz_affine, to_canonical
from ctload.readers import read_source
from tests.ctload.nifti_files import OBLIQUE, ramp, write_nifti
from tests.shared_data import ct

SHAPE = (5, 6, 7)


def refusal(path, code, **options):
    """The error of a refused file."""
    with pytest.raises((IngestError, GeometryError)) as raised:
        read_source(path, **options)
    assert raised.value.code == code
    assert str(path) in str(raised.value)
    return raised.value


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int8, np.uint8, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("scale", [(1, 0), (1, -1024), (2.5, 0.25), (0, 0), (float("nan"), float("nan"))])
def test_values_equal_those_of_nibabel(tmp_path, suffix, dtype, scale):
    path = write_nifti(tmp_path / f"a{suffix}", ramp(SHAPE, dtype), slope=scale[0], intercept=scale[1])
    volume = read_source(path, unit="HU")
    expected = np.asanyarray(nib.load(path).dataobj).astype(np.float64).T
    assert np.array_equal(volume.voxels.astype(np.float64), expected.astype(np.float32).astype(np.float64))
    assert np.allclose(volume.affine, from_xyz_affine(nib.load(path).affine), atol=0)


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">i4"])
def test_byte_order_does_not_change_values(tmp_path, dtype):
    stored = ramp(SHAPE, np.int16).astype(np.dtype(dtype).newbyteorder("="))
    image = nib.Nifti1Image(stored, OBLIQUE, header=nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(dtype)
    nib.save(image, tmp_path / "big.nii")
    assert np.array_equal(read_source(tmp_path / "big.nii").voxels, stored.T)


def test_whole_values_stay_integers_and_fractional_ones_become_float32(tmp_path):
    whole = write_nifti(tmp_path / "whole.nii", ramp(SHAPE, np.uint16), intercept=-1024)
    wide = write_nifti(tmp_path / "wide.nii", np.full(SHAPE, 70_000, np.int32))
    fractional = write_nifti(tmp_path / "fractional.nii", ramp(SHAPE), slope=0.5)
    dtypes = [read_source(path).voxels.dtype for path in (whole, wide, fractional)]
    assert dtypes == [np.int16, np.int32, np.float32]


def test_nifti_2_and_one_volume_of_four_dimensions_are_read(tmp_path):
    stored = ramp((*SHAPE, 1))
    path = write_nifti(tmp_path / "a.nii.gz", stored, kind=nib.Nifti2Image)
    assert np.array_equal(read_source(path).voxels, stored[..., 0].T)


def test_sform_wins_over_qform_and_qform_serves_alone(tmp_path):
    moved = OBLIQUE.copy()
    moved[:3, 3] += 5
    both = write_nifti(tmp_path / "both.nii", ramp(SHAPE), sform=OBLIQUE, qform=moved)
    alone = write_nifti(tmp_path / "alone.nii", ramp(SHAPE), sform=None, qform=moved)
    assert np.allclose(read_source(both).affine, from_xyz_affine(OBLIQUE), atol=1e-5)
    assert np.allclose(read_source(alone).affine, from_xyz_affine(moved), atol=1e-4)


def test_a_file_without_sform_and_qform_is_refused(tmp_path):
    refusal(write_nifti(tmp_path / "a.nii", ramp(SHAPE), sform=None), "NO_GEOMETRY")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_an_affine_without_finite_spacing_is_refused(tmp_path, bad):
    affine = OBLIQUE.copy()
    affine[:3, 1] = bad
    refusal(write_nifti(tmp_path / "a.nii", ramp(SHAPE), sform=affine), "NO_GEOMETRY")


def test_a_sheared_affine_is_refused_and_rounding_is_not(tmp_path):
    sheared, rounded = OBLIQUE.copy(), np.round(OBLIQUE, 4)
    sheared[1, 2] = 0.2
    refusal(write_nifti(tmp_path / "sheared.nii", ramp(SHAPE), sform=sheared), "SHEARED")
    read_source(write_nifti(tmp_path / "rounded.nii", ramp(SHAPE), sform=rounded))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("scale", [(1, 0), (0, 0), (0, 50), (float("nan"), float("nan"))])
def test_eight_bits_without_a_scale_are_no_hu_unless_said(tmp_path, dtype, scale):
    path = write_nifti(tmp_path / "a.nii", ramp(SHAPE, dtype), slope=scale[0], intercept=scale[1])
    assert "unit='arbitrary'" in str(refusal(path, "NOT_HU"))
    assert read_source(path, unit="arbitrary").unit == "arbitrary"
    assert read_source(path, unit="HU").unit == "HU"


@pytest.mark.parametrize("scale", [(8, 0), (1, -100)])
def test_eight_bits_with_a_scale_are_hu(tmp_path, scale):
    path = write_nifti(tmp_path / "a.nii", ramp(SHAPE, np.uint8), slope=scale[0], intercept=scale[1])
    assert read_source(path).unit == "HU"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_refused(tmp_path, bad):
    stored = ramp(SHAPE, np.float32)
    stored[1, 2, 3] = bad
    refusal(write_nifti(tmp_path / "a.nii.gz", stored), "UNDECODABLE")


@pytest.mark.parametrize("shape", [(5, 6, 7, 2), (5, 6), (5, 6, 7, 1, 3)])
def test_what_is_not_one_volume_is_refused(tmp_path, shape):
    refusal(write_nifti(tmp_path / "a.nii", ramp(shape)), "NOT_A_VOLUME")


def test_complex_and_colour_voxels_are_refused(tmp_path):
    refusal(write_nifti(tmp_path / "a.nii", np.ones(SHAPE, np.complex64)), "NOT_A_VOLUME")
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refusal(write_nifti(tmp_path / "b.nii", colour), "NOT_A_VOLUME")


def test_a_text_file_named_nii_is_refused(tmp_path):
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).write_text("patient,report\n" * 100)
        assert "no single-file NIfTI" in str(refusal(tmp_path / name, "UNDECODABLE"))
    (tmp_path / "empty.nii").touch()
    refusal(tmp_path / "empty.nii", "UNDECODABLE")
    with gzip.open(tmp_path / "text.nii.gz", "wt") as file:
        file.write("patient,report\n" * 100)
    refusal(tmp_path / "text.nii.gz", "UNDECODABLE")


def test_every_truncation_of_a_gzip_is_refused(tmp_path):
    whole = write_nifti(tmp_path / "whole.nii.gz", ramp(SHAPE)).read_bytes()
    path = tmp_path / "cut.nii.gz"
    for length in range(2, len(whole), 7):
        path.write_bytes(whole[:length])
        refusal(path, "TRUNCATED")
    path.write_bytes(whole[:-1])
    refusal(path, "TRUNCATED")


def test_a_truncated_uncompressed_file_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii", ramp(SHAPE))
    path.write_bytes(path.read_bytes()[:-1])
    refusal(path, "TRUNCATED")


def flips_that_pass(path, num_flips, seed):
    """Flip single bits of a file, one at a time: how often it was read to other voxels or another affine."""
    content, truth = path.read_bytes(), read_source(path, unit="HU")
    damaged = path.with_name("damaged.nii.gz")
    chosen, num_refused, num_wrong = random.Random(seed), 0, 0
    for _ in range(num_flips):
        bit = chosen.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(flipped)
        try:
            volume = read_source(damaged, unit="HU")
        except CtloadError:
            num_refused += 1
        else:
            # A flip in the gzip header's time or name changes nothing that is read.
            same = np.array_equal(volume.voxels, truth.voxels) and np.array_equal(volume.affine, truth.affine)
            num_wrong += not same
    assert num_refused > 0.9 * num_flips
    return num_wrong


def test_no_flipped_bit_of_a_gzip_passes_unseen(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", ramp((20, 20, 20)))
    assert flips_that_pass(path, 400, seed=1) == 0


def test_no_flipped_bit_of_a_real_study_passes_unseen(tmp_path):
    source = ct("totalseg_example_torso/example_ct_sm.nii.gz")
    path = tmp_path / "a.nii.gz"
    path.write_bytes(source.read_bytes())
    assert flips_that_pass(path, 60, seed=2) == 0


@contextmanager
def taking_less_than(num_bytes):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


def test_a_header_that_declares_too_much_is_refused_before_memory_is_taken(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", ramp(SHAPE))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([30_000, 30_000, 30_000], "<i2").tobytes()
    path.write_bytes(gzip.compress(content))
    with taking_less_than(4 << 20):
        assert "GiB" in str(refusal(path, "UNDECODABLE"))
        # Within the limit, but more than the file can unpack to.
        refusal(path, "TRUNCATED", max_bytes=1 << 60)


def test_a_gzip_that_goes_on_after_its_voxels_is_refused_without_unpacking_it(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", ramp(SHAPE))
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(200 << 20), 1))
    with taking_less_than(8 << 20):
        refusal(path, "UNDECODABLE")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A path to write to, and the content of a valid file."""
    path = write_nifti(tmp_path_factory.mktemp("fuzz") / "a.nii", ramp(SHAPE))
    return path, path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_gives_a_volume_or_a_typed_error(fuzzed, edits):
    path, content = fuzzed
    damaged = bytearray(content)
    for position, value in edits:
        damaged[position] = value
    path.write_bytes(damaged)
    try:
        volume = read_source(path, max_bytes=1 << 28)
    except CtloadError:
        return
    assert volume.voxels.ndim == 3
    assert np.isfinite(volume.affine).all()


def test_channels_and_labels_ride_along_on_the_same_grid(tmp_path):
    image, other = ramp(SHAPE), ramp(SHAPE) + np.int16(3)
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int32) * 3
    paths = [write_nifti(tmp_path / f"{number}.nii.gz", stored) for number, stored in enumerate((image, other, labels))]
    volume = read_source(paths[0], channels={"late": paths[1]}, labels={"organs": paths[2]})
    assert np.array_equal(volume.channels["late"], other.T)
    assert volume.labels["organs"].dtype == np.uint16
    assert np.array_equal(volume.labels["organs"], labels.T)
    moved = OBLIQUE.copy()
    moved[2, 3] += 1
    elsewhere = write_nifti(tmp_path / "elsewhere.nii.gz", image, sform=moved)
    refusal(paths[0], "MIXED_SPACING", channels={"late": elsewhere})
    refusal(paths[0], "NOT_A_VOLUME", labels={"organs": write_nifti(tmp_path / "negative.nii", image)})


def test_all_32_axis_orders_of_one_volume_give_one_canonical_volume(tmp_path):
    with zipfile.ZipFile(ct("nifti_orientations_32/nifti.zip")) as archive:
        archive.extractall(tmp_path)
    paths = sorted(tmp_path.glob("*.nii.gz"))
    assert len(paths) == 32
    found = []
    for path in paths:
        volume = read_source(path, unit="arbitrary")
        found.append(to_canonical(volume.voxels, volume.affine))
    for voxels, affine in found[1:]:
        assert np.array_equal(voxels, found[0][0])
        assert np.allclose(affine, found[0][1], atol=1e-3)
