"""Parts of a pack and their merge: the same store as one pack, and no study lost or doubled."""

import json
import os
from pathlib import Path

import pytest

from ctload.cli import main
from ctload.errors import ChecksumError, CtloadError, IngestError, ManifestError, PresetMismatchError
from ctload.packing import merging
from ctload.packing.merging import merge
from ctload.packing.packer import pack, part_path
from ctload.storage.layout import shard_file, study_folder
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import voxels_of, write_nifti
from tests.ctload.dicom_files import write_series
from tests.ctload.exports import in_study

NUM_PARTS = 3


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for seed in range(5):
        write_nifti(tmp_path / "sources" / f"n{seed}.nii.gz", voxels_of(seed))
    for name in "abc":
        write_series(tmp_path / "sources" / name, 5, series=name, change=in_study(name))
    return tmp_path / "sources"


def pack_parts(sources: Path, out: Path, **options) -> list[Path]:
    for number in range(1, NUM_PARTS + 1):
        pack([sources], out, preset="native", part=(number, NUM_PARTS), **options)
    return [part_path(out, (number, NUM_PARTS)) for number in range(1, NUM_PARTS + 1)]


def rows_of(store: Path) -> dict[str, dict]:
    return {row["study"]: row for row in open_store(store).studies.table.to_pylist()}


def test_parts_hold_each_study_once_and_merge_to_what_one_pack_makes(sources, tmp_path):
    parts = pack_parts(sources, tmp_path / "store")
    studies = [study for part in parts for study in open_store(part).studies.ids]
    assert len(studies) == len(set(studies)) == 8
    report = merge(parts, tmp_path / "store")
    assert report.merged == tuple(sorted(studies))
    assert verify(tmp_path / "store").is_sound
    whole = pack([sources], tmp_path / "whole", preset="native", keys=tmp_path / "store.keys.json")
    assert whole.packed == report.merged
    assert rows_of(tmp_path / "store") == rows_of(tmp_path / "whole")
    assert pack([sources], tmp_path / "store", preset="native").reused == report.merged
    assert all(verify(part).is_sound for part in parts)


def test_merged_again_nothing_is_copied_and_a_damaged_study_is_replaced(sources, tmp_path):
    parts = pack_parts(sources, tmp_path / "store")
    merge(parts, tmp_path / "store")
    assert merge(parts, tmp_path / "store").merged == ()
    (tmp_path / "store" / study_folder("n1") / shard_file("0")).unlink()
    assert merge(parts, tmp_path / "store").merged == ("n1",)
    assert verify(tmp_path / "store").is_sound


def test_the_key_map_of_the_merged_store_tells_every_source(sources, tmp_path):
    merge(pack_parts(sources, tmp_path / "store"), tmp_path / "store")
    told = json.loads((tmp_path / "store.keys.json").read_text())["sources"]
    assert set(open_store(tmp_path / "store").studies.column("source")) == told.keys()


def test_a_missing_part_is_refused_unless_that_is_said(sources, tmp_path, capsys):
    parts = pack_parts(sources, tmp_path / "store")
    with pytest.raises(ManifestError, match="of 3 parts, 2 not given"):
        merge([parts[0], parts[2]], tmp_path / "store")
    assert not (tmp_path / "store").exists()
    names = [str(path) for path in sorted(tmp_path.glob("store.part-*"))]  # as a shell gives them, key maps among them
    assert main(["merge", *names, "--out", str(tmp_path / "store")]) == 0
    assert "merged 8, had 0 already; 8 studies in the store now" in capsys.readouterr().out
    assert main(["merge", str(parts[0]), "--incomplete", "--out", str(tmp_path / "less")]) == 0


def test_a_part_without_any_study_is_still_a_part(tmp_path):
    write_nifti(tmp_path / "in" / "one.nii.gz", voxels_of(1))
    parts = pack_parts(tmp_path / "in", tmp_path / "store")
    assert sorted(len(open_store(part)) for part in parts) == [0, 0, 1]
    assert merge(parts, tmp_path / "store").merged == ("one",)


@pytest.mark.parametrize("part", [(0, 3), (4, 3), (1, 0)])
def test_a_part_that_is_none_is_refused(sources, tmp_path, part):
    with pytest.raises(CtloadError, match="i from 1 to n"):
        pack([sources], tmp_path / "store", preset="native", part=part)


