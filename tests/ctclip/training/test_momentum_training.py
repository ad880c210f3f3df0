"""Training with MoCoCLIP: queue and copies resume to the bit, ranks do not matter, and refusals name the way out."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from ctclip.config import TrainConfig
from ctclip.embed import embed_split
from ctclip.errors import CheckpointError, ConfigError
from ctclip.objectives.parameters import MococlipParameters, MomentumParameters
from ctclip.presets import PRESETS
from ctclip.training.checkpoint import read_checkpoint
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, metrics, write_learnable
from tests.ctclip.ranks import next_group, one_thread, run_ranks

Mode = Literal["itc", "moco", "moco+itc", "cross_modal"]
IMAGE = MomentumParameters(momentum=0.5, queue=12, dim=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("momentum")
    _, cohort = write_learnable(folder, 24, num_test=4)
    return folder, cohort


def mococlip(folder: Path, out: Path, *, mode: Mode = "moco+itc", image=IMAGE, **changes) -> TrainConfig:
    config = learnable_config(folder, out=str(out), objective=("mococlip",), bn_group=4, **changes)
    augment = replace(PRESETS["mococlip"].data.augment, blur_probability=0.0)
    parameters = MococlipParameters(mode=mode, image=image)
    return replace(config, mococlip=parameters, data=replace(config.data, augment=augment), steps=40)


def saved(config: TrainConfig, name: str) -> dict[str, torch.Tensor]:
    return load_file(read_checkpoint(config.out).path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("mode", "image"),
    [("moco+itc", IMAGE), ("moco", replace(IMAGE, share_projection=True)), ("cross_modal", IMAGE)],
)
def test_a_run_in_two_parts_ends_with_the_bits_of_one_queue_and_copies_included(made, tmp_path, mode, image):
    folder, cohort = made
    whole = mococlip(folder, tmp_path / "whole", mode=mode, image=image)
    parts = replace(whole, out=str(tmp_path / "parts"))
    train(whole, cohort=cohort, stop_at=5, is_quiet=True)
    train(parts, cohort=cohort, stop_at=2, is_quiet=True)
    train(parts, cohort=cohort, stop_at=5, is_quiet=True)
    for name in ("model", "momentum"):
        first, second = saved(whole, name), saved(parts, name)
        assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_the_queue_fills_the_copies_follow_and_neither_is_evaluated(made, tmp_path):
    folder, cohort = made
    config = mococlip(folder, tmp_path / "run")
    train(config, cohort=cohort, stop_at=4, is_quiet=True)
    branch, model = saved(config, "momentum"), saved(config, "model")
    assert branch["image_queue.filled"].item() == 12
    assert torch.allclose(branch["image_queue.key"].norm(dim=1), torch.ones(12))
    stem = "i3_resnet.conv1.weight"
    ours, theirs = branch[f"image.{stem}"], model[f"encode_image.{stem}"]
    assert not torch.equal(ours, theirs)
    assert (ours - theirs).abs().max() < 0.1
    lines = metrics(config)
    assert [line["mococlip/num_negatives"] for line in lines] == [8, 12]
    assert all(line["mococlip/moco"] > 0 and line["mococlip/itc"] > 0 for line in lines)
    assert not any(name.startswith("momentum") for name in model)
    assert embed_split(config.out, cohort=cohort, store=folder / "store", split="test").image.shape == (4, 8)


def test_forward_passes_of_two_studies_train_as_one_of_four(made, tmp_path):
    folder, cohort = made
    one = mococlip(folder, tmp_path / "one", micro_batch=4)
    two = replace(one, out=str(tmp_path / "two"), micro_batch=8)
    train(one, cohort=cohort, stop_at=3, is_quiet=True)
    train(two, cohort=cohort, stop_at=3, is_quiet=True)
    first, second = saved(one, "momentum"), saved(two, "momentum")
    for name in ("image_queue.key", "image_queue.study", "head.0.weight"):
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def _train_to_four(argument: tuple) -> None:
    config, cohort = argument
    next_group()
    train(config, cohort=cohort, stop_at=4, is_quiet=True)


def test_two_ranks_go_on_as_one_process_would_and_hand_back_the_same_queue(made, tmp_path):
    folder, cohort = made
    whole = mococlip(folder, tmp_path / "whole")
    moved = replace(whole, out=str(tmp_path / "moved"))
    with one_thread():
        train(whole, cohort=cohort, stop_at=5, is_quiet=True)
        train(moved, cohort=cohort, stop_at=2, is_quiet=True)
        run_ranks(_train_to_four, 2, (moved, cohort))
        train(moved, cohort=cohort, stop_at=5, is_quiet=True)
    first, second = saved(whole, "momentum"), saved(moved, "momentum")
    for name in ("image_queue.study", "image_queue.filled"):
        assert torch.equal(first[name], second[name])
    for name in ("image_queue.key", "head.0.weight", "image.i3_resnet.conv1.weight"):
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-4)
    for line, other in zip(metrics(whole), metrics(moved), strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)


def test_what_cannot_work_is_refused_with_the_way_out(made, tmp_path):
    folder, cohort = made
    large = mococlip(folder, tmp_path / "a", image=replace(IMAGE, queue=25))
    with pytest.raises(ConfigError, match=r"image.queue=25 is above the 24 training studies.* take at most 24"):
        train(large, cohort=cohort, is_quiet=True)
    double = replace(mococlip(folder, tmp_path / "b"), objective=("clip", "mococlip"))
    with pytest.raises(ConfigError, match="take mococlip mode='moco'"):
        train(double, cohort=cohort, is_quiet=True)
    begun = mococlip(folder, tmp_path / "c")
    train(begun, cohort=cohort, stop_at=2, is_quiet=True)
    (read_checkpoint(begun.out).path / "momentum.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        train(begun, cohort=cohort, is_quiet=True)
