"""Checkpoints: whole or not there, held against their digests, never a pickle."""

import json
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctclip.errors import CheckpointError
from ctclip.presets import PRESETS
from ctclip.training.checkpoint import latest_checkpoint, load_last_weights, load_model, load_optimizer, read_checkpoint
from ctclip.training.checkpoint_writer import CheckpointWriter, take_snapshot, write_snapshot
from ctclip.training.optim import make_optimizer

CONFIG = replace(PRESETS["tiny"], keep_checkpoints=2)


def small_model(seed: int = 0, width: int = 6) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Conv3d(2, width, 3), torch.nn.BatchNorm3d(width), torch.nn.Flatten())
    return model.to(memory_format=torch.channels_last_3d)


def do_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.rand(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def snapshot(step: int, model, optimizer, average=None):
    return take_snapshot(
        step=step,
        model=model,
        optimizer=optimizer,
        average=average,
        config=CONFIG,
        num_channels=2,
        environment={"threads": 1},
        loader_state={"epoch": 3, "fingerprints": {"crop": "x"}},
    )


def save(run: Path, step: int, model, optimizer, average=None) -> Path:
    (run / "text").mkdir(parents=True, exist_ok=True)
    (run / "text" / "config.json").write_text("{}")
    return write_snapshot(run, snapshot(step, model, optimizer, average))


@pytest.fixture
def saved(tmp_path):
    model = small_model()
    optimizer = make_optimizer(model, CONFIG.optim)
    do_step(model, optimizer)
    return save(tmp_path / "run", 5, model, optimizer), model, optimizer


def test_what_was_saved_is_read_back_to_the_bit(saved):
    path, model, optimizer = saved
    checkpoint = read_checkpoint(path)
    assert (checkpoint.step, checkpoint.num_channels, checkpoint.config) == (5, 2, CONFIG)
    assert checkpoint.loader_state == {"epoch": 3, "fingerprints": {"crop": "x"}}
    assert (checkpoint.text_folder / "config.json").read_text() == "{}"
    other = small_model(seed=1)
    moments = make_optimizer(other, CONFIG.optim)
    load_model(checkpoint, other)
    load_optimizer(checkpoint, moments)
    for _ in range(3):
        do_step(model, optimizer)
        do_step(other, moments)
    state = other.state_dict()
    assert [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])] == []
    first = next(iter(optimizer.param_groups[0]["params"]))
    again = next(iter(moments.param_groups[0]["params"]))
    assert moments.state[again]["exp_avg"].stride() == optimizer.state[first]["exp_avg"].stride()


def test_a_runs_folder_stands_for_its_newest_checkpoint(saved):
    path, model, optimizer = saved
    run = path.parent.parent
    newer = save(run, 12, model, optimizer)
    assert latest_checkpoint(run) == newer
    assert read_checkpoint(run).step == 12


def test_the_oldest_are_dropped_and_what_a_kill_left_is_swept(saved):
    path, model, optimizer = saved
    run = path.parent.parent
    left = path.parent / ".step-00000006.abc.tmp"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    save(run, 6, model, optimizer)
    save(run, 7, model, optimizer)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["step-00000006", "step-00000007"]


def test_a_half_written_checkpoint_is_never_the_newest(saved):
    path, *_ = saved
    shutil.copytree(path, path.parent / ".step-00000009.abc.tmp")
    assert latest_checkpoint(path.parent.parent) == path


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "checkpoint.json", "text/config.json"])
def test_one_flipped_bit_in_any_file_is_found(saved, name):
    path, *_ = saved
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="Remove this step's folder") as caught:
        read_checkpoint(path)
    assert caught.value.path == str(path / name)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "checkpoint.json"])
def test_a_truncated_or_missing_file_is_found(saved, name):
    path, *_ = saved
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "checkpoint.json"])
def test_a_pickle_is_never_opened(saved, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path, *_ = saved
    bomb = pickle.dumps(Bomb())
    if name == "model.pt":
        (tmp_path / name).write_bytes(bomb)
        with pytest.raises(CheckpointError, match="never read"):
            read_checkpoint(tmp_path / name)
    else:
        (path / name).write_bytes(bomb)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    assert not Path("exploded").exists()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)


def test_a_newer_format_and_another_json_are_refused(saved):
    path, *_ = saved
    body = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(body | {"version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        read_checkpoint(path)
    (path / "checkpoint.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is no ctclip-checkpoint"):
        read_checkpoint(path)


def test_weights_of_another_architecture_are_refused(saved):
    path, *_ = saved
    checkpoint = read_checkpoint(path)
    wider = small_model(width=7)
    with pytest.raises(CheckpointError, match="another architecture"):
        load_model(checkpoint, wider)
    with pytest.raises(CheckpointError):
        load_optimizer(checkpoint, make_optimizer(wider, CONFIG.optim))
    with pytest.raises(CheckpointError, match="another model"):
        load_optimizer(checkpoint, make_optimizer(torch.nn.Linear(2, 2, bias=False), CONFIG.optim))


def test_an_average_is_evaluated_and_training_goes_on_from_the_last_weights(tmp_path):
    model = small_model()
    optimizer = make_optimizer(model, CONFIG.optim)
    do_step(model, optimizer)
    average = {name: value + 1 for name, value in model.state_dict().items() if value.is_floating_point()}
    checkpoint = read_checkpoint(save(tmp_path / "run", 5, model, optimizer, average))
    assert checkpoint.has_average
    evaluated, trained = small_model(seed=1), small_model(seed=2)
    load_model(checkpoint, evaluated)
    load_last_weights(checkpoint, trained)
    for name, value in model.state_dict().items():
        assert torch.equal(trained.state_dict()[name], value)
        assert torch.equal(evaluated.state_dict()[name], average.get(name, value))


def test_later_steps_do_not_reach_into_a_snapshot(tmp_path):
    model = small_model()
    optimizer = make_optimizer(model, CONFIG.optim)
    do_step(model, optimizer)
    wanted = {name: value.clone() for name, value in model.state_dict().items()}
    taken = snapshot(1, model, optimizer)
    do_step(model, optimizer)
    (tmp_path / "run" / "text").mkdir(parents=True)
    loaded = small_model(seed=1)
    load_last_weights(read_checkpoint(write_snapshot(tmp_path / "run", taken)), loaded)
    assert [name for name, value in loaded.state_dict().items() if not torch.equal(value, wanted[name])] == []


def test_never_two_are_written_at_once_and_the_last_one_is_waited_for(tmp_path, monkeypatch):
    running, most = [], []

    def slow(run, taken):
        running.append(taken.step)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(taken.step)
        return run / str(taken.step)

    monkeypatch.setattr("ctclip.training.checkpoint_writer.write_snapshot", slow)
    model = small_model()
    optimizer = make_optimizer(model, CONFIG.optim)
    writer = CheckpointWriter(tmp_path)
    assert writer.wait() is None
    for step in (1, 2, 3):
        writer.save(snapshot(step, model, optimizer))
    assert writer.wait() == tmp_path / "3"
    assert most == [1, 1, 1]


def test_an_error_of_the_writing_thread_reaches_the_training_loop_once(tmp_path):
    (tmp_path / "run" / "text").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints").write_text("in the way")
    model = small_model()
    writer = CheckpointWriter(tmp_path / "run")
    writer.save(snapshot(1, model, make_optimizer(model, CONFIG.optim)))
    with pytest.raises(CheckpointError, match="cannot be written"):
        writer.wait()
    writer.check()
    assert writer.wait() is None
