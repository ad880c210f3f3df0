"""The doctor runs one batch through every stage, leaves nothing behind, and refuses what training would refuse."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import ctclip.cli
from ctclip.config import DataConfig
from ctclip.config_json import to_json
from ctclip.errors import CheckpointError, CohortError, ConfigError
from ctclip.training.doctor import examine, format_diagnosis, format_duration
from ctclip.training.hardware import cuda_mismatches
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, write_learnable

STAGES = (
    "machine", "run folder", "store, cohort", "batch", "model", "tokens", "fit", "first step", "forward", "step",
    "memory", "snapshot", "checkpoint",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    _, cohort = write_learnable(folder, 24)
    return folder, cohort


def test_every_stage_is_timed_and_nothing_is_left_behind(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "runs" / "first"), steps=1000, micro_batch="auto")
    found = examine(config, cohort=cohort)
    assert tuple(stage.name for stage in found.stages) == STAGES
    assert all(stage.seconds >= 0 for stage in found.stages)
    slower = max(found.seconds("batch"), found.seconds("step") + found.seconds("tokens"))
    assert found.eta_s == pytest.approx(1000 * (slower + found.seconds("snapshot") / 200))
    shown = format_diagnosis(found)
    assert "24 training studies" in shown
    assert "GiB free on disk" in shown or "free on disk" in shown
    assert "batch norm over 8" in shown
    assert "the whole run: about" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_begun_is_left_alone_and_only_the_rest_counts(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"), steps=10)
    train(config, cohort=cohort, stop_at=4, is_quiet=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    found = examine(config, cohort=cohort)
    assert "goes on from step 4" in format_diagnosis(found)
    slower = max(found.seconds("batch"), found.seconds("step") + found.seconds("tokens"))
    assert found.eta_s == pytest.approx(6 * (slower + found.seconds("snapshot") / 200))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"micro_batch": 3}, ConfigError, "micro_batch"),
        ({"activation_budget": 0.5}, ConfigError, "needs torch.compile"),
        ({"store": ""}, ConfigError, "no store was given"),
        ({"data": DataConfig(batch_size=8, channels=("1",), pipeline="reference")}, Exception, "1"),
        ({"data": DataConfig(batch_size=24, sections=("liver",), pipeline="reference")}, ConfigError, "needs 2"),
    ],
)
def test_what_training_would_refuse_is_refused(made, tmp_path, changes, error, words):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"), **changes)
    with pytest.raises(error, match=words):
        examine(config, cohort=cohort)
    assert list(tmp_path.iterdir()) == []


def test_studies_missing_in_the_store_are_named(made, tmp_path):
    folder, _ = made
    _, larger = write_learnable(tmp_path / "larger", 32)
    with pytest.raises(CohortError, match="8 of 32 studies are not in the store"):
        examine(learnable_config(folder, out=str(tmp_path / "run")), cohort=larger)


def test_a_checkpoint_of_another_architecture_is_refused(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"))
    train(config, cohort=cohort, stop_at=1, is_quiet=True)
    with pytest.raises(CheckpointError, match="another architecture"):
        examine(replace(config, model=replace(config.model, embedding_dim=16)), cohort=cohort)


def test_a_disk_without_room_for_the_checkpoints_is_refused(made, tmp_path, monkeypatch):
    folder, cohort = made
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ConfigError, match="lower keep_checkpoints"):
        examine(learnable_config(folder, out=str(tmp_path / "run")), cohort=cohort)


def test_memory_that_runs_out_is_a_typed_error(made, tmp_path, monkeypatch):
    folder, cohort = made

    def full(*_):
        raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")

    monkeypatch.setattr("ctclip.training.step.TrainingStep.run", full)
    with pytest.raises(ConfigError, match="micro_batch=auto"):
        examine(learnable_config(folder, out=str(tmp_path / "run")), cohort=cohort)


@pytest.mark.parametrize(
    ("cuda", "dali", "words"),
    [
        ("13.0", ["nvidia-dali-cuda130"], None),
        ("12.8", ["nvidia-dali-cuda120"], None),
        ("12.8", ["nvidia-dali-cuda130"], "pip install nvidia-dali-cuda120 in its place"),
        ("13.0", [], "pip install nvidia-dali-cuda130"),
    ],
)
def test_dali_and_torch_of_different_cuda_are_noticed(cuda, dali, words):
    found = cuda_mismatches(cuda, dali)
    assert (found == []) if words is None else words in found[0]


def test_durations_are_in_the_unit_that_suits_them():
    assert [format_duration(s) for s in (3, 90, 7200, 2e5)] == ["3.0 seconds", "1.5 minutes", "2.0 hours", "2.3 days"]


def test_a_configuration_file_with_an_unknown_key_is_refused_in_one_line(made, tmp_path, capsys):
    folder, _ = made
    path = tmp_path / "config.json"
    values = json.loads(to_json(learnable_config(folder)))
    path.write_text(json.dumps(values | {"stepz": 3}))
    for words in (["doctor", str(path)], ["train", "--config", str(path)]):
        assert ctclip.cli.main(words) == 2
        error = capsys.readouterr().err
        assert "unknown key 'stepz'" in error
        assert str(path) in error


def test_a_runs_own_configuration_file_is_taken_and_overridden(made, tmp_path, capsys):
    folder, _ = made
    path = tmp_path / "config.json"
    path.write_text(to_json(learnable_config(folder, out=str(tmp_path / "run"))))
    assert ctclip.cli.main(["doctor", str(path), "--data.batch-size", "8", "--micro-batch", "3"]) == 2
    assert "micro_batch (3) must divide the studies of a rank (8)" in capsys.readouterr().err
    assert ctclip.cli.main(["doctor", "--config", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err
