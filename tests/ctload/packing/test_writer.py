from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctload.errors import (
    ChecksumError,
    IngestError,
    ManifestError,
    PresetMismatchError,
    StoreBusyError,
    StoreFormatError,
)
from ctload.packing import study_file
from ctload.packing.writer import StoreWriter
from ctload.storage import durable, layout
from ctload.storage.manifest import SCHEMA
from ctload.storage.preset import PRESETS
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from tests.ctload.prepared import PRESET, make_prepared, write_store


def test_a_store_opens_only_after_its_first_pack_ended(tmp_path):
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.write("a", make_prepared())
    with pytest.raises(StoreFormatError, match="did not end; run the same"):
        open_store(tmp_path / "store")
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.finish()
    assert open_store(tmp_path / "store").studies.ids == ["a"]


def test_studies_are_added_and_replaced_and_the_rest_stays(tmp_path):
    first = write_store(tmp_path / "store", {"a": make_prepared(1), "b": make_prepared(2)})
    second = write_store(tmp_path / "store", {"b": make_prepared(3), "c": make_prepared(4)})
    assert second.uuid == first.uuid
    assert second.studies.ids == ["a", "b", "c"]
    for study, seed in (("a", 1), ("b", 3), ("c", 4)):
        np.testing.assert_array_equal(second.read(study), make_prepared(seed).arrays["0"])
    assert verify(tmp_path / "store").is_sound


def test_rows_are_sorted_so_the_order_of_writing_does_not_show(tmp_path):
    studies = {name: make_prepared(at) for at, name in enumerate("bca")}
    one = write_store(tmp_path / "one", studies)
    other = write_store(tmp_path / "other", dict(sorted(studies.items())))
    assert one.studies.table.equals(other.studies.table)


def test_carried_columns_reach_the_manifest_and_missing_values_are_null(tmp_path):
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.write("a", make_prepared(), extra={"split": "train", "age": np.int64(61), "weight": 70.5})
        writer.write("b", make_prepared(1), extra={"split": "val", "is_male": True})
        writer.finish()
    table = open_store(tmp_path / "store").studies.table
    assert table.column_names[len(SCHEMA) :] == ["age", "is_male", "split", "weight"]
    assert table["age"].to_pylist() == [61, None]
    assert table["is_male"].to_pylist() == [None, True]
    assert open_store(tmp_path / "store").where(split="val").ids == ["b"]


@pytest.mark.parametrize(
    ("extra", "message"), [({"depth": 3}, "taken by the manifest"), ({"age": [1]}, "holds list")], ids=["name", "value"]
)
def test_columns_that_cannot_be_carried_are_refused_before_anything_is_written(tmp_path, extra, message):
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        with pytest.raises(ManifestError, match=message):
            writer.write("a", make_prepared(), extra=extra)
        assert not list((tmp_path / "store").rglob("zarr.json"))


def test_a_carried_column_of_mixed_types_names_itself(tmp_path):
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.write("a", make_prepared(), extra={"age": 61})
        writer.write("b", make_prepared(1), extra={"age": "sixty"})
        with pytest.raises(ManifestError, match="'age' mixes types"):
            writer.finish()


def test_one_writer_takes_each_study_once(tmp_path):
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.write("a", make_prepared())
        with pytest.raises(IngestError, match="DUPLICATE_STUDY"):
            writer.write("a", make_prepared(1))


def test_arrays_that_do_not_fit_together_are_refused(tmp_path):
    good = make_prepared(num_channels=2)
    bad = {
        "no volume": {},
        "another shape": {**good.arrays, "1": good.arrays["1"][:3]},
        "floats": {"0": good.arrays["0"].astype(np.float32)},
        "an empty axis": {"0": good.arrays["0"][:0]},
    }
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        for study, arrays in bad.items():
            with pytest.raises(IngestError, match="NOT_A_VOLUME"):
                writer.write(study, replace(good, arrays=arrays))
        assert not list((tmp_path / "store").rglob("zarr.json"))


@pytest.mark.parametrize("study", ["", "x" * 251, "\u00e9" * 45], ids=["empty", "long", "long when encoded"])
def test_ids_that_are_no_file_name_are_refused(tmp_path, study):
    with StoreWriter(tmp_path / "store", PRESET) as writer, pytest.raises(ManifestError, match="1 to 250 bytes"):
        writer.write(study, make_prepared())


@pytest.mark.parametrize("study", ["..", "a/../../b", "caf\u00e9 #1?", "x" * 250, "con.zarr", "%2F"])
def test_any_other_id_is_one_folder_inside_the_store(tmp_path, study):
    store = write_store(tmp_path / "store", {study: make_prepared()})
    np.testing.assert_array_equal(store.read(study), make_prepared().arrays["0"])
    (folder,) = (tmp_path / "store" / layout.VOLUMES).glob("*/*")
    assert folder == tmp_path / "store" / layout.study_folder(study)


