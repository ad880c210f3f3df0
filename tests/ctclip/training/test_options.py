"""Options of the training loop: skipped steps, averages, forward passes, signals, profiles; each resumes exactly."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ctclip.training.session
from ctclip.embed import embed_split
from ctclip.errors import CheckpointError, ConfigError, DivergedError
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.training import shape_fitting
from ctclip.training.checkpoint import read_checkpoint
from ctclip.training.loop import train
from ctclip.training.loss_watch import SkippedStepWarning
from ctclip.training.runlog import read_metrics
from tests.ctclip.learnable import learnable_config, write_learnable


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnable")
    _, cohort = write_learnable(folder, 24, num_test=8)
    return folder, cohort


def run(made, tmp_path: Path, *, stop_at: int | None = None, name: str = "run", **changes):
    folder, cohort = made
    config = learnable_config(folder, **{"out": str(tmp_path / name), **changes})
    return train(config, cohort=cohort, stop_at=stop_at, is_quiet=True)


def assert_same_files(left: Path, right: Path) -> None:
    names = sorted(path.name for path in left.glob("*.safetensors"))
    assert names == sorted(path.name for path in right.glob("*.safetensors"))
    for name in names:
        ours, theirs = load_file(left / name), load_file(right / name)
        assert sorted(ours) == sorted(theirs)
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


@pytest.fixture
def broken_steps(monkeypatch):
    """Steps (from 0) whose volumes hold a NaN."""
    broken: set[int] = set()
    make, calls = ctclip.training.session.to_train_batch, []

    def spoiled(batch, *args):
        ready = make(batch, *args)
        if broken and len(calls) in broken:
            ready.volume[0, 0, 0, 0, 0] = torch.nan
        calls.append(None)
        return ready

    monkeypatch.setattr(ctclip.training.session, "to_train_batch", spoiled)
    return broken


def test_skipped_steps_are_warned_of_counted_and_named(made, tmp_path, broken_steps):
    broken_steps |= {1, 4}
    with pytest.warns(SkippedStepWarning) as caught:
        result = run(made, tmp_path, steps=7, on_nonfinite="skip", log_every=1)
    assert ["step 2 has loss nan" in str(caught[0].message), "step 5 has loss nan" in str(caught[1].message)] == [
        True
    ] * 2
    lines = [json.loads(line) for line in (result.run / "skipped.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 5]
    assert all(len(set(line["study"])) == 8 for line in lines)
    metrics = read_metrics(result.run)
    assert [line.get("num_skipped", 0) for line in metrics] == [0, 1, 1, 1, 2, 2, 2]
    assert ["loss" in line for line in metrics] == [True, False, True, True, False, True, True]
    assert read_checkpoint(result.run).num_skipped == 2
    assert all(tensor.isfinite().all() for tensor in load_file(result.checkpoint / "model.safetensors").values())


def test_a_stop_at_such_a_step_names_the_studies_and_leaves_the_checkpoints_before(made, tmp_path, broken_steps):
    broken_steps |= {3}
    with pytest.raises(DivergedError, match=r"step 4 has loss nan.*made-up-0") as caught:
        run(made, tmp_path, steps=7, checkpoint_every=1)
    assert "on_nonfinite=skip" in str(caught.value)
    assert read_checkpoint(tmp_path / "run").step == 3
    assert json.loads((tmp_path / "run" / "skipped.jsonl").read_text())["step"] == 4


def test_skipping_ends_when_nothing_else_happens(made, tmp_path, broken_steps):
    broken_steps |= set(range(2, 20))
    with pytest.warns(SkippedStepWarning), pytest.raises(DivergedError, match="10 steps in a row"):
        run(made, tmp_path, steps=20, on_nonfinite="skip")


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9},
        {"micro_batch": 4, "ema_decay": 0.9},
        {"micro_batch": 4, "bn_group": 2},
        {"micro_batch": "auto", "bn_group": 4},
        {"precision": "bfloat16"},
    ],
)
def test_every_option_resumes_to_the_bit(made, tmp_path, changes):
    whole = run(made, tmp_path, name="whole", **changes)
    run(made, tmp_path, stop_at=3, **changes)
    resumed = run(made, tmp_path, **changes)
    assert_same_files(resumed.checkpoint, whole.checkpoint)


def test_the_average_is_what_gets_embedded(made, tmp_path):
    folder, cohort = made
    plain = run(made, tmp_path, name="plain")
    averaged = run(made, tmp_path, name="averaged", ema_decay=0.9)
    ours, theirs = (load_file(path.checkpoint / "model.safetensors") for path in (plain, averaged))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # keeping an average changes no step
    embedded = [
        embed_split(path, cohort=cohort, store=folder / "store", split="test", pipeline="reference", is_quiet=True)
        for path in (plain.run, averaged.run)
    ]
    assert abs(embedded[0].image - embedded[1].image).max() > 1e-3


def test_the_average_follows_its_formula(made, tmp_path):
    result = run(made, tmp_path, steps=4, checkpoint_every=1, keep_checkpoints=9, ema_decay=0.3)
    folders = sorted((result.run / "checkpoints").iterdir())
    name = "encode_text.linear_layer.weight"
    weights = [load_file(folder / "model.safetensors")[name].double() for folder in folders]
    averages = [load_file(folder / "average.safetensors")[name].double() for folder in folders]
    for step in (1, 2, 3):
        decay = min(0.3, (1 + step) / (10 + step))
        wanted = decay * averages[step - 1] + (1 - decay) * weights[step]
        torch.testing.assert_close(averages[step], wanted, rtol=1e-6, atol=1e-7)


def test_auto_is_found_on_a_cpu_said_and_kept_on_resume(made, tmp_path, monkeypatch, capsys):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"), micro_batch="auto")
    kept = []
    fit = shape_fitting.fit_micro_batch

    def small_machine(model, candidates, **shapes):
        monkeypatch.setattr("ctclip.training.fitting.largest_within", lambda sizes, **_: kept.append(sizes) or 4)
        return fit(model, candidates, **shapes)

    monkeypatch.setattr(shape_fitting, "fit_micro_batch", small_machine)
    train(config, cohort=cohort, stop_at=2)
    assert kept == [(8, 4, 2, 1)]
    assert "4 in a forward pass (gradient cache), batch norm over 4" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "run").environment["micro_batch"] == 4
    train(config, cohort=cohort, stop_at=3, is_quiet=True)
    assert len(kept) == 1


def test_another_group_of_batch_norm_is_refused_on_resume_and_another_forward_pass_is_not(made, tmp_path, capsys):
    folder, cohort = made
    run(made, tmp_path, stop_at=2, bn_group=4)
    with pytest.raises(CheckpointError, match="bn_group: 4 in the checkpoint, now 2"):
        run(made, tmp_path, bn_group=2)
    config = learnable_config(folder, out=str(tmp_path / "run"), bn_group=4, micro_batch=4)
    train(config, cohort=cohort)
    assert "but for rounding: micro_batch: 8 in the checkpoint, now 4" in capsys.readouterr().out
    whole = run(made, tmp_path, name="whole", bn_group=4)
    folders = (read_checkpoint(tmp_path / "run").path, whole.checkpoint)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"micro_batch": 3}, r"micro_batch \(3\) must divide the studies of a rank \(8\)"),
        ({"bn_group": 5}, r"bn_group \(5\) must divide"),
        ({"activation_budget": 0.5}, "needs torch.compile"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(made, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run(made, tmp_path, **changes)
    assert not (tmp_path / "run").exists()


def test_sigusr1_saves_a_checkpoint_and_the_run_goes_on(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"), steps=5000, log_every=1)
    metrics, checkpoints = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "checkpoints"
    steps_after = []

    def save_and_then_stop() -> None:
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not list(checkpoints.glob("step-*")):
            time.sleep(0.01)
        steps_after.append(len(metrics.read_text().splitlines()))
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=save_and_then_stop, daemon=True)
    sender.start()
    result = train(config, cohort=cohort, is_quiet=True)
    sender.join()
    first, *_ = sorted(int(path.name.split("-")[1]) for path in checkpoints.glob("step-*"))
    assert result.was_stopped
    assert 2 <= first <= result.steps
    assert len(list(checkpoints.glob("step-*"))) == 2 or first == result.steps


def test_a_profile_and_rates_against_the_ceiling_are_written(made, tmp_path):
    result = run(made, tmp_path, steps=9, profile_steps=2)
    trace = json.loads((result.run / "profile" / "trace.json").read_text())
    assert any("convolution" in str(event.get("name")) for event in trace["traceEvents"])
    assert "Self CPU" in (result.run / "profile" / "table.txt").read_text()
    last = read_metrics(result.run)[-1]
    (machine,) = json.loads((result.run / "machine.json").read_text())
    assert machine["ceiling_tflops"] > 0
    assert last["ceiling_share"] == pytest.approx(last["tflops_per_s"] / machine["ceiling_tflops"], rel=1e-6)
    assert 0 < last["ceiling_share"] < 1


def test_an_optional_profile_changes_no_step(made, tmp_path):
    plain = run(made, tmp_path, name="plain")
    profiled = run(made, tmp_path, name="profiled", profile_steps=1)
    assert_same_files(plain.checkpoint, profiled.checkpoint)


def test_a_first_step_that_is_skipped_resumes_too(made, tmp_path, broken_steps):
    broken_steps |= {0}
    with pytest.warns(SkippedStepWarning):
        run(made, tmp_path, stop_at=1, on_nonfinite="skip")
    broken_steps.clear()
    resumed = run(made, tmp_path, on_nonfinite="skip")
    assert (resumed.steps, resumed.was_stopped) == (6, False)


@pytest.mark.parametrize(("precision", "wanted"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_towers_compute_in_the_precision_asked_for(made, tmp_path, monkeypatch, precision, wanted):
    found = set()
    project = InflatedResNet.project

    def watched(self, pooled):
        features = project(self, pooled)
        found.add(features.dtype)
        return features

    monkeypatch.setattr(InflatedResNet, "project", watched)
    result = run(made, tmp_path, steps=1, precision=precision)
    assert wanted in found
    assert torch.bfloat16 not in found - {wanted}  # counting operations passes without autocast
    weights = load_file(result.checkpoint / "model.safetensors").values()
    assert {value.dtype for value in weights} <= {torch.float32, torch.int64}
