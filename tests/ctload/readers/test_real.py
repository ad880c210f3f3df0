"""Every real study: packed values and geometry as its expected.json says, or refused with the right code."""

import hashlib
import json
import re

import numpy as np
import pytest

from ctload.errors import GeometryError, IngestError
from ctload.geometry import from_xyz_affine, spacing_of, to_canonical
from ctload.readers import read_source
from tests.shared_data import ct

# Study folder and file -> code of the refusal, or None where it is read.
REFUSED = {
    "d2n_gantrytilt_4slice/dicom.zip": "GANTRY_TILT",
    "d2n_missing_slice_4slice/dicom.zip": "GAP",
    "dcmqa_ge_head_tilt_varspacing/dicom.zip": "GANTRY_TILT",
    "dcmqa_ge_head_tilt_varspacing/nifti_dcm2niix/2_.nii.gz": "SHEARED",
    "dcmqa_philips_phantom_tilt_neg/dicom.zip": "GANTRY_TILT",
    "dcmqi_mini_multiframe/dicom.zip": "MULTI_SERIES",
    "niivue_shear_phantom/shear.nii.gz": "SHEARED",
    "pydicom_dicomdir_tree/dicom.zip": "MULTI_SERIES",
    "nifti_orientations_32/nifti.zip": "NOT_A_VOLUME",
    "totalseg_example_torso/example_seg.nii.gz": "NOT_HU",
    "totalseg_example_torso/example_seg_fast.nii.gz": "NOT_HU",
    "transfer_syntaxes_chest_slice/dicom.zip": "DUPLICATE_POSITION",
}
DICOM = ("crlm_ct_1004_abdomen", "cptac_c3n00247_chest", "dcmqi_liver_3slice")
NIFTI = (
    "totalseg_example_torso/example_ct.nii.gz",
    "totalseg_example_torso/example_ct_sm.nii.gz",
    "niivue_ct_avm/CT_AVM.nii.gz",
)
# Read by a test of its own: against its DICOM source, or as the correction that ours is compared with.
COMPARED = (
    "crlm_ct_1004_abdomen/nifti_dcm2niix/2_CT_CH_AB_PEL.nii.gz",
    "dcmqa_ge_head_tilt_varspacing/nifti_dcm2niix/2__Tilt_Eq_1.nii.gz",
)


def test_the_tables_of_this_file_name_every_real_source():
    root = ct("crlm_ct_1004_abdomen").parent
    sources = {
        path.relative_to(root).as_posix() for pattern in ("**/*.zip", "**/*.nii*") for path in root.glob(pattern)
    }
    assert sources == {*REFUSED, *(f"{name}/dicom.zip" for name in DICOM), *NIFTI, *COMPARED}


@pytest.mark.parametrize("name", REFUSED)
def test_a_study_that_is_no_right_angled_ct_volume_is_refused_with_its_code(name):
    path = ct(name)
    with pytest.raises((IngestError, GeometryError)) as raised:
        read_source(path)
    assert raised.value.code == REFUSED[name]
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", DICOM)
def test_a_dicom_series_has_its_expected_hu_and_affine(name):
    path = ct(f"{name}/dicom.zip")
    told = json.loads((path.parent / "expected.json").read_text())
    expected = told["series"][0]
    volume = read_source(path)
    assert list(volume.voxels.shape) == expected["shape_zyx"]
    assert (
        hashlib.sha256(volume.voxels.astype("<i2").tobytes()).hexdigest()
        == (expected["sha256_hu_int16_zyx_sorted_along_normal"])
    )
    assert volume.voxels.min() == expected["hu_min"]
    assert volume.voxels.max() == expected["hu_max"]
    assert volume.voxels.mean() == pytest.approx(expected["hu_mean"], abs=1e-3)
    lps = np.diag([-1, -1, 1, 1]) @ volume.affine
    assert np.allclose(lps[:3, 3], expected["first_ipp"], atol=1e-6)
    assert np.allclose(
        lps[:3, :3] * [len(volume.voxels) - 1, 0, 0],
        np.outer(np.subtract(expected["last_ipp"], expected["first_ipp"]), [1, 0, 0]),
        atol=1e-6,
    )
    for converted in told["dcm2niix"]:
        # dcm2niix writes the rows in the other direction; in the canonical orientation both are one.
        shape = converted["shape"][::-1]
        _, theirs = to_canonical(np.zeros(shape, np.int8), from_xyz_affine(np.array(converted["affine"])))
        _, ours = to_canonical(volume.voxels, volume.affine)
        assert np.allclose(ours, theirs, atol=1e-3)


def test_a_dicom_series_equals_what_dcm2niix_made_of_it():
    dicom = read_source(ct("crlm_ct_1004_abdomen/dicom.zip"))
    nifti = read_source(ct("crlm_ct_1004_abdomen/nifti_dcm2niix/2_CT_CH_AB_PEL.nii.gz"))
    ours, our_affine = to_canonical(dicom.voxels, dicom.affine)
    theirs, their_affine = to_canonical(nifti.voxels, nifti.affine)
    assert np.array_equal(ours, theirs)
    assert np.allclose(our_affine, their_affine, atol=1e-3)


@pytest.mark.parametrize("name", NIFTI)
def test_a_nifti_file_has_its_expected_values_and_affine(name):
    path = ct(name)
    told = json.loads((path.parent / "expected.json").read_text())["nifti"]
    expected = next(entry for entry in told if entry["file"] == path.name)
    volume = read_source(path)
    values = volume.voxels.astype(np.float64)
    assert list(values.shape) == expected["shape"][::-1]
    assert values.min() == pytest.approx(expected["value_min"], abs=1e-4)
    assert values.max() == pytest.approx(expected["value_max"], abs=1e-4)
    assert values.mean() == pytest.approx(expected["value_mean"], abs=1e-3)
    assert np.percentile(values, [1, 50, 99]) == pytest.approx(expected["pct_1_50_99"], abs=1e-3)
    assert np.allclose(from_xyz_affine(volume.affine), expected["affine"], atol=1e-5)


def test_localizers_and_dose_screens_are_left_out_with_their_reason():
    volume = read_source(ct("dcmqa_philips_phantom_tilt_neg/dicom.zip"), resample_irregular=True)
    reasons = sorted(sentence.split(": ")[1] for sentence in volume.left_out)
    assert reasons == ["GANTRY_TILT", "LOCALIZER", "NON_CT"]
    assert len(volume.voxels) == 54


def test_a_wide_gap_among_even_ones_never_becomes_a_mean_spacing():
    """Two CT series of one archive: one has a hole of 202.5 mm among gaps of 1.25 mm, the other is even."""
    path = ct("pydicom_dicomdir_tree/dicom.zip")
    with pytest.raises(IngestError, match="MULTI_SERIES") as raised:
        read_source(path)
    holed, even = re.findall(r"([0-9a-f]{16}) \(\d slices\)", str(raised.value))
    for resample_irregular in (False, True):
        with pytest.raises(GeometryError, match="GAP"):
            read_source(path, series=holed, resample_irregular=resample_irregular)
    volume = read_source(path, series=even)
    assert volume.voxels.shape == (5, 16, 16)
    assert spacing_of(volume.affine) == pytest.approx((2.5, 0.488281, 0.488281), abs=1e-5)


def test_padding_below_air_is_kept_by_readers():
    """A circle of reconstruction with padding of -3024 HU around it, a fifth of the voxels."""
    volume = read_source(ct("crlm_ct_1004_abdomen/dicom.zip"))
    assert volume.voxels.min() == -3024
    assert (volume.voxels == -3024).mean() == pytest.approx(0.21, abs=0.01)
