"""Benchmarks of chunks, the ring, ranks and a resume do what they say, at tiny sizes."""

import csv

import numpy as np
import pytest

import ctload
from benchmarks import chunks, ranks, resume, ring, rows
from benchmarks.by_hand import read_by_hand
from ctload.testing import synthetic_store, synthetic_volume

SHAPE = (96, 98, 300)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def _read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return synthetic_store(tmp_path_factory.mktemp("ring") / "store.zarr", 2, SHAPE)


@pytest.mark.parametrize("is_whole", [True, False])
def test_the_floor_by_hand_reads_the_same_voxels(store, is_whole):
    (shard, _), buffer = ring.shards_in(store.path), bytearray(8 << 20)
    for start, stop in (((0, 0, 0), SHAPE), ((3, 60, 100), (70, 66, 290))):
        box = ctload.Box(start, stop)
        out = np.zeros(box.shape, np.int16)
        read_by_hand(shard, box, out, buffer, is_whole=is_whole)
        np.testing.assert_array_equal(out, store.read(store.studies.ids[0], box))


def test_chunks_are_swept_for_whole_volumes_crops_and_parts_of_a_shard(tmp_path, results):
    volume = synthetic_volume(SHAPE, 0)
    chunks.sweep("small", [volume], ((32, 64, 64), (16, 98, 300)), tmp_path / "arrays", 1)
    found = _read(results / "chunks.csv")
    works = {f"small, {work}" for work in [*chunks.WORKS, "shard against parts"]}
    assert {row["work"] for row in found} == works
    assert sum(row["metric"] == "time" for row in found) == 3 + 3 + 3 + 4
    assert all(float(row["p50"]) > 0 for row in found)


def test_the_ring_is_held_against_its_floor_and_crops_against_others(store, tmp_path):
    found = ring.whole_rows(store.path, 1)
    assert sum(row.metric == "rate" for row in found) == 4
    assert sum(row.metric == "ratio" for row in found) == 3
    crops = ring.crop_rows(store.path, tmp_path, 1)
    assert crops[0].provider == "ctload"
    assert crops[0].p50 > 0


def test_a_process_resumes_in_a_store_of_many_rows(tmp_path):
    path = resume.large_store(tmp_path / "many.zarr", 20_000)
    assert len(ctload.open_store(path)) == 20_000
    open_s, first_s = resume.measure(path, "shuffled twin", 1, 700)
    assert open_s > 0
    assert first_s > 0


def test_ranks_of_one_world_share_a_store(tmp_path):
    path = synthetic_store(tmp_path / "ranks.zarr", 3, (8, 24, 24)).path
    rate, waits_ms = ranks.measure(path, 2, 3)
    assert rate > 0
    assert len(waits_ms) == 2
    assert min(waits_ms) > 0


def test_rows_of_ranks_hold_the_aggregate_and_each_wait(results, monkeypatch):
    monkeypatch.setattr(ranks, "measure", lambda store, world, number: (100.0 * world, [2.0] * world))
    ranks.run_worlds(results, (1, 2), 2 * ranks.BATCH, 3)
    found = {(row["provider"], row["metric"]): row for row in _read(results / "loading.csv")}
    assert found["ctload ranks=2", "aggregate rate"]["p50"] == "200"
    assert found["ctload ranks=2", "wait of a rank"]["n"] == "6"
    assert found["ctload ranks=2 / ranks=1", "ratio"]["p50"] == "2"
