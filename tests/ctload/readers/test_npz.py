"""RAD-ChestCT volumes: .npz with one array, in the release's geometry; nothing else passes for one."""

import zipfile

import numpy as np
import pytest

from ctload.errors import IngestError
from ctload.geometry import canonical_axes
from ctload.packing.packer import pack
from ctload.readers import find_sources, read_source
from ctload.storage.store import open_store


def voxels_of(shape=(4, 5, 6)):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 1000


def save(path, array=None, **arrays):
    np.savez_compressed(path, **({"ct": voxels_of() if array is None else array} | arrays))
    return path


def test_a_volume_lies_as_the_release_says(tmp_path):
    volume = read_source(save(tmp_path / "trn00001.npz"))
    assert (volume.unit, volume.voxels.dtype) == ("HU", np.int16)
    np.testing.assert_array_equal(volume.voxels, voxels_of())
    assert canonical_axes(volume.affine) == ((0, 1, 2), (True, True, True))  # inferior, posterior, left
    corner = volume.affine @ [3, 4, 5, 1]  # the last voxel is inferior, posterior, left
    np.testing.assert_allclose(corner[:3], 0, atol=1e-12)
    np.testing.assert_allclose((volume.affine @ [0, 0, 0, 1])[:3], [5 * 0.8, 4 * 0.8, 3 * 0.8])


@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_other_whole_numbers_are_read_too(tmp_path, dtype):
    array = np.full((3, 3, 3), -100, dtype)
    np.testing.assert_array_equal(read_source(save(tmp_path / "a.npz", array)).voxels, array)


def test_a_folder_of_volumes_is_packed_under_their_names(tmp_path):
    (tmp_path / "volumes").mkdir()
    for name in ("trn00001", "val00002"):
        save(tmp_path / "volumes" / f"{name}.npz")
    assert [source.study for source in find_sources(tmp_path / "volumes")] == ["trn00001", "val00002"]
    report = pack([tmp_path / "volumes"], tmp_path / "store", preset="native")
    assert sorted(report.packed) == ["trn00001", "val00002"]
    store = open_store(tmp_path / "store")
    np.testing.assert_array_equal(store.read("trn00001"), voxels_of()[::-1, ::-1, ::-1])
    np.testing.assert_allclose(store.studies.spacings_mm, 0.8)


def write_bad(path, kind):
    if kind == "a pickle":
        save(path, np.array([{"a": 1}], dtype=object))
    elif kind == "another array":
        np.savez(path, volume=voxels_of())
    elif kind == "one axis":
        save(path, np.zeros(4, np.int16))
    elif kind == "floats":
        save(path, np.zeros((3, 3, 3), np.float32))
    elif kind == "a thin volume":
        save(path, np.zeros((1, 3, 3), np.int16))
    elif kind == "no archive":
        path.write_bytes(b"no archive at all")
    elif kind == "cut":
        save(path)
        path.write_bytes(path.read_bytes()[:60])
    elif kind == "a flipped bit":
        np.savez(path, ct=voxels_of((20, 20, 20)))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    elif kind == "another npy version":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ct.npy", b"\x93NUMPY\x09\x00rest")
    return path


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("a pickle", "NOT_A_VOLUME", "three axes of signed integers"),
        ("another array", "NOT_A_VOLUME", "volume.npy"),
        ("one axis", "NOT_A_VOLUME", r"shape \(4,\)"),
        ("floats", "NOT_A_VOLUME", "float32"),
        ("a thin volume", "TOO_FEW_SLICES", r"\(1, 3, 3\)"),
        ("no archive", "UNDECODABLE", "not a zip"),
        ("cut", "UNDECODABLE", "fetch the file again"),
        ("a flipped bit", "UNDECODABLE", "CRC"),
        ("another npy version", "UNDECODABLE", r"version \(9, 0\)"),
    ],
)
def test_what_is_no_volume_of_the_release_is_refused_by_code(tmp_path, kind, code, words):
    path = write_bad(tmp_path / "bad.npz", kind)
    with pytest.raises(IngestError, match=words) as caught:
        read_source(path)
    assert caught.value.code == code
    assert caught.value.path == str(path)


def test_another_unit_and_too_large_a_volume_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", np.zeros((50, 50, 50), np.int16))
    with pytest.raises(IngestError, match="in HU, not in 'SUV'"):
        read_source(path, unit="SUV")
    with pytest.raises(IngestError, match="raise max_bytes"):
        read_source(path, max_bytes=1000)
