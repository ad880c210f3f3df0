"""Real CT studies through the command line into one store; HU and geometry as an independent reading found them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ctload.cli import main
from ctload.geometry import from_xyz_affine
from ctload.storage.store import Store, open_store
from tests.shared_data import ct

SOURCES = (
    "crlm_ct_1004_abdomen/dicom.zip",
    "cptac_c3n00247_chest/dicom.zip",
    "totalseg_example_torso/example_ct.nii.gz",
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[Store, dict[str, str]]:
    """The native store, and the study id of each source."""
    store = tmp_path_factory.mktemp("real") / "store"
    paths = [ct(source) for source in SOURCES]
    assert main(["pack", *map(str, paths), "--out", str(store), "--preset", "native"]) == 0
    names = json.loads(store.with_name("store.keys.json").read_text())["sources"]
    studies = open_store(store).studies
    hashed = dict(zip(studies.column("source"), studies.ids, strict=True))
    return open_store(store), {relative.partition("#")[0]: hashed[key] for key, relative in names.items()}


def expected(source: str) -> dict:
    return json.loads((ct(source).parent / "expected.json").read_text())


def test_the_native_store_of_three_real_studies_verifies(packed, capsys):
    store, ids = packed
    assert sorted(ids) == sorted(SOURCES)
    assert main(["verify", str(store.path), "--workers", "2"]) == 0
    assert "sound; 3 studies" in capsys.readouterr().out
    assert main(["info", str(store.path), "--studies"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("source", SOURCES[:2])
def test_dicom_studies_hold_the_hu_and_the_geometry_of_their_slices(packed, source):
    store, ids = packed
    series = expected(source)["series"][0]
    voxels = store.read(ids[source])
    assert voxels.shape == tuple(series["shape_zyx"])
    in_dicom_order = np.ascontiguousarray(voxels[:, ::-1, ::-1])  # rows run to posterior, columns to left
    assert hashlib.sha256(in_dicom_order.tobytes()).hexdigest() == series["sha256_hu_int16_zyx_sorted_along_normal"]
    row = store.studies.row_of(ids[source])
    depth, height, width = voxels.shape
    # LPS positions of the first and the last slice's first pixel, as RAS.
    for z, position in ((0, series["first_ipp"]), (depth - 1, series["last_ipp"])):
        found = store.studies.affines[row] @ [z, height - 1, width - 1, 1]
        np.testing.assert_allclose(found[:3], np.array(position) * (-1, -1, 1), atol=1e-4)
    np.testing.assert_allclose(
        [store.studies.column(f"spacing_{axis}_mm")[row] for axis in "xyz"], series["sitk"]["spacing"], atol=1e-5
    )
    assert store.studies.column("max_rounding")[row] == 0


def test_a_nifti_study_holds_the_hu_and_the_affine_of_its_header(packed):
    store, ids = packed
    source = SOURCES[2]
    told = next(image for image in expected(source)["nifti"] if image["file"] == Path(source).name)
    voxels = store.read(ids[source])
    row = store.studies.row_of(ids[source])
    assert voxels.shape == tuple(told["shape"][::-1])
    assert (voxels.min(), voxels.max()) == (told["value_min"], told["value_max"])
    assert voxels.mean() == pytest.approx(told["value_mean"], abs=1e-3)
    np.testing.assert_allclose(store.studies.affines[row], from_xyz_affine(np.array(told["affine"])), atol=1e-5)


def test_packed_again_all_real_studies_are_reused(packed, capsys):
    store, _ = packed
    before = store.studies.table
    paths = [str(ct(source)) for source in SOURCES]
    assert main(["pack", *paths, "--out", str(store.path), "--preset", "native", "--workers", "2"]) == 0
    assert "packed 0, reused 3, refused 0" in capsys.readouterr().out
    assert open_store(store.path).studies.table.equals(before)
