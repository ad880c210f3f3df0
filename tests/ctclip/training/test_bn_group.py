"""At equal bn_group the number of ranks changes nothing but rounding: gradients, running statistics, a whole run."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.text import write_text_folder
from ctclip.training.distributed import World, open_world
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, write_learnable
from tests.ctclip.ranks import model_gradients, run_ranks, save_training_gradients, train_on


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    _, cohort = write_learnable(folder, 24)
    return folder, cohort


def test_two_ranks_have_the_gradients_and_statistics_of_one_process(tmp_path):
    config = learnable_config(tmp_path)
    write_text_folder(tmp_path / "text", config.model.text, ["liver normal mass cyst stone large dark dense small"])
    dropping = replace(config.model, text=replace(config.model.text, dropout=0.3))
    settings = [
        {"bn_group": 4},  # one group on each rank
        {"bn_group": 2, "model": dropping},  # two on each
        {"bn_group": 4, "micro_batch": 4, "model": dropping},
        {"bn_group": 2, "micro_batch": 2},  # the gradient cache on each rank
        {"bn_group": 8},  # one group over both ranks
    ]
    run_ranks(save_training_gradients, 2, (str(tmp_path), settings))
    for number, changes in enumerate(settings):
        with open_world("cpu") as world:
            wanted = model_gradients(world, str(tmp_path), is_training=True, **changes)
        for rank in range(2):
            found = torch.load(tmp_path / f"training-2-{rank}-{number}.pt", weights_only=True)
            assert sorted(found) == sorted(wanted)
            for name, value in found.items():
                torch.testing.assert_close(
                    value, wanted[name], rtol=1e-3, atol=3e-6, msg=lambda m, n=name, c=changes: f"{c} {n}: {m}"
                )


def test_a_run_goes_on_with_another_number_of_ranks(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "elastic"), steps=4, bn_group=4, ema_decay=0.5)
    train(config, cohort=cohort, stop_at=2, is_quiet=True)
    run_ranks(train_on, 2, (config, cohort, 3))
    result = train(config, cohort=cohort, is_quiet=True)
    assert result.steps == 4
    whole = train(replace(config, out=str(tmp_path / "whole")), cohort=cohort, is_quiet=True)
    for file in ("model.safetensors", "average.safetensors"):
        ours, theirs = load_file(result.checkpoint / file), load_file(whole.checkpoint / file)
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-2, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_without_bn_group_another_number_of_ranks_is_refused(made, tmp_path):
    folder, cohort = made
    config = learnable_config(folder, out=str(tmp_path / "run"), steps=3)
    train(config, cohort=cohort, stop_at=1, is_quiet=True)
    with pytest.raises(CheckpointError, match="bn_group: 8 in the checkpoint, now 4"):
        train(replace(config, micro_batch=4), cohort=cohort, is_quiet=True)


def test_groups_over_ranks_are_not_compiled(made, tmp_path, monkeypatch):
    folder, cohort = made
    monkeypatch.setattr("ctclip.training.loop.open_world", lambda device: _two_ranks())
    config = learnable_config(folder, out=str(tmp_path / "run"), bn_group=8, compile="on")
    with pytest.raises(ConfigError, match="is not compiled; pass --compile off, or bn_group=4"):
        train(config, cohort=cohort, is_quiet=True)


def _two_ranks():
    return nullcontext(World(0, 2, torch.device("cpu")))
