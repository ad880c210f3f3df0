"""A momentum copy's batch norm: measured on its own activations, never on the batch it normalises."""

import copy

import pytest
import torch
from torch import nn

from ctclip.training.distributed import World
from ctclip.training.key_statistics import KeyStatistics
from ctclip.training.momentum import momentum_copy, update_momentum

ALONE = World(0, 1, torch.device("cpu"))


def tower(seed: int = 0) -> nn.Sequential:
    """Two norms deep, far from mean 0 and variance 1 within."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, 3), nn.BatchNorm3d(8), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Conv3d):
                layer.weight *= 20
                assert layer.bias is not None
                layer.bias += 30
    return net


def volumes(seed: int, number: int = 6) -> torch.Tensor:
    return torch.randn(number, 1, 7, 7, 7, generator=torch.Generator().manual_seed(seed)) * 3 + 5


def apart(keys: torch.Tensor) -> float:
    """1 - the smallest cosine of two keys."""
    unit = nn.functional.normalize(keys, dim=1)
    return 1 - float((unit @ unit.T).min())


def measured(batch: torch.Tensor) -> tuple[nn.Module, KeyStatistics]:
    module = momentum_copy(tower())
    statistics = KeyStatistics(module)
    assert statistics.is_new
    statistics.measure([lambda: module(batch)], ALONE)
    assert not statistics.is_new
    return module, statistics


@torch.no_grad()
def test_the_first_statistics_are_those_of_the_first_batch_outright():
    batch = volumes(1)
    module, _ = measured(batch)
    assert not module.training
    expected = tower().train()(batch)
    torch.testing.assert_close(module(batch), expected, rtol=0.01, atol=0.01)  # but for n / (n - 1)
    assert apart(module(batch)) > 1.5 * apart(momentum_copy(tower())(batch))  # whose statistics are 0 and 1


@torch.no_grad()
def test_a_key_does_not_depend_on_the_rest_of_its_batch():
    module, statistics = measured(volumes(1))
    other = copy.deepcopy(module.state_dict())
    keys = []
    for companions in (volumes(2, 3), volumes(3, 3) * 9):
        module.load_state_dict(other)
        statistics.begin()
        keys.append(module(torch.cat([volumes(4, 1), companions]))[0])
        statistics.finish(ALONE)
    torch.testing.assert_close(keys[0], keys[1])


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_statistics_move_to_those_of_what_flowed_through_whatever_the_size_of_a_pass(size):
    module, statistics = measured(volumes(1))
    batch = volumes(2) * 2
    seen: list[torch.Tensor] = []
    norm = module[4]
    assert isinstance(norm, nn.BatchNorm3d)
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    before = [norm.running_mean.clone(), norm.running_var.clone()]  # pyright: ignore[reportOptionalMemberAccess]
    statistics.begin()
    for part in batch.split(size):
        module(part)
    statistics.finish(ALONE)
    handle.remove()
    flowed = torch.cat(seen).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, before[0] * 0.9 + flowed.mean(1) * 0.1)
    torch.testing.assert_close(norm.running_var, before[1] * 0.9 + flowed.var(1) * 0.1)


@torch.no_grad()
def test_weights_follow_the_encoder_and_its_statistics_do_not():
    module, _ = measured(volumes(1))
    source = tower(seed=1)
    source.train()(volumes(5))
    before = copy.deepcopy(module.state_dict())
    update_momentum(module, source, momentum=0.5, has_own_norms=True)
    for name, value in module.state_dict().items():
        if any(kind in name for kind in ("running", "num_batches")):
            assert torch.equal(value, before[name])
        else:
            torch.testing.assert_close(value, (before[name] + source.state_dict()[name]) / 2)


@torch.no_grad()
def test_passes_outside_a_batch_change_nothing():
    module, _ = measured(volumes(1))
    before = copy.deepcopy(module.state_dict())
    module(volumes(2))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
