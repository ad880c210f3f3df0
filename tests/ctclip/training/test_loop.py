"""The training loop: it learns, and a run that was stopped ends with the bits of one that never was."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ctclip.config import DataConfig
from ctclip.errors import CheckpointError, CohortError, ConfigError, DivergedError
from ctclip.training.loop import train
from ctclip.training.runlog import read_metrics
from ctload.errors import ResumeMismatchError
from ctload.planning.augment import Augment
from tests.ctclip.learnable import learnable_config, write_learnable

NUM_STUDIES = 24  # at batch 8, an epoch of 3 steps


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnable")
    store, cohort = write_learnable(folder, NUM_STUDIES)
    del store
    return folder, cohort


def run(made, tmp_path: Path, *, stop_at: int | None = None, name: str = "run", **changes):
    folder, cohort = made
    config = learnable_config(folder, **{"out": str(tmp_path / name), **changes})
    return train(config, cohort=cohort, stop_at=stop_at, is_quiet=True)


def weights(result) -> dict[str, torch.Tensor]:
    return load_file(result.checkpoint / "model.safetensors")


def assert_same_files(left: Path, right: Path) -> None:
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = load_file(left / name), load_file(right / name)
        assert sorted(ours) == sorted(theirs)
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_the_loss_falls_on_what_can_be_learned(made, tmp_path):
    folder, _ = made
    config = learnable_config(folder)
    data, optim = replace(config.data, schedule="full"), replace(config.optim, learning_rate=3e-3)
    result = run(made, tmp_path, steps=120, log_every=20, data=data, optim=optim)
    lines = read_metrics(result.run)
    # ln 8 = 2.08 is chance. Equal reports cannot be told apart: three studies of each of 8 kinds, so 0 is out of reach.
    assert lines[0]["loss"] > 1.9
    assert lines[-1]["loss"] < 1.4
    assert lines[-1]["logit_scale"] > lines[0]["logit_scale"]


@pytest.mark.parametrize("stop", [1, 3, 4, 6])  # 3 and 6 are an epoch's edge
def test_a_resumed_run_ends_with_the_same_bits_as_one_that_never_stopped(made, tmp_path, stop):
    whole = run(made, tmp_path, steps=7, name="whole")
    stopped = run(made, tmp_path, steps=7, stop_at=stop)
    assert (stopped.steps, stopped.was_stopped) == (stop, True)
    resumed = run(made, tmp_path, steps=7)
    assert (resumed.steps, resumed.was_stopped) == (7, False)
    assert_same_files(resumed.checkpoint, whole.checkpoint)
    wanted = [(line["step"], line["loss"]) for line in read_metrics(whole.run)]
    assert [(line["step"], line["loss"]) for line in read_metrics(resumed.run)][-1] == wanted[-1]


def test_dropout_and_augmentation_resume_exactly_too(made, tmp_path):
    folder, _ = made
    config = learnable_config(folder)
    model = replace(config.model, text=replace(config.model.text, dropout=0.3))
    data = replace(config.data, augment=Augment(translate_voxels=(1.0, 2.0, 2.0), noise_sigma=(0.0, 0.1)))
    whole = run(made, tmp_path, name="whole", model=model, data=data)
    run(made, tmp_path, stop_at=2, model=model, data=data)
    resumed = run(made, tmp_path, model=model, data=data)
    assert_same_files(resumed.checkpoint, whole.checkpoint)
    other = run(made, tmp_path, name="other", model=model, data=data, seed=1)
    assert not torch.equal(weights(other)["logit_scale"], weights(whole)["logit_scale"])


def test_a_run_through_dali_resumes_exactly(made, tmp_path):
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI (pip install 'ctload[dali]')")
    folder, _ = made
    data = replace(learnable_config(folder).data, pipeline="dali", augment=Augment(translate_voxels=(1.0, 2.0, 2.0)))
    whole = run(made, tmp_path, name="whole", steps=5, data=data)
    run(made, tmp_path, stop_at=3, steps=5, data=data)
    resumed = run(made, tmp_path, steps=5, data=data)
    assert_same_files(resumed.checkpoint, whole.checkpoint)
    reference = replace(data, pipeline="reference")
    with pytest.raises(CheckpointError, match="pipeline: 'dali' in the checkpoint, now 'reference'"):
        run(made, tmp_path, steps=5, data=reference)


def test_resuming_from_an_older_checkpoint_takes_back_the_metrics_after_it(made, tmp_path):
    whole = run(made, tmp_path, steps=6, checkpoint_every=2, log_every=1, keep_checkpoints=3)
    for step in (4, 6):
        newest = whole.run / "checkpoints" / f"step-{step:08d}"
        newest.rename(tmp_path / newest.name)
    with (whole.run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # as a kill would leave it
    again = run(made, tmp_path, steps=6, checkpoint_every=2, log_every=1, keep_checkpoints=3)
    assert [line["step"] for line in read_metrics(again.run)] == [1, 2, 3, 4, 5, 6]
    assert_same_files(again.checkpoint, tmp_path / "step-00000006")


def test_only_the_newest_checkpoints_are_kept(made, tmp_path):
    result = run(made, tmp_path, steps=5, checkpoint_every=1, keep_checkpoints=2)
    assert sorted(path.name for path in (result.run / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]


def test_sigterm_ends_the_run_with_a_checkpoint_and_the_next_call_goes_on(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"), steps=5000, log_every=1)
    metrics = tmp_path / "run" / "metrics.jsonl"

    def stop_after_two_steps() -> None:
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=stop_after_two_steps, daemon=True)
    sender.start()
    result = train(config, cohort=cohort, is_quiet=True)
    sender.join()
    assert result.was_stopped
    assert 2 <= result.steps < 5000
    assert result.checkpoint.name == f"step-{result.steps:08d}"
    resumed = train(config, cohort=cohort, stop_at=result.steps + 1, is_quiet=True)
    assert resumed.steps == result.steps + 1


def test_a_finished_run_is_left_as_it_is(made, tmp_path):
    first = run(made, tmp_path)
    before = (first.checkpoint / "checkpoint.json").stat().st_mtime_ns
    again = run(made, tmp_path)
    assert again.checkpoint == first.checkpoint
    assert (first.checkpoint / "checkpoint.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threads": 2}, "threads: 1 in the checkpoint, now 2"),
        ({"compile": "on"}, "compile: False in the checkpoint, now True"),
        ({"steps": 8}, "steps: 6 in the checkpoint, now 8"),
        ({"seed": 3}, "seed: 0 in the checkpoint, now 3"),
    ],
)
def test_settings_that_change_the_bits_are_refused_on_resume(made, tmp_path, changes, words):
    run(made, tmp_path, stop_at=2)
    with pytest.raises(CheckpointError, match=words) as caught:
        run(made, tmp_path, **changes)
    assert "--allow-inexact-resume" in str(caught.value)


def test_an_inexact_resume_is_allowed_by_name_and_says_so(made, tmp_path):
    run(made, tmp_path, stop_at=2)
    with pytest.warns(UserWarning, match="the bits would differ"):
        result = run(made, tmp_path, steps=8, threads=2, allow_inexact_resume=True)
    assert result.steps == 8


def test_another_architecture_is_refused_even_then(made, tmp_path):
    folder, _ = made
    run(made, tmp_path, stop_at=2)
    model = replace(learnable_config(folder).model, embedding_dim=16)
    with pytest.raises(CheckpointError, match="embedding_dim: 8 in the checkpoint, now 16"):
        run(made, tmp_path, model=model, allow_inexact_resume=True)


def test_an_edited_report_is_noticed_on_resume(made, tmp_path):
    folder, cohort = made
    run(made, tmp_path, stop_at=2)
    reports = cohort.reports
    reports[3] += " Spleen: Small."
    table = cohort.table.set_column(cohort.table.column_names.index("report"), "report", [reports])
    with pytest.raises(ResumeMismatchError, match="studies is not what it was"):
        train(learnable_config(folder, out=str(tmp_path / "run")), cohort=replace(cohort, table=table), is_quiet=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_studies(made, tmp_path):
    folder, _ = made
    optim = replace(learnable_config(folder).optim, learning_rate=1e30, clip_norm=1e30, warmup_steps=1)
    with pytest.raises(DivergedError, match="made-up-0") as caught:
        run(made, tmp_path, optim=optim, checkpoint_every=1)
    assert "learning_rate" in str(caught.value)
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("step-*"):
        moments = load_file(checkpoint / "optimizer.safetensors")
        assert all(bool(tensor.isfinite().all()) for tensor in moments.values())


def test_what_is_printed_counts_the_studies_and_names_what_is_left_out(made, tmp_path, capsys):
    folder, cohort = made
    data = replace(learnable_config(folder).data, sections=("liver", "bowel"))
    config = learnable_config(folder, out=str(tmp_path / "run"), steps=2, data=data)
    text = replace(config.model.text, max_length=9)
    train(replace(config, model=replace(config.model, text=text)), cohort=cohort)
    printed = capsys.readouterr().out
    assert "24 training studies" in printed
    assert "section bowel is left out" in printed
    assert "synthetic" in printed
    assert "24 of 24 reports have more than 9 tokens and are cut" in printed


def test_stratified_batches_train_and_hold_their_quota(made, tmp_path):
    folder, cohort = made
    data = DataConfig(
        batch_size=8,
        sections=("liver", "spleen", "kidneys"),
        sampler="stratified",
        schedule="sections",
        quotas={"normal": 25, "abnormal": 75},
        pipeline="reference",
    )
    seen = []

    def watch(step, unit, study, *_):
        present = dict(zip(cohort.studies, cohort.labels().tolist(), strict=True))
        column = cohort.findings.index(unit)
        seen.append(sum(present[name][column] for name in study))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctclip.training.loss_watch.LossWatch.add", lambda self, *args: watch(*args))
        patch.setattr("ctclip.training.loss_watch.LossWatch.take", lambda self: {"loss": 0.0})
        train(learnable_config(folder, out=str(tmp_path / "run"), data=data), cohort=cohort, is_quiet=True)
    assert seen == [6] * 6


def test_the_run_folder_says_what_was_run_and_where(made, tmp_path):
    result = run(made, tmp_path)
    config = json.loads((result.run / "config.json").read_text())
    assert config["data"]["batch_size"] == 8
    (machine,) = json.loads((result.run / "machine.json").read_text())
    assert machine["threads"] == 1
    assert machine["packages"]["torch"] == torch.__version__
    assert list((result.run / "tensorboard").iterdir())


def test_a_folder_in_use_for_something_else_is_refused(made, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="in use for something else"):
        run(made, tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_studies_missing_in_the_store_are_refused_or_left_out_by_name(made, tmp_path):
    folder, cohort = made
    stranger = cohort.take(np.arange(8)).table.to_pylist()
    for row in stranger:
        row["study"] = row["patient"] = row["study"].replace("made-up", "other")
    table = type(cohort.table).from_pylist(cohort.table.to_pylist() + stranger, schema=cohort.table.schema)
    both = replace(cohort, table=table)
    config = learnable_config(folder, out=str(tmp_path / "run"), steps=1)
    with pytest.raises(CohortError, match="8 of 32 studies are not in the store"):
        train(config, cohort=both, is_quiet=True)
    config = replace(config, data=replace(config.data, unpacked="leave_out"))
    with pytest.warns(UserWarning, match="8 of 32 studies"):
        train(config, cohort=both, is_quiet=True)