def test_the_part_of_a_study_does_not_depend_on_the_others(sources, tmp_path):
    before = {part.name: set(open_store(part).studies.ids) for part in pack_parts(sources, tmp_path / "store")}
    write_nifti(sources / "new.nii.gz", voxels_of(9))
    for part in pack_parts(sources, tmp_path / "store"):
        assert set(open_store(part).studies.ids) - {"new"} == before[part.name]


def test_one_id_with_two_contents_stops_the_merge_before_anything_is_written(tmp_path):
    for name, seed in (("x", 1), ("y", 2)):
        write_nifti(tmp_path / name / "same.nii.gz", voxels_of(seed))
        write_nifti(tmp_path / name / f"{name}.nii.gz", voxels_of(seed + 5))
        pack([tmp_path / name], tmp_path / f"{name}.zarr", preset="native")
    with pytest.raises(IngestError, match="different voxels") as raised:
        merge([tmp_path / "x.zarr", tmp_path / "y.zarr"], tmp_path / "store")
    assert raised.value.study == "same"
    assert not (tmp_path / "store").exists()


def test_stores_of_two_keys_get_sources_of_one_and_without_key_maps_keep_their_own(tmp_path):
    for name, seed in (("x", 1), ("y", 2)):
        write_nifti(tmp_path / name / f"{name}.nii.gz", voxels_of(seed))
        pack([tmp_path / name], tmp_path / f"{name}.zarr", preset="native")
    merge([tmp_path / "x.zarr", tmp_path / "y.zarr"], tmp_path / "both")
    told = json.loads((tmp_path / "both.keys.json").read_text())["sources"]
    assert sorted(told.values()) == ["x/x.nii.gz", "y/y.nii.gz"]
    assert pack([tmp_path / "y"], tmp_path / "both", preset="native").reused == ("y",)
    for name in "xy":
        (tmp_path / f"{name}.zarr.keys.json").unlink()
    merge([tmp_path / "x.zarr", tmp_path / "y.zarr"], tmp_path / "bare")
    kept = {open_store(tmp_path / f"{name}.zarr").studies.column("source")[0] for name in "xy"}
    assert set(open_store(tmp_path / "bare").studies.column("source")) == kept


def test_parts_of_two_presets_or_codecs_are_refused(sources, tmp_path):
    pack([sources], tmp_path / "a", preset="native")
    pack([sources], tmp_path / "b", preset="3x3x3mm")
    pack([sources], tmp_path / "c", preset="native", profile="archive")
    for other in "bc":
        with pytest.raises(PresetMismatchError, match="pack all parts alike"):
            merge([tmp_path / "a", tmp_path / other], tmp_path / "store")


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_damaged_part_is_not_merged(sources, tmp_path, monkeypatch, is_linked):
    parts = pack_parts(sources, tmp_path / "store")
    if not is_linked:  # as across two disks
        monkeypatch.setattr(merging.os, "link", refuse_link)
    study = open_store(parts[0]).studies.ids[0]
    shard = parts[0] / study_folder(study) / shard_file("0")
    content = bytearray(shard.read_bytes())
    content[-1 if is_linked else len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ChecksumError) as raised:
        merge(parts, tmp_path / "store")
    assert raised.value.study == study
    shard.write_bytes(bytes(content[:-1]) + bytes([content[-1] ^ is_linked]))
    if is_linked:
        merge(parts, tmp_path / "store")
        assert verify(tmp_path / "store").is_sound


def test_across_disks_files_are_copied_and_read_back(sources, tmp_path, monkeypatch):
    parts = pack_parts(sources, tmp_path / "store")
    monkeypatch.setattr(merging.os, "link", refuse_link)
    merge(parts, tmp_path / "store")
    assert verify(tmp_path / "store").is_sound
    shard = Path(study_folder("n1")) / shard_file("0")
    assert os.stat(tmp_path / "store" / shard).st_nlink == 1


def refuse_link(*_):
    raise OSError("another disk")


def test_a_merge_that_is_stopped_goes_on(sources, tmp_path, monkeypatch):
    parts = pack_parts(sources, tmp_path / "store")
    staged, left = merging._staged, [4]

    def stop(*given):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return staged(*given)

    monkeypatch.setattr(merging, "_staged", stop)
    with pytest.raises(KeyboardInterrupt):
        merge(parts, tmp_path / "store")
    monkeypatch.undo()
    report = merge(parts, tmp_path / "store")
    assert (len(report.merged), len(report.reused)) == (4, 4)
    assert verify(tmp_path / "store").is_sound
