"""`ctload plan` and `ctload bench`: what would be read, counted by hand, and where the time of batches goes."""

import re

import numpy as np
import pytest

import ctload
from ctload.cli import main
from ctload.planning.drawing import draw_plan
from ctload.planning.touched import chunk_of, touched_by
from ctload.testing import synthetic_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ctload.Store:
    columns = {"abnormal": [0, 0, 1, 1, 1], "split": ["train", "train", "train", "train", "test"]}
    shapes = [(70, 260, 130)] * 4 + [(20, 40, 50)]
    return synthetic_store(tmp_path_factory.mktemp("plans") / "five.zarr", 5, shapes, columns=columns)


def test_touched_counts_the_chunks_that_hold_a_voxel_of_the_box(store):
    crop = ctload.RandomCrop((30, 60, 60), pad=True)
    bound = ctload.ShuffleSampler(5, seed=2).bind(store.studies)
    plan = draw_plan(bound, store.studies, crop, [ctload.HuWindow(-1000, 1000)], epoch=0, step=0)
    touched = touched_by(store.studies, plan)
    for at, row in enumerate(plan.rows):
        shape = store.studies.shapes[row]
        chunk = chunk_of(store.path / store.studies.table["path"][int(row)].as_py())
        inside = np.zeros(shape, bool)
        start = plan.box_start[at]
        low, high = np.maximum(start, 0), np.minimum(start + crop.shape, shape)
        inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        grid = -(-shape // np.array(chunk))
        padded = np.pad(inside, [(0, n * c - s) for n, c, s in zip(grid, chunk, shape, strict=True)])
        split = padded.reshape(grid[0], chunk[0], grid[1], chunk[1], grid[2], chunk[2])
        assert touched.num_chunks[at] == split.any(axis=(1, 3, 5)).sum()
        assert touched.num_all[at] == grid.prod()
        assert touched.box_bytes[at] == 2 * inside.sum()
        assert touched.decoded_bytes[at] == touched.num_chunks[at] * 2 * np.prod(chunk)
    assert (touched.disk_bytes <= store.studies.column("stored_bytes")[plan.rows]).all()


def test_plan_prints_the_studies_and_boxes_that_a_loader_reads(store, capsys):
    words = ["--where", "split=train", "--crop", "8,16,16", "--batch-size", "2", "--seed", "7"]
    assert main(["plan", str(store.path), *words, "--epochs", "2"]) == 0
    told = capsys.readouterr().out
    sampler = ctload.ShuffleSampler(2, seed=7)
    with ctload.Loader(store.where(split="train"), sampler=sampler, crop=ctload.RandomCrop((8, 16, 16))) as loader:
        drawn = [loader.plan(epoch, step) for epoch in range(2) for step in range(2)]
    boxes = re.findall(r"z (\d+):\d+ y (\d+):\d+ x (\d+):", told)
    assert np.array(boxes, int).tolist() == np.concatenate([plan.box_start for plan in drawn]).tolist()
    assert "4 studies, 2 batches of 2 in an epoch" in told
    assert "epoch 1: 4 draws of 4 studies" in told


def test_plan_holds_quotas_and_reads_no_voxel(store, capsys, monkeypatch):
    monkeypatch.setattr(ctload.Store, "start_read", None)
    monkeypatch.setattr(ctload.Store, "read", None)
    words = ["--where", "split=train", "--by", "abnormal", "--quotas", "normal=1,abnormal=1", "--batch-size", "2"]
    assert main(["plan", str(store.path), *words, "--short", "--steps", "1"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n") == 4
    assert "epoch 0: 2 draws of 2 studies" in told


@pytest.mark.parametrize("pipeline", ["numba", "reference"])
def test_bench_says_how_fast_and_where_the_time_went(store, capsys, pipeline):
    words = ["--crop", "8x16x16", "--batch-size", "2", "--batches", "5", "--pipeline", pipeline, "--flip"]
    assert main(["bench", str(store.path), *words, "--threads", "1", "--cache-gib", "0.1"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert re.match(r"[\d.]+ studies/s: 10 in [\d.]+ s, [\d.]+ ms of CPU each", told[0])
    names = [line.split()[0] for line in told[1:-1]]
    assert {"draw", "probe", "read", "decode", "copy", "pipeline", "full"} < set(names)
    assert names[-1] == "wait"
    assert "probed" in told[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--crop", "8,16"], "D,H,W"),
        (["--where", "split"], "COLUMN=VALUE"),
        (["--where", "abnormal=many"], "holds numbers"),
        (["--where", "scanner=A"], "no column 'scanner'"),
        (["--by", "abnormal"], "go together"),
        (["--by", "abnormal", "--quotas", "0:1"], "V=N"),
        (["--crop", "80,16,16"], "larger than the volume"),
        ([], "WholeVolume needs studies of one shape"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "bench"])
def test_wrong_words_are_named(store, capsys, verb, words, message):
    assert main([verb, str(store.path), *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
