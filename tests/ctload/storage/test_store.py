import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import CtloadError, ForkAfterOpenError, ManifestError, StoreFormatError
from ctload.geometry import Box
from ctload.loading.loader import Loader
from ctload.sampling.sampler import SequentialSampler
from ctload.storage import layout
from ctload.storage.store import Store, open_store
from ctload.testing import synthetic_store
from tests.ctload.prepared import OBLIQUE, make_prepared, write_store

STUDIES = {
    "plain": make_prepared(1),
    "large": make_prepared(2, shape=(70, 270, 66)),
    "two channels": make_prepared(3, num_channels=2),
    "mr/with labels": make_prepared(
        4, unit="arbitrary", scale=0.5, offset=-3.0, fill_value=0, labels=("liver", "a b/c")
    ),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return write_store(tmp_path_factory.mktemp("stores") / "store", STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_every_array_comes_back_voxel_for_voxel(store, study):
    prepared = STUDIES[study]
    for name, voxels in prepared.arrays.items():
        np.testing.assert_array_equal(store.read(study, array=name), voxels)
    for name, voxels in prepared.labels.items():
        read = store.read(study, array=f"labels/{name}")
        assert read.dtype == voxels.dtype
        np.testing.assert_array_equal(read, voxels)


def test_the_manifest_keeps_geometry_unit_and_what_preparation_lost(store):
    row = store.studies.row_of("mr/with labels")
    told = {name: store.studies.table[name][row].as_py() for name in store.studies.table.column_names}
    assert (told["unit"], told["scale"], told["offset"], told["fill_value"]) == ("arbitrary", 0.5, -3.0, 0)
    assert (told["num_clipped_low"], told["num_clipped_high"], told["max_rounding"]) == (3, 5, 0.25)
    assert told["labels"] == ["liver", "a b/c"]
    np.testing.assert_array_equal(store.studies.affines[row], OBLIQUE)
    np.testing.assert_array_equal(store.studies.shapes[row], (20, 24, 28))
    assert store.preset["name"] == "native"


def padded(voxels: np.ndarray, box: Box, fill: int) -> np.ndarray:
    """The box by NumPy indexing, voxel by voxel."""
    index = [np.arange(start, stop) for start, stop in zip(box.start, box.stop, strict=True)]
    valid = [(at >= 0) & (at < size) for at, size in zip(index, voxels.shape, strict=True)]
    inside = voxels[np.ix_(*(np.clip(at, 0, size - 1) for at, size in zip(index, voxels.shape, strict=True)))]
    z, y, x = valid
    is_inside = z[:, None, None] & y[None, :, None] & x[None, None, :]
    return np.where(is_inside, inside, fill).astype(voxels.dtype)


def interval(size: int):
    return st.integers(-size, 2 * size).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start, start + size))
    )


@settings(max_examples=60, deadline=None)
@given(z=interval(70), y=interval(270), x=interval(66))
def test_a_box_is_the_volume_where_they_meet_and_fill_value_elsewhere(store, z, y, x):
    box = Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))
    expected = padded(STUDIES["large"].arrays["0"], box, -1024)
    np.testing.assert_array_equal(store.read("large", box), expected)


def test_label_maps_are_padded_with_zero(store):
    assert not store.read("mr/with labels", Box((-2, 0, 0), (0, 24, 28)), array="labels/liver").any()


def test_reads_started_together_decode_into_their_own_arrays(store):
    box = Box((-1, 3, 0), (17, 21, 28))
    rows = [store.studies.row_of(study) for study in STUDIES]
    out = np.full((len(rows), *box.shape), 7, np.int16)
    pending = [store.start_read(row, box, out[at]) for at, row in enumerate(rows)]
    for at, (study, read) in enumerate(zip(STUDIES, pending, strict=True)):
        assert read.result() is not None
        assert read.done()
        prepared = STUDIES[study]
        np.testing.assert_array_equal(out[at], padded(prepared.arrays["0"], box, prepared.fill_value))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 2, 3), np.int16),
        np.empty((2, 2, 2), np.float32),
        np.empty((2, 2, 4), np.int16)[:, :, ::2],
    ],
    ids=["shape", "type", "strides"],
)
def test_an_array_that_cannot_hold_the_box_is_refused(store, out):
    with pytest.raises(CtloadError, match=r"box's shape \(2, 2, 2\)"):
        store.read("plain", Box((0, 0, 0), (2, 2, 2)), out=out)


def test_unknown_studies_and_arrays_are_named(store):
    with pytest.raises(ManifestError, match="nobody"):
        store.read("nobody")
    with pytest.raises(ManifestError, match=r"two channels.*this study has 0, 1"):
        store.read("two channels", array="2")


def test_thread_limits_change_no_voxel(store):
    limited = open_store(store.path, num_threads=1)
    np.testing.assert_array_equal(limited.read("large"), STUDIES["large"].arrays["0"])
    with pytest.raises(CtloadError, match="num_threads"):
        open_store(store.path, num_threads=0)


def test_a_pickled_store_opens_itself_again(store):
    again = pickle.loads(pickle.dumps(store))
    assert again.uuid == store.uuid
    np.testing.assert_array_equal(again.read("plain"), STUDIES["plain"].arrays["0"])


