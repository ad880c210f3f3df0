"""Momentum copies follow their source by the published rule and are never trained."""

import pytest
import torch
from torch import nn

from ctclip.config import OptimConfig
from ctclip.training.momentum import momentum_copy, momentum_warning, update_momentum
from ctclip.training.optim import make_optimizer


def made() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_three_steps_have_the_published_value():
    source, target = nn.Linear(1, 1).double(), nn.Linear(1, 1).double()
    nn.init.constant_(source.weight, 3.0)
    nn.init.constant_(target.weight, 1.0)
    for _ in range(3):
        update_momentum(target, source, momentum=0.999)
    assert target.weight.item() == pytest.approx(1.005994002, abs=1e-12)


def test_batch_statistics_follow_and_counts_are_copied():
    source = made().train()
    target = momentum_copy(source)
    source(torch.randn(8, 3, generator=torch.Generator().manual_seed(1)) + 5)
    norm, followed = source[1], target[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(followed, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert followed.running_mean is not None
    update_momentum(target, source, momentum=0.9)
    torch.testing.assert_close(followed.running_mean, 0.1 * norm.running_mean)
    assert followed.num_batches_tracked is not None
    assert followed.num_batches_tracked.item() == 1


def test_a_copy_is_frozen_evaluates_and_is_in_no_optimizer():
    source = made().train()
    target = momentum_copy(source)
    assert source.training
    assert not any(module.training for module in target.modules())
    assert not any(parameter.requires_grad for parameter in target.parameters())
    both = nn.ModuleDict({"source": source, "target": target})
    trained = {id(p) for group in make_optimizer(both, OptimConfig()).param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in source.parameters()}
    rows = torch.randn(4, 3)
    loss = (source(rows) * target(rows)).sum()
    loss.backward()
    assert all(parameter.grad is None for parameter in target.parameters())


def test_momentum_zero_copies_and_one_stays():
    source, target = made(), momentum_copy(made())
    before = target.get_parameter("0.weight").clone()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    update_momentum(target, source, momentum=1.0)
    assert torch.equal(target.get_parameter("0.weight"), before)
    update_momentum(target, source, momentum=0.0)
    assert torch.equal(target.get_parameter("0.weight"), source.get_parameter("0.weight"))


def test_a_memory_longer_than_a_twentieth_of_the_run_is_warned_of():
    assert momentum_warning(0.999, 20_001) is None
    assert momentum_warning(0.999, 2000) == (
        "momentum=0.999 remembers 1000 steps, more than 5% of a run of 2000; 0.99 would suit it"
    )
    assert momentum_warning(1 - 20 / 2000, 2000) is None
    assert "give the run more steps" in (momentum_warning(0.9, 10) or "")
    assert momentum_warning(1.0, 10**9) is not None
