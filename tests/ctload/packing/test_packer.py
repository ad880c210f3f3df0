import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctload.errors import CtloadError, PresetMismatchError, StoreBusyError
from ctload.packing import worker as pack_worker
from ctload.packing.packer import pack
from ctload.packing.writer import StoreWriter
from ctload.storage import layout
from ctload.storage.preset import Preset
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import SHAPE, voxels_of, write_nifti


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for seed, name in enumerate(("one.nii.gz", "two.nii", "deep/er/three.nii.gz")):
        write_nifti(tmp_path / "sources" / name, voxels_of(seed))
    return tmp_path / "sources"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_becomes_a_sound_store_with_the_same_voxels(tmp_path, sources, workers):
    report = pack([sources], tmp_path / "store", preset="native", workers=workers)
    assert report.packed == ("one", "three", "two")
    assert (report.reused, report.refused, report.num_studies) == ((), (), 3)
    store = open_store(tmp_path / "store")
    for seed, study in enumerate(("one", "two", "three")):
        np.testing.assert_array_equal(store.read(study), voxels_of(seed))
    assert verify(tmp_path / "store").is_sound


def test_what_is_unchanged_is_reused_and_what_changed_is_packed_again(tmp_path, sources):
    pack([sources], tmp_path / "store", preset="native")
    old = open_store(tmp_path / "store").studies
    changed = write_nifti(sources / "two.nii", voxels_of(9))
    write_nifti(sources / "four.nii.gz", voxels_of(4))
    report = pack([sources], tmp_path / "store", preset="native")
    assert (report.packed, report.reused) == (("four", "two"), ("one", "three"))
    store = open_store(tmp_path / "store")
    np.testing.assert_array_equal(store.read("two"), changed)
    for study in ("one", "three"):
        digests = (table.table["digest"][table.row_of(study)] for table in (old, store.studies))
        assert len(set(digests)) == 1
    assert verify(tmp_path / "store").is_sound


def test_a_pack_that_changes_nothing_writes_neither_header_nor_manifest(tmp_path, sources):
    store = tmp_path / "store"
    pack([sources], store, preset="native")
    files = [store / layout.HEADER, store / layout.MANIFEST]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
    assert pack([sources], store, preset="native").reused == ("one", "three", "two")
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files] == before
    files[1].write_bytes(b"damaged")
    pack([sources], store, preset="native")
    assert verify(store).is_sound


def test_a_study_that_was_damaged_or_deleted_in_the_store_is_packed_again(tmp_path, sources):
    pack([sources], tmp_path / "store", preset="native")
    folder = tmp_path / "store" / open_store(tmp_path / "store").studies.column("path")[0]
    for damage in (lambda: (folder / "0/c/0/0/0").unlink(), lambda: (folder / "zarr.json").write_text("{}")):
        damage()
        report = pack([sources], tmp_path / "store", preset="native")
        assert (report.packed, report.reused) == (("one",), ("three", "two"))
        assert verify(tmp_path / "store").is_sound


def test_sources_that_cannot_be_packed_are_reported_and_the_rest_is_packed(tmp_path, sources):
    (sources / "text.nii").write_text("no image")
    whole = (sources / "one.nii.gz").read_bytes()
    (sources / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_nifti(sources / "grey.nii.gz", voxels_of(3).astype(np.uint8))
    report = pack([sources], tmp_path / "store", preset="native", workers=2)
    assert report.packed == ("one", "three", "two")
    codes = {refusal.study: refusal.code for refusal in report.refused}
    assert codes == {"text": "UNDECODABLE", "short": "TRUNCATED", "grey": "NOT_HU"}
    assert all(refusal.study in refusal.source and refusal.reason for refusal in report.refused)
    assert {path.name for path in (tmp_path / "store" / "volumes").glob("*/*")} == {
        "one.zarr", "two.zarr", "three.zarr",
    }  # fmt: skip
    assert verify(tmp_path / "store").is_sound


def test_where_all_is_refused_no_store_is_made(tmp_path):
    (tmp_path / "text.nii").write_text("no image")
    report = pack([tmp_path / "text.nii", tmp_path / "nothing"], tmp_path / "store", preset="native")
    assert len(report.refused) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["text.nii"]


def test_one_id_for_two_files_is_refused_for_both_and_never_decided(tmp_path, sources):
    write_nifti(sources / "elsewhere" / "one.nii.gz", voxels_of(8))
    report = pack([sources], tmp_path / "store", preset="native")
    assert report.packed == ("three", "two")
    assert [(refusal.study, refusal.code) for refusal in report.refused] == [("one", "DUPLICATE_STUDY")] * 2
    for refusal in report.refused:
        assert (str(sources / "one.nii.gz") in refusal.detail) != (refusal.source == str(sources / "one.nii.gz"))
        assert (str(sources / "elsewhere/one.nii.gz") in refusal.detail) == ("elsewhere" not in refusal.source)
        assert str(sources) not in refusal.reason


def test_the_same_file_given_twice_is_one_study(tmp_path, sources):
    report = pack([sources, sources / "two.nii"], tmp_path / "store", preset="native")
    assert report.packed == ("one", "three", "two")
    assert report.refused == ()


def test_another_source_does_not_take_the_place_of_a_study_by_accident(tmp_path, sources):
    pack([sources], tmp_path / "store", preset="native")
    write_nifti(tmp_path / "other" / "one.nii.gz", voxels_of(8))
    report = pack([tmp_path / "other"], tmp_path / "store", preset="native")
    assert [(refusal.study, refusal.code) for refusal in report.refused] == [("one", "DUPLICATE_STUDY")]
    assert report.num_studies == 3
    np.testing.assert_array_equal(open_store(tmp_path / "store").read("one"), voxels_of(0))


def test_another_preset_is_refused_and_an_unknown_one_too(tmp_path, sources):
    pack([sources], tmp_path / "store", preset="native")
    with pytest.raises(PresetMismatchError, match="another folder"):
        pack([sources], tmp_path / "store", preset="merlin")
    with pytest.raises(PresetMismatchError, match="no preset 'fine'"):
        pack([sources], tmp_path / "new", preset="fine")
    assert not (tmp_path / "new").exists()


def test_clipping_is_counted_over_packed_and_reused_studies(tmp_path):
    voxels = np.zeros(SHAPE, np.int16)
    voxels[0, 0, :3] = -2000
    voxels[0, 1, :5] = 4000
    nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0), np.eye(4)), tmp_path / "a.nii.gz")
    preset = Preset("clipped", clip_hu=(-1024, 3071))
    for _ in range(2):
        report = pack([tmp_path / "a.nii.gz"], tmp_path / "store", preset=preset)
        assert (report.num_clipped_low, report.num_clipped_high) == (3, 5)