def test_zarr_python_alone_reads_volumes_labels_and_geometry(store):
    group = zarr.open_group(str(store.path / layout.study_folder("mr/with labels")), mode="r")
    prepared = STUDIES["mr/with labels"]
    np.testing.assert_array_equal(zarr_array(group, "0"), prepared.arrays["0"])
    np.testing.assert_array_equal(zarr_array(group, "labels/liver/0"), prepared.labels["liver"])
    np.testing.assert_array_equal(zarr_array(group, "labels/a%20b%2Fc/0"), prepared.labels["a b/c"])
    block = group.attrs["ctload"]
    np.testing.assert_array_equal(block["affine"], OBLIQUE)
    np.testing.assert_array_equal(block["source_affine"], np.eye(4))
    assert {name: block[name] for name in ("unit", "scale", "offset", "orientation", "study", "preset")} == {
        "unit": "arbitrary", "scale": 0.5, "offset": -3.0, "orientation": "RAS+", "study": "mr/with labels",
        "preset": store.preset["hash"],
    }  # fmt: skip


def zarr_array(group: zarr.Group, name: str) -> np.ndarray:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


def test_groups_are_ome_zarr_0_5_with_one_image_per_channel(store):
    ome = json.loads((store.path / layout.study_folder("two channels") / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    assert [image["datasets"][0]["path"] for image in ome["multiscales"]] == ["0", "1"]
    scale, translation = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    np.testing.assert_allclose(scale["scale"], np.linalg.norm(OBLIQUE[:3, :3], axis=0))
    assert translation == {"type": "translation", "translation": [700.0, 20.5, -50.0]}
    assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == ["z", "y", "x"]


@pytest.mark.parametrize(("profile", "compressor", "level"), [("fast", "lz4", 5), ("archive", "zstd", 3)])
def test_codecs_on_disk_are_the_ones_of_the_profile(tmp_path, profile, compressor, level):
    store = write_store(tmp_path / "store", {"a": make_prepared(labels=("liver",))}, profile=profile)
    folder = store.path / layout.study_folder("a")
    for name, itemsize in (("0", 2), ("labels/liver/0", 1)):
        described = json.loads((folder / name / "zarr.json").read_text())
        assert described["chunk_grid"]["configuration"]["chunk_shape"] == [20, 24, 28]
        (sharding,) = described["codecs"]
        assert sharding["name"] == "sharding_indexed"
        assert sharding["configuration"]["chunk_shape"] == [10, 24, 28]
        assert sharding["configuration"]["index_location"] == "end"
        blosc = {"cname": compressor, "clevel": level, "shuffle": "shuffle", "typesize": itemsize, "blocksize": 0}
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        assert sharding["configuration"]["index_codecs"] == [little, {"name": "crc32c"}]
        first, second, third = sharding["configuration"]["codecs"]
        assert first["name"] == "bytes"
        assert second == {"name": "blosc", "configuration": blosc}
        assert third == {"name": "crc32c"}


def test_chunks_of_nothing_but_fill_value_are_stored_all_the_same(tmp_path):
    # Else a chunk that is gone could not be told from an empty one.
    empty = make_prepared(shape=(40, 24, 28))
    empty.arrays["0"][:20] = -1024
    store = write_store(tmp_path / "store", {"a": empty})
    np.testing.assert_array_equal(store.read("a"), empty.arrays["0"])


def test_one_shard_and_one_metadata_file_per_array(store):
    folder = store.path / layout.study_folder("large")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["0/c/0/0/0", "0/zarr.json", "zarr.json"]


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreFormatError, match="no ctload store"):
        open_store(tmp_path)
    with pytest.raises(StoreFormatError, match="no ctload store"):
        open_store(tmp_path / "nothing")


def test_a_newer_format_version_is_refused_with_the_way_out(tmp_path):
    write_store(tmp_path / "store", {"a": make_prepared()})
    header = tmp_path / "store" / layout.HEADER
    fields = json.loads(header.read_text())
    header.write_text(json.dumps({**fields, "format_version": layout.FORMAT_VERSION + 1}))
    with pytest.raises(StoreFormatError, match="update ctload"):
        open_store(tmp_path / "store")


def in_forked_child(work) -> str:
    """Name of the error that `work` raises in a forked child; "" when it raises none."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(write_end, b"nothing")
        except BaseException as error:
            os.write(write_end, type(error).__name__.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        name = answer.read()
    os.waitpid(child, 0)
    return name


# Python 3.12 and later warn of any fork of a process with threads: that is the situation under test.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("action", ["read", "open"])
def test_a_fork_after_open_is_a_typed_error_and_no_hang(store: Store, action: str):
    path: Path = store.path
    work = (lambda: store.read("plain")) if action == "read" else (lambda: open_store(path))
    assert in_forked_child(work) == ForkAfterOpenError.__name__
    np.testing.assert_array_equal(store.read("plain"), STUDIES["plain"].arrays["0"])  # the parent reads on


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_loader_goes_on_in_the_parent_and_is_a_typed_error_in_a_forked_child_old_or_new(tmp_path):
    studies = synthetic_store(tmp_path / "store", 4, (4, 8, 8)).studies
    with Loader(studies, sampler=SequentialSampler(1)) as loader:
        iterator = iter(loader)
        next(iterator)
        assert in_forked_child(lambda: next(iterator)) == ForkAfterOpenError.__name__

        def begin() -> None:
            list(Loader(studies, sampler=SequentialSampler(1)))

        assert in_forked_child(begin) == ForkAfterOpenError.__name__
        assert len(list(iterator)) == 3
