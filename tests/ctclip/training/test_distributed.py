"""Several gloo ranks against one process: the same draws, the same loss, the same gradients.

Batch norm in training mode is left out of the comparison of gradients by evaluation mode: each rank has statistics
of its own studies, so that 2 ranks of 4 train another network than one process of 8. A checkpoint therefore records
the studies per rank, and a resume with another number is refused.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ctclip.config import DataConfig
from ctclip.data import open_loader, open_training_data
from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.text import write_text_folder
from ctclip.objectives.clip import clip_loss
from ctclip.training.distributed import World, open_world
from ctclip.training.loop import train
from ctload.planning.augment import Augment
from tests.ctclip.learnable import learnable_config, write_learnable
from tests.ctclip.ranks import model_gradients, run_ranks, save_feature_gradients, train_and_save, whole_features


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    _, cohort = write_learnable(folder, 24)
    return folder, cohort


def test_four_ranks_have_the_loss_and_the_gradients_of_one_process(tmp_path):
    run_ranks(save_feature_gradients, 4, str(tmp_path))
    image, text, scale = (part.requires_grad_() for part in whole_features()[:3])
    loss = clip_loss(whole_features()._replace(image=image, text=text, logit_scale=scale))
    d_image, d_text, d_scale = torch.autograd.grad(loss, (image, text, scale))
    ranks = [torch.load(tmp_path / f"features-{rank}.pt", weights_only=True) for rank in range(4)]
    for saved in ranks:
        torch.testing.assert_close(saved["loss"], loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(saved["scale"], d_scale, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cat([saved["image"] for saved in ranks]), d_image, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(torch.cat([saved["text"] for saved in ranks]), d_text, rtol=1e-12, atol=1e-15)


def test_two_ranks_train_as_one_process_draws_and_resume_exactly(made, tmp_path, monkeypatch):
    folder, cohort = made
    monkeypatch.chdir(tmp_path)
    config = learnable_config(folder, out=str(tmp_path / "whole"), steps=5)
    write_text_folder(tmp_path / "text", config.model.text, ["liver normal mass cyst stone large dark dense small"])
    parts = [(str(tmp_path / "parts"), 2), (str(tmp_path / "parts"), None)]
    run_ranks(train_and_save, 2, (config, cohort, parts, str(tmp_path)))

    whole, resumed = (load_file(tmp_path / run / "checkpoints/step-00000005/model.safetensors") for run in
                      ("whole", "parts"))  # fmt: skip
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []

    ranks = [torch.load(tmp_path / f"drawn-2-{rank}.pt", weights_only=True) for rank in range(2)]
    single = replace(config, out=str(tmp_path / "single"))
    train_and_save((single, cohort, [], str(tmp_path)))
    alone = torch.load(tmp_path / "drawn-1-0.pt", weights_only=True)
    assert [(first[0], *first[1:], *second[1:]) for first, second in zip(*ranks, strict=True)] == alone

    with open_world("cpu") as world:
        wanted = model_gradients(world, str(tmp_path))
    for rank in range(2):
        gradients = torch.load(tmp_path / f"model-2-{rank}.pt", weights_only=True)
        assert sorted(gradients) == sorted(wanted)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted[name], rtol=2e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")

    with pytest.raises(CheckpointError, match="bn_group: 4 in the checkpoint, now 8"):
        train(replace(config, steps=5), cohort=cohort, is_quiet=True)


@pytest.mark.parametrize("sampler", ["shuffle", "stratified"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_what_is_drawn_does_not_depend_on_the_world_size(made, world_size, sampler):
    folder, cohort = made
    data = DataConfig(
        batch_size=8,
        crop=(6, 12, 12),
        crop_at="random",
        sections=("liver", "spleen"),
        schedule="sections" if sampler == "stratified" else "alternate",
        sampler=sampler,
        augment=Augment(flip=(0.0, 0.5, 0.5), translate_voxels=(1.0, 1.0, 1.0)),
        pipeline="reference",
    )
    config = learnable_config(folder, data=data)
    training = open_training_data(config, cohort)

    def plans(rank: int, size: int):
        with open_loader(config, training, World(rank, size, torch.device("cpu"))) as loader:
            return [loader.plan(epoch, step) for epoch in range(2) for step in range(loader.num_batches)]

    whole = plans(0, 1)
    parts = [plans(rank, world_size) for rank in range(world_size)]
    for number, plan in enumerate(whole):
        for field in ("rows", "box_start", "flip", "warp"):
            joined = [getattr(part[number], field) for part in parts]
            assert torch.equal(torch.cat([torch.from_numpy(x) for x in joined]), torch.from_numpy(getattr(plan, field)))
        assert {part[number].unit for part in parts} == {plan.unit}


def test_cuda_without_a_device_is_refused():
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    with pytest.raises(ConfigError, match="finds no CUDA device"), open_world("cuda"):
        pass
