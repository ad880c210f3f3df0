"""A step as a CUDA graph would hold it: nothing of it is read on the host, and what the host decides comes before."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LongformerConfig

from ctclip.config import OptimConfig, TrainConfig
from ctclip.data import TrainBatch
from ctclip.models.dual import DualEncoder
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.longformer import Longformer
from ctclip.models.text import TextEncoder, Tokens
from ctclip.training.distributed import World
from ctclip.training.step import TrainingStep
from tests.ctclip.learnable import learnable_config

ALONE = World(0, 1, torch.device("cpu"))


class HostReadError(Exception):
    """A value of a tensor went to the host."""


class NothingRead(TorchDispatchMode):
    """Refuses what waits for the device: values as numbers, and shapes that depend on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            raise HostReadError(str(func))
        return func(*args, **(kwargs or {}))


LONGFORMER = {"vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LONGFORMER |= {"intermediate_size": 16, "attention_window": 8, "max_position_embeddings": 66, "pad_token_id": 1}


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    made = learnable_config(tmp_path, bn_group=0)
    return replace(made, optim=OptimConfig(learning_rate=0.01, warmup_steps=3), steps=8)


def step_of(config: TrainConfig, **options) -> TrainingStep:
    """With the text tower of the preset merlin, small, whose dropout is 0.1. (transformers' BERT, not compiled, looks
    at its mask on the host.)"""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = InflatedResNet(config.model.image, num_channels=1, embedding_dim=8)
        text = TextEncoder(Longformer(LongformerConfig(**LONGFORMER)), embedding_dim=8, pooling="first")
    return TrainingStep(DualEncoder(image, text, logit_scale=2.0).train(), config, ALONE, **options)


def batch_of(config: TrainConfig) -> TrainBatch:
    rng, size = torch.Generator().manual_seed(0), config.data.batch_size
    ids = torch.randint(0, 9, (size, 12), generator=rng)
    volume = torch.rand(size, 1, 8, 16, 16, generator=rng)
    return TrainBatch(volume, Tokens(ids, torch.ones_like(ids)), "report", tuple(map(str, range(size))))


@pytest.mark.parametrize("changes", [{}, {"micro_batch": 4}, {"ema_decay": 0.9}])
def test_a_step_reads_no_value_on_the_host(config, changes):
    config = replace(config, **changes)
    step, batch = step_of(config), batch_of(config)
    step.run(0, batch)
    with NothingRead():
        loss, norm = step.run(1, batch)
        with pytest.raises(HostReadError):
            loss.item()
    assert loss.isfinite()
    assert norm.isfinite()


def test_begun_on_the_host_and_advanced_on_the_device_a_step_is_that_of_training(config):
    """As a graph does it: the same `advance` again and again on one batch, whose contents change."""
    whole = step_of(config)
    parts = step_of(config, is_capturable=True)
    batch = batch_of(config)
    held = replace(batch, volume=torch.empty_like(batch.volume))
    rates = []
    for number in range(5):
        volume = batch.volume.roll(number, dims=0)
        loss, norm = whole.run(number, replace(batch, volume=volume))
        parts.begin(number)
        held.volume.copy_(volume)
        again, same = parts.advance(held)
        rates.append(float(parts.optimizer.param_groups[0]["lr"]))
        torch.testing.assert_close(again, loss, rtol=1e-4, atol=0)  # of all weights that the steps before made
        torch.testing.assert_close(same, norm, rtol=1e-3, atol=0)
    assert rates == pytest.approx([group["lr"] for group in _rates(whole)])
    assert len({round(rate, 6) for rate in rates}) > 3  # the rate, a tensor, is filled anew


def _rates(step: TrainingStep):
    for number in range(5):
        step.begin(number)
        yield dict(step.optimizer.param_groups[0])


def test_one_group_is_seeded_before_it_and_several_within(config):
    """Seeding within would end a capture; several groups need it."""
    batch, seen = batch_of(config), []
    for changes, wanted in (({}, 0), ({"micro_batch": 4}, 4)):
        changed = replace(config, **changes)
        step = step_of(changed)
        step.begin(0)
        seeds = itertools.count()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "manual_seed", lambda seed, seeds=seeds: next(seeds))
            step.advance(batch)
        seen.append(next(seeds) == wanted)
    assert seen == [True, True]