def test_another_preset_is_refused(tmp_path):
    write_store(tmp_path / "store", {"a": make_prepared()})
    with pytest.raises(PresetMismatchError, match=r"packed with preset 'native'.*'merlin'"):
        StoreWriter(tmp_path / "store", PRESETS["merlin"])


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("draft")
    with pytest.raises(StoreFormatError, match="is no store"):
        StoreWriter(tmp_path, PRESET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_writers_on_one_store_are_refused(tmp_path):
    with StoreWriter(tmp_path / "store", PRESET), pytest.raises(StoreBusyError, match="another pack is at work"):
        StoreWriter(tmp_path / "store", PRESET, wait_s=0.1)
    StoreWriter(tmp_path / "store", PRESET, wait_s=0.1).close()


def test_a_disk_that_gives_back_other_voxels_is_noticed_and_nothing_is_kept(tmp_path, monkeypatch):
    written = study_file.write_volume_file

    def write_then_flip(folder, *rest, **options):
        size = written(folder, *rest, **options)
        shard = folder / layout.shard_file("0")
        content = bytearray(shard.read_bytes())
        content[40] ^= 1
        shard.write_bytes(content)
        return size

    with StoreWriter(tmp_path / "store", PRESET) as writer:
        monkeypatch.setattr(study_file, "write_volume_file", write_then_flip)
        with pytest.raises(ChecksumError, match="study a"):
            writer.write("a", make_prepared())
        monkeypatch.undo()
        assert not list((tmp_path / "store").rglob("zarr.json"))
        writer.write("a", make_prepared())
        writer.finish()
    assert verify(tmp_path / "store").is_sound


class Killed(BaseException):
    """Stands in for a kill at a chosen moment: nothing catches it."""


def test_a_volume_laid_aside_by_a_kill_comes_back(tmp_path, monkeypatch):
    store = write_store(tmp_path / "store", {"a": make_prepared(1)})
    writer = StoreWriter(tmp_path / "store", PRESET)
    sync = durable.sync_folder
    target = tmp_path / "store" / layout.study_folder("a")

    def killed(new, place, *, aside):
        aside.parent.mkdir(parents=True)
        place.rename(aside)
        raise Killed

    monkeypatch.setattr(durable, "replace_folder", killed)
    with pytest.raises(Killed):
        writer.write("a", make_prepared(2))
    monkeypatch.undo()
    assert sync is durable.sync_folder
    assert not target.exists()
    writer.close()
    with StoreWriter(tmp_path / "store", PRESET):
        pass
    np.testing.assert_array_equal(store.read("a"), make_prepared(1).arrays["0"])
    assert verify(tmp_path / "store").is_sound


@pytest.mark.parametrize("step", range(5))
def test_a_store_opens_whatever_step_of_finish_a_kill_comes_at(tmp_path, monkeypatch, step):
    write_store(tmp_path / "store", {"a": make_prepared(1)})
    writer = StoreWriter(tmp_path / "store", PRESET)
    writer.write("b", make_prepared(2))
    left = [step]
    replace_file = durable.replace_file

    def killed_at_step(path, content, **options):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        replace_file(path, content, **options)

    monkeypatch.setattr(durable, "replace_file", killed_at_step)
    if step < 4:  # journal, header, manifest, header
        with pytest.raises(Killed):
            writer.finish()
    else:
        writer.finish()
    monkeypatch.undo()
    writer.close()
    assert open_store(tmp_path / "store").studies.ids in (["a"], ["a", "b"])
    with StoreWriter(tmp_path / "store", PRESET) as again:
        again.finish()
    assert open_store(tmp_path / "store").studies.ids == ["a", "b"]
    assert verify(tmp_path / "store").is_sound


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("step", range(4))
def test_a_kill_while_a_file_is_written_leaves_nothing_that_stays(tmp_path, monkeypatch, step, is_new):
    if not is_new:
        write_store(tmp_path / "store", {"a": make_prepared()})
        (tmp_path / "store" / layout.MANIFEST).unlink()  # else there is nothing to write
    left = [step]

    def halted(path, target):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return original(path, target)

    original = Path.replace
    monkeypatch.setattr(Path, "replace", halted)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # a killed process tidies nothing up
    with pytest.raises(Killed), StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.finish()
    monkeypatch.undo()
    assert list((tmp_path / "store").rglob("*.beside"))
    with StoreWriter(tmp_path / "store", PRESET) as writer:
        writer.finish()
    assert verify(tmp_path / "store").problems == ()


def test_a_lost_manifest_is_rebuilt_from_the_journal_and_a_lost_journal_from_the_manifest(tmp_path):
    before = write_store(tmp_path / "store", {"a": make_prepared(1), "b": make_prepared(2)}).studies.table
    for lost in (layout.MANIFEST, f"{layout.JOURNAL}/packed.jsonl"):
        (tmp_path / "store" / lost).unlink()
        assert not verify(tmp_path / "store").is_sound
        with StoreWriter(tmp_path / "store", PRESET) as writer:
            writer.finish()
        assert open_store(tmp_path / "store").studies.table.equals(before)
        assert verify(tmp_path / "store").is_sound


def test_without_manifest_and_journal_nothing_is_forgotten_in_silence(tmp_path):
    write_store(tmp_path / "store", {"a": make_prepared(1)})
    (tmp_path / "store" / layout.MANIFEST).unlink()
    (tmp_path / "store" / layout.JOURNAL / "packed.jsonl").unlink()
    with pytest.raises(Exception, match="manifest is gone"):
        StoreWriter(tmp_path / "store", PRESET)
