"""drop: a study leaves the store whole, with its voxels and its path, whenever it is interrupted."""

import json
import shutil
from pathlib import Path

import pytest

from ctload.cli import main
from ctload.errors import ManifestError, StoreBusyError, StoreFormatError
from ctload.packing import dropping
from ctload.packing.dropping import drop
from ctload.packing.packer import pack
from ctload.packing.writer import StoreWriter
from ctload.storage.layout import study_folder
from ctload.storage.preset import Preset
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import voxels_of, write_nifti


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for seed in range(4):
        write_nifti(tmp_path / "sources" / f"n{seed}.nii.gz", voxels_of(seed))
    pack([tmp_path / "sources"], tmp_path / "store", preset="native")
    return tmp_path / "store"


def test_a_dropped_study_leaves_no_row_no_file_and_no_path(store, capsys):
    assert main(["drop", str(store), "n1", "n3", "n1"]) == 0
    assert "dropped 2; 2 studies in the store now" in capsys.readouterr().out
    assert open_store(store).studies.ids == ["n0", "n2"]
    assert verify(store).is_sound
    assert not (store / study_folder("n1")).exists()
    assert not any(b"n1" in path.read_bytes() for path in store.rglob("*") if path.is_file())
    told = json.loads(store.with_name("store.keys.json").read_text())["sources"]
    assert sorted(told.values()) == ["sources/n0.nii.gz", "sources/n2.nii.gz"]


def test_an_unknown_study_stops_it_before_anything_is_gone(store):
    with pytest.raises(ManifestError, match="no study nine, ten; nothing was dropped"):
        drop(store, ["n1", "nine", "ten"])
    assert len(open_store(store)) == 4


def test_a_dropped_study_can_be_packed_again(store, tmp_path):
    drop(store, ["n1"])
    report = pack([tmp_path / "sources"], store, preset="native")
    assert (report.packed, len(report.reused)) == (("n1",), 3)
    assert verify(store).is_sound


def test_killed_before_the_files_are_gone_the_same_command_ends_it(store, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(dropping, "_delete", killed)
    with pytest.raises(KeyboardInterrupt):
        drop(store, ["n1"])
    monkeypatch.undo()
    assert "n1" not in open_store(store).studies.ids
    assert (store / study_folder("n1")).exists()
    assert drop(store, ["n1"]).num_studies == 3
    assert not (store / study_folder("n1")).exists()
    assert verify(store).is_sound


def test_killed_before_the_manifest_is_new_the_study_is_still_whole(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("ctload.packing.writer.write_header", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drop(store, ["n1"])
    assert len(open_store(store)) == 4
    open_store(store).read("n1")
    assert drop(store, ["n1"]).num_studies == 3
    assert verify(store).is_sound


def test_every_study_may_go(store):
    assert drop(store, ["n0", "n1", "n2", "n3"]).num_studies == 0
    assert len(open_store(store)) == 0
    assert verify(store).is_sound


def test_a_store_without_its_key_map_loses_the_study_all_the_same(store):
    store.with_name("store.keys.json").unlink()
    assert drop(store, ["n2"]).num_studies == 3
    assert not store.with_name("store.keys.json").exists()


def test_what_is_no_store_or_is_being_packed_is_refused(store, tmp_path):
    with pytest.raises(StoreFormatError):
        drop(tmp_path / "nowhere", ["n1"])
    with StoreWriter(store, Preset.from_name("native")), pytest.raises(StoreBusyError):
        drop(store, ["n1"], wait_s=0.1)
    shutil.rmtree(store)
