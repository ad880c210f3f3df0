"""One pack of every real study: the store holds what expected.json says, or the study is refused by its code."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ctload.geometry import from_xyz_affine, to_canonical
from ctload.packing.packer import pack
from ctload.packing.report import PackReport
from ctload.storage.store import Store, open_store
from tests.shared_data import ct

# Source -> codes of its refused studies, sorted.
REFUSED = {
    "d2n_gantrytilt_4slice/dicom.zip": ["GANTRY_TILT"],
    "d2n_missing_slice_4slice/dicom.zip": ["GAP"],
    "dcmqa_ge_head_tilt_varspacing/dicom.zip": ["GANTRY_TILT"],
    "dcmqa_ge_head_tilt_varspacing/nifti_dcm2niix/2_.nii.gz": ["SHEARED"],
    "dcmqa_philips_phantom_tilt_neg/dicom.zip": ["GANTRY_TILT"],
    "dcmqi_mini_multiframe/dicom.zip": ["MULTI_SERIES"],
    "nifti_orientations_32/nifti.zip": ["NOT_A_VOLUME"],
    "niivue_shear_phantom/shear.nii.gz": ["SHEARED"],
    "pydicom_dicomdir_tree/dicom.zip": ["GAP", "NON_CT", "NON_CT", "NON_CT", "NON_CT", "TRUNCATED"],
    "totalseg_example_torso/example_seg.nii.gz": ["NOT_HU"],
    "totalseg_example_torso/example_seg_fast.nii.gz": ["NOT_HU"],
    "transfer_syntaxes_chest_slice/dicom.zip": ["DUPLICATE_POSITION", "TOO_FEW_SLICES"],
}
DICOM = ("crlm_ct_1004_abdomen", "cptac_c3n00247_chest", "dcmqi_liver_3slice")
NIFTI = (
    "totalseg_example_torso/example_ct.nii.gz",
    "totalseg_example_torso/example_ct_sm.nii.gz",
    "niivue_ct_avm/CT_AVM.nii.gz",
)
# dcm2niix made these; their values stand under another name in expected.json.
CONVERTED = (
    "crlm_ct_1004_abdomen/nifti_dcm2niix/2_CT_CH_AB_PEL.nii.gz",
    "dcmqa_ge_head_tilt_varspacing/nifti_dcm2niix/2__Tilt_Eq_1.nii.gz",
)
# Of its many series one is an even CT volume.
ONE_OF_MANY = "pydicom_dicomdir_tree/dicom.zip"


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[Store, dict[str, str], PackReport]:
    """The native store of the whole folder, the id of the study packed of each source, and the report."""
    out = tmp_path_factory.mktemp("all") / "store"
    root = ct("crlm_ct_1004_abdomen").parent
    report = pack([root], out, preset="native", progress=False)
    names = json.loads(out.with_name("store.keys.json").read_text())["sources"]
    store = open_store(out)
    ids = {
        names[key].partition("#")[0].removeprefix(f"{root.name}/"): study
        for key, study in zip(store.studies.column("source"), store.studies.ids, strict=True)
    }
    return store, ids, report


def expected(source: str) -> dict:
    return json.loads((ct(source.partition("/")[0]) / "expected.json").read_text())


def test_every_real_source_is_packed_or_refused_with_its_codes(packed):
    _, ids, report = packed
    root = ct("crlm_ct_1004_abdomen").parent
    codes: dict[str, list[str]] = {}
    for refusal in report.refused:
        codes.setdefault(Path(refusal.source).relative_to(root).as_posix(), []).append(refusal.code)
    assert {source: sorted(found) for source, found in codes.items()} == REFUSED
    assert sorted(ids) == sorted([*(f"{name}/dicom.zip" for name in DICOM), *NIFTI, *CONVERTED, ONE_OF_MANY])
    every = {path.relative_to(root).as_posix() for kind in ("**/*.zip", "**/*.nii*") for path in root.glob(kind)}
    assert every == {*REFUSED, *ids}


@pytest.mark.parametrize("name", DICOM)
def test_a_packed_dicom_study_has_its_hu_and_geometry(packed, name):
    store, ids, _ = packed
    series = expected(name)["series"][0]
    study = ids[f"{name}/dicom.zip"]
    voxels = store.read(study)
    assert voxels.shape == tuple(series["shape_zyx"])
    in_dicom_order = np.ascontiguousarray(voxels[:, ::-1, ::-1])  # rows run to posterior, columns to left
    assert hashlib.sha256(in_dicom_order.tobytes()).hexdigest() == series["sha256_hu_int16_zyx_sorted_along_normal"]
    affine = store.studies.affines[store.studies.row_of(study)]
    depth, height, width = voxels.shape
    for z, position in ((0, series["first_ipp"]), (depth - 1, series["last_ipp"])):
        found = affine @ [z, height - 1, width - 1, 1]  # the slice's first pixel, LPS there and RAS here
        np.testing.assert_allclose(found[:3], np.array(position) * (-1, -1, 1), atol=1e-4)


@pytest.mark.parametrize("source", [*NIFTI, *CONVERTED])
def test_a_packed_nifti_study_has_its_values_and_geometry(packed, source):
    store, ids, _ = packed
    images = [*expected(source).get("nifti", []), *expected(source).get("dcm2niix", [])]
    told = next(image for image in images if image["file"] == Path(source).name)
    voxels = store.read(ids[source])
    row = store.studies.row_of(ids[source])
    blank = np.zeros(told["shape"][::-1], np.int8)
    turned, affine = to_canonical(blank, from_xyz_affine(np.array(told["affine"])))
    assert voxels.shape == turned.shape
    np.testing.assert_allclose(store.studies.affines[row], affine, atol=2e-3)
    error_hu = 0.5 if store.studies.column("max_rounding")[row] else 0  # int16 in the store, fractions in the file
    assert store.studies.column("max_rounding")[row] <= 0.5
    for value, name in ((voxels.min(), "value_min"), (voxels.max(), "value_max"), (voxels.mean(), "value_mean")):
        assert value == pytest.approx(told[name], abs=error_hu + 1e-3)
    assert np.percentile(voxels, [1, 50, 99]) == pytest.approx(told["pct_1_50_99"], abs=error_hu + 1e-3)


def test_a_dicom_study_and_its_dcm2niix_file_are_one_volume_in_the_store(packed):
    store, ids, _ = packed
    np.testing.assert_array_equal(store.read(ids["crlm_ct_1004_abdomen/dicom.zip"]), store.read(ids[CONVERTED[0]]))
