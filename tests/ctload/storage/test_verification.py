"""Damage to any file of a store: found on read where a read meets it, and always by verify, which names the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctload.errors import ChecksumError, CtloadError, MissingChunkError, StoreFormatError
from ctload.geometry import Box
from ctload.packing.writer import StoreWriter
from ctload.storage import layout
from ctload.storage.header import read_header
from ctload.storage.journal import PACKED
from ctload.storage.store import Store, open_store
from ctload.storage.verification import VerifyReport, verify
from tests.ctload.prepared import PRESET, make_prepared, write_store

STUDIES = {
    "a": make_prepared(1),
    "b": make_prepared(2, num_channels=2, labels=("liver",)),
    "c": make_prepared(3),
}
STUDIES["c"].arrays["0"][:4] = 0  # unlike noise, it is compressed: two shards of noise alone end alike
NUM_FLIPS = 12  # of each file


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "store"
    write_store(path, STUDIES)
    return path


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "store")
    return tmp_path / "store"


def shard(root: Path, study: str, array: str = "0") -> Path:
    return root / layout.study_folder(study) / layout.shard_file(array)


def names_of(report: VerifyReport) -> set[tuple[str, str]]:
    return {(problem.study, Path(problem.path).name) for problem in report.problems}


def read_everything(root: Path) -> None:
    """Every voxel of every array, as training would read it."""
    store = open_store(root)
    for study, prepared in STUDIES.items():
        for name in layout.array_names(list(prepared.arrays), list(prepared.labels)):
            store.read(study, array=name)


def test_a_store_as_written_is_sound(root):
    report = verify(root, workers=2)
    assert report.is_sound
    assert report.num_studies == 3
    assert report.num_files == sum(path.is_file() for path in root.rglob("*"))
    assert report.num_bytes == open_store(root).studies.column("stored_bytes").sum()


def all_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != layout.LOCK)


def test_flipped_bits_of_any_file_are_found_and_the_file_is_named(root):
    rng = np.random.default_rng(11)
    for path in all_files(root):
        content = path.read_bytes()
        for bit in rng.choice(8 * len(content), NUM_FLIPS, replace=False):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << int(bit % 8)
            path.write_bytes(damaged)
            expect_found(root, path, f"bit {bit} of {path}")
        path.write_bytes(content)
    assert verify(root).is_sound


def expect_found(root: Path, path: Path, what: str) -> None:
    """Verify names the damaged file, and reading everything fails unless only the journal is hit."""
    named = {Path(place) for place in places_named(root)}
    assert path in named or (path.parent.name == layout.JOURNAL and path.parent in named), (what, named)
    if path.parent.name != layout.JOURNAL:
        with pytest.raises(CtloadError):
            read_everything(root)


def places_named(root: Path) -> list[str]:
    """What verify speaks of, in its report or in its refusal."""
    try:
        return [problem.path for problem in verify(root).problems]
    except StoreFormatError as error:  # a flipped bit can turn format version 1 into 9
        return [error.path or ""]


def test_a_deleted_file_is_named_whichever_it_is(root):
    for path in all_files(root):
        content = path.read_bytes()
        path.unlink()
        if path == root / layout.HEADER:
            with pytest.raises(StoreFormatError, match=layout.HEADER):
                verify(root)
        else:
            named = {Path(problem.path) for problem in verify(root).problems}
            assert path in named or (path.name == PACKED and path.parent in named)
        path.write_bytes(content)
    assert verify(root).is_sound


def test_truncated_files_are_found(root):
    for path in all_files(root):
        content = path.read_bytes()
        for size in (0, 1, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            expect_found(root, path, f"{path} cut to {size}")
        path.write_bytes(content)


def test_two_exchanged_shards_are_found_by_a_partial_read_too(root):
    one, other = shard(root, "a"), shard(root, "c")
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    store = open_store(root)
    for study in ("a", "c"):
        with pytest.raises(ChecksumError, match="exchanged"):
            store.read(study, Box((0, 0, 0), (2, 2, 2)))
    assert names_of(verify(root)) == {("a", "0"), ("c", "0")}


def test_two_exchanged_studies_are_found(root):
    one, other = (root / layout.study_folder(study) for study in ("a", "c"))
    one.rename(root / "kept")
    other.rename(one)
    (root / "kept").rename(other)
    with pytest.raises(ChecksumError):
        open_store(root).read("a")
    assert {problem.study for problem in verify(root).problems} == {"a", "c"}


@pytest.mark.parametrize("array", ["0", "1", "labels/liver"])
def test_a_deleted_shard_is_an_error_and_never_fill_value(root, array):
    store = open_store(root)
    shard(root, "b", array).unlink()
    with pytest.raises(MissingChunkError, match="the shard is gone") as caught:
        store.read("b", array=array)
    assert (caught.value.study, caught.value.path) == ("b", str(shard(root, "b", array)))


def error_of_read(store: Store, start: int) -> ChecksumError | None:
    """What four slices of study "a" raise; when nothing, they are right."""
    box = Box((start, 0, 0), (start + 4, 24, 28))
    pending = store.start_read(store.studies.row_of("a"), box, np.empty(box.shape, np.int16))
    try:
        voxels = pending.result()
    except ChecksumError as error:
        return error
    np.testing.assert_array_equal(voxels, STUDIES["a"].arrays["0"][start : start + 4])
    return None


def test_damage_inside_a_shard_shows_only_in_the_chunks_it_hit(root):
    path = shard(root, "a")
    content = bytearray(path.read_bytes())
    content[-200] ^= 16  # the chunks lie before the index of 2 x 16 + 4 bytes
    path.write_bytes(content)
    store = open_store(root)
    errors = [error_of_read(store, start) for start in (0, 16)]
    assert sorted(type(error) for error in errors if error is not None) == [ChecksumError]
    assert [error.study for error in errors if error is not None] == ["a"]
    assert names_of(verify(root)) == {("a", "0")}


@pytest.mark.parametrize(
    ("change", "study", "message"),
    [
        (lambda root: (root / "notes.txt").write_text("x"), "", "in no manifest"),
        (lambda root: (root / layout.study_folder("a") / "0" / "c" / "0" / "0" / "1").write_text("x"), "", "in no"),
        (lambda root: shutil.copytree(root / layout.study_folder("a"), root / "volumes/00/z.zarr"), "", "in no"),
        (lambda root: ((root / "tmp").mkdir(), (root / "tmp" / "x").write_text("x")), "", "did not end"),
        (lambda root: shutil.rmtree(root / layout.study_folder("a")), "a", "gone"),
    ],
    ids=["strange file", "strange chunk", "strange study", "half-written", "study gone"],
)
def test_what_does_not_belong_or_is_gone_is_reported(root, change: Callable, study: str, message: str):
    change(root)
    problems = verify(root).problems
    assert problems
    assert all(problem.study == study and message in problem.message for problem in problems)


def test_a_pack_under_way_or_killed_is_told_apart_from_damage(root):
    with StoreWriter(root, PRESET) as writer:
        writer.write("d", make_prepared(4))
    messages = {problem.message for problem in verify(root).problems if problem.study == ""}
    assert "a pack that did not end; run it again" in messages
    with StoreWriter(root, PRESET) as writer:
        writer.finish()
    assert verify(root).is_sound


def test_a_damaged_header_hides_no_other_damage(root):
    (root / layout.HEADER).write_bytes((root / layout.HEADER).read_bytes()[:-1])
    shard(root, "c").unlink()
    assert names_of(verify(root)) == {("", layout.HEADER), ("c", "0")}
    with pytest.raises(ChecksumError, match="restore this file"):
        open_store(root)
    with pytest.raises(ChecksumError):
        StoreWriter(root, PRESET)


def test_a_damaged_manifest_hides_no_other_damage(root):
    (root / layout.MANIFEST).write_bytes(b"PAR1")
    shard(root, "c").unlink()
    assert names_of(verify(root)) == {("", layout.MANIFEST), ("c", "0")}


def test_verify_refuses_what_is_no_store(tmp_path):
    with pytest.raises(StoreFormatError):
        verify(tmp_path)
    with pytest.raises(CtloadError, match="workers"):
        verify(tmp_path, workers=0)


def test_a_header_names_its_preset_with_all_fields(root):
    header = read_header(root)
    assert header.preset["name"] == "native"
    assert header.preset["hash"] == PRESET.hash
    assert header.preset["fields"]["fill_hu"] == -1024
    assert header.num_studies == 3