def test_an_mr_volume_is_packed_in_its_own_unit(tmp_path):
    voxels = write_nifti(tmp_path / "mr.nii.gz", voxels_of(1).astype(np.uint8))
    report = pack([tmp_path / "mr.nii.gz"], tmp_path / "store", preset="native", unit="arbitrary")
    assert report.packed == ("mr",)
    store = open_store(tmp_path / "store")
    assert store.studies.column("unit").tolist() == ["arbitrary"]
    scale, offset = store.studies.column("scale")[0], store.studies.column("offset")[0]
    np.testing.assert_allclose(store.read("mr") * scale + offset, voxels, atol=1e-6)


def test_sources_stand_in_the_store_as_keyed_hashes_only(tmp_path):
    write_nifti(tmp_path / "ward 7" / "jane doe" / "scan.nii.gz", voxels_of(1))
    pack([tmp_path / "ward 7"], tmp_path / "store", preset="native")
    keymap = json.loads((tmp_path / "store.keys.json").read_text())
    hashed = open_store(tmp_path / "store").studies.column("source")[0]
    assert keymap["sources"] == {hashed: "ward 7/jane doe/scan.nii.gz"}
    assert (tmp_path / "store.keys.json").stat().st_mode & 0o077 == 0
    for path in (tmp_path / "store").rglob("*"):
        content = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        assert not any(name in content for name in (b"ward 7", b"jane", b"scan.nii", keymap["key"].encode()))


def test_the_key_map_survives_later_packs_so_hashes_stay(tmp_path, sources):
    pack([sources], tmp_path / "store", preset="native")
    before = open_store(tmp_path / "store").studies.column("source").tolist()
    pack([sources], tmp_path / "store", preset="native")
    assert open_store(tmp_path / "store").studies.column("source").tolist() == before


def test_a_pack_into_a_store_that_another_one_writes_is_refused(tmp_path, sources):
    with (
        StoreWriter(tmp_path / "store", Preset.from_name("native")),
        pytest.raises(StoreBusyError, match="another pack"),
    ):
        pack([sources], tmp_path / "store", preset="native", wait_s=0.1)


def test_a_disk_that_is_full_stops_the_pack_and_keeps_what_is_packed(tmp_path, sources, monkeypatch):
    write, left = pack_worker.write_study, [1]

    def full_after_one(*rest, **options):
        if left[0] == 0:
            raise CtloadError("could not be written: no space left on device")
        left[0] -= 1
        return write(*rest, **options)

    monkeypatch.setattr(pack_worker, "write_study", full_after_one)
    with pytest.raises(CtloadError, match="no space"):
        pack([sources], tmp_path / "store", preset="native")
    monkeypatch.undo()
    report = pack([sources], tmp_path / "store", preset="native")
    assert (len(report.packed), len(report.reused)) == (2, 1)
    assert verify(tmp_path / "store").is_sound


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pack_needs_a_worker(tmp_path, sources, workers):
    with pytest.raises(CtloadError, match="workers must be at least 1"):
        pack([sources], tmp_path / "store", preset="native", workers=workers)


def test_whatever_a_decoder_raises_refuses_one_source_and_no_other(tmp_path, sources, monkeypatch):
    read = pack_worker.read_source

    def failing(path, **options):
        if path.name == "two.nii":
            raise ZeroDivisionError("division by zero")
        return read(path, **options)

    monkeypatch.setattr(pack_worker, "read_source", failing)
    report = pack([sources], tmp_path / "store", preset="native")
    assert report.packed == ("one", "three")
    (refusal,) = report.refused
    assert (refusal.study, refusal.code) == ("two", "UNDECODABLE")
    assert "ZeroDivisionError" in refusal.reason
