"""A read by steps finds the same bytes and voxels as the read itself, and its parts are divided without a rest."""

import numpy as np
import pytest

import ctload
from ctload.errors import ChecksumError, MissingChunkError
from ctload.loading.reading import is_probed
from ctload.loading.stats import divide_wait
from ctload.storage.read_probe import ReadCost, ReadProbe
from ctload.storage.shard_index import ranges_of, read_index
from ctload.testing import synthetic_store

SHAPE = (70, 130, 300)  # chunks of 24x44x60 voxels, those at the end cut off


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ctload.Store:
    return synthetic_store(tmp_path_factory.mktemp("probe") / "store.zarr", 1, SHAPE)


def _shard(store: ctload.Store):
    return next(store.path.rglob("0/c/0/0/0"))


@pytest.mark.parametrize(
    ("start", "stop"), [((0, 0, 0), SHAPE), ((3, 60, 100), (60, 70, 140)), ((-5, -4, 280), (80, 50, 310))]
)
def test_the_ranges_of_a_box_are_the_bytes_that_its_voxels_need(store, tmp_path, start, stop):
    box = ctload.Box(start, stop)
    expected = store.read("synthetic-0000", box)
    shard = _shard(store)
    content = bytearray(shard.read_bytes())
    with shard.open("rb") as file:
        index = read_index(file, (3, 3, 5))
    kept = np.zeros(len(content), bool)
    for offset, size in ranges_of(index, (24, 44, 60), box):
        kept[offset : offset + size] = True
    kept[-(16 * 45 + 4) :] = True  # the index
    assert kept.sum() < len(content) or box.shape == SHAPE
    damaged = np.frombuffer(bytes(content), np.uint8).copy()
    damaged[~kept] ^= 255
    shard.write_bytes(damaged.tobytes())
    try:
        np.testing.assert_array_equal(ctload.open_store(store.path).read("synthetic-0000", box), expected)
    finally:
        shard.write_bytes(bytes(content))


def test_a_probe_reads_the_box_and_its_parts_are_positive(store):
    box = ctload.Box((10, 20, 30), (50, 90, 140))
    out = np.zeros(box.shape, np.int16)
    probe = ReadProbe()
    cost = sum((store.probe_read(probe, 0, box, out) for _ in range(3)), ReadCost())
    np.testing.assert_array_equal(out, store.read("synthetic-0000", box))
    assert cost.file_s > 0
    assert cost.decode_s > 0
    assert cost.copy_s > 0
    assert cost.seconds >= cost.file_s + cost.decode_s + cost.copy_s


def test_a_box_outside_the_volume_needs_no_bytes(store):
    with _shard(store).open("rb") as file:
        index = read_index(file, (3, 3, 5))
    assert ranges_of(index, (24, 44, 60), ctload.Box((-40, 0, 0), (-10, 20, 20))) == []
    assert ranges_of(index, (24, 44, 60), ctload.Box((0, 0, 400), (10, 20, 420))) == []


def test_a_probe_of_damage_raises_what_the_read_raises(tmp_path):
    store = synthetic_store(tmp_path / "store.zarr", 1, (20, 40, 40))
    box, out = ctload.Box((0, 0, 0), (20, 40, 40)), np.zeros((20, 40, 40), np.int16)
    shard = _shard(store)
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ChecksumError):
        store.probe_read(ReadProbe(), 0, box, out)
    shard.unlink()
    with pytest.raises(MissingChunkError):
        store.probe_read(ReadProbe(), 0, box, out)


def test_waiting_is_divided_as_the_probed_reads_were():
    divided = divide_wait(8.0, ReadCost(file_s=1.0, decode_s=2.0, copy_s=1.0))
    assert (divided.read_s, divided.decode_s, divided.copy_s) == (2.0, 4.0, 2.0)
    assert divide_wait(8.0, ReadCost()).read_s == 8.0


def test_probes_become_rare():
    probed = [number for number in range(600) if is_probed(number)]
    assert probed == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512]
