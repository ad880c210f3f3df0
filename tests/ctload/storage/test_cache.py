"""A cache of decoded chunks changes no voxel, hides no change of a file, and stays within its memory."""

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ctload.errors import ChecksumError, CtloadError, MissingChunkError
from ctload.geometry import Box
from ctload.storage import layout
from ctload.storage.read_probe import ReadProbe
from ctload.storage.store import Store, open_store
from ctload.testing import synthetic_store
from tests.ctload.prepared import make_prepared, write_store

PLENTY = 2**28


def _shard(store: Store, study: str):
    return store.path / layout.study_folder(study) / layout.shard_file("0")


@pytest.fixture
def store(tmp_path) -> Store:
    """Two studies of one value each: their shards are of one size and end alike."""
    constant = {}
    for study, value in (("a", 5), ("b", 6)):
        prepared = make_prepared(shape=(40, 70, 70))
        constant[study] = dataclasses.replace(prepared, arrays={"0": np.full((40, 70, 70), value, np.int16)})
    return open_store(write_store(tmp_path / "store", constant).path, cache_bytes=PLENTY)


@pytest.mark.parametrize("cache_bytes", [PLENTY, 1000])
def test_a_cache_changes_no_voxel(tmp_path, cache_bytes):
    prepared = make_prepared(1, shape=(70, 130, 66), num_channels=2, labels=("organs",))
    plain = write_store(tmp_path / "store", {"a": prepared})
    cached = open_store(plain.path, cache_bytes=cache_bytes)
    rng = np.random.default_rng(0)
    for _ in range(40):
        z, y, x = (int(rng.integers(-10, size)) for size in (70, 130, 66))
        box = Box((z, y, x), (z + 20, y + 33, x + 40))
        for array in ("0", "1", "labels/organs"):
            np.testing.assert_array_equal(cached.read("a", box, array=array), plain.read("a", box, array=array))


def test_a_second_read_comes_from_memory(store, monkeypatch):
    assert (store.read("a") == 5).all()
    shard = _shard(store, "a")
    before = shard.stat()
    damaged = bytearray(shard.read_bytes())
    damaged[3] ^= 1
    # Its times are set back, so that no file system tells of the change: only what was decoded before can be right.
    with shard.open("r+b") as file:
        file.write(damaged)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (store.read("a") == 5).all()
    with pytest.raises(ChecksumError):
        open_store(store.path).read("a")


def test_a_shard_exchanged_for_one_of_the_same_size_and_end_is_decoded_anew(store):
    assert (store.read("a") == 5).all()
    assert (store.read("b") == 6).all()
    old, new = _shard(store, "a"), _shard(store, "b")
    assert old.stat().st_size == new.stat().st_size
    assert old.read_bytes()[-24:] == new.read_bytes()[-24:]
    shutil.copyfile(new, old.with_name("new"))
    old.with_name("new").rename(old)
    assert (store.read("a") == 6).all()  # as a store without a cache reads it; `ctload verify` tells


def test_damage_and_loss_show_although_the_chunks_are_in_memory(store):
    store.read("a")
    store.read("b")
    shard = _shard(store, "a")
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ChecksumError, match="a"):
        store.read("a")
    _shard(store, "b").unlink()
    with pytest.raises(MissingChunkError, match="b"):
        store.read("b")


def test_a_pickled_store_has_a_cache_of_the_same_size(store):
    assert pickle.loads(pickle.dumps(store)).__reduce__() == store.__reduce__()


def test_a_negative_cache_is_refused(store):
    with pytest.raises(CtloadError, match="cache_bytes"):
        open_store(store.path, cache_bytes=-1)


def test_a_probe_of_a_cached_read_finds_less_to_decode(tmp_path):
    plain = synthetic_store(tmp_path / "store", 1, (96, 192, 192))
    cached = open_store(plain.path, cache_bytes=PLENTY)
    box, out, probe = Box((0, 0, 0), (96, 192, 192)), np.empty((96, 192, 192), np.int16), ReadProbe()
    cached.read("synthetic-0000", box)
    least = [min(store.probe_read(probe, 0, box, out).decode_s for _ in range(9)) for store in (cached, plain)]
    assert least[0] < least[1] / 2


MEMORY = """
import sys
from benchmarks.usage import memory_mib
from ctload.storage.store import open_store
store = open_store(sys.argv[1], num_threads=1, cache_bytes=16 * 2**20)
for study in store.studies.ids:
    store.read(study)
before = memory_mib()
for _ in range(15):
    for study in store.studies.ids:
        store.read(study)
print(memory_mib() - before)
"""


def test_memory_stays_within_the_cache(tmp_path):
    store = synthetic_store(tmp_path / "store", 24, (64, 128, 128))  # 48 MiB of voxels for a cache of 16
    command = [sys.executable, "-c", MEMORY, str(store.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 16  # 720 MiB were read
