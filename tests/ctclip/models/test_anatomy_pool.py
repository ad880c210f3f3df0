"""One embedding per anatomy: it sees its own tokens alone, and is left out where it is cut or absent."""

import pytest
import torch

from ctclip.config import ImageConfig
from ctclip.errors import ConfigError
from ctclip.models.anatomy_pool import (
    AnatomyPool,
    anatomy_counts,
    anatomy_numbers,
    masked_mean,
    present_anatomies,
    whole_anatomies,
)
from ctclip.models.inflated_resnet import STAGE_STRIDES, InflatedResNet
from ctclip.objectives.parameters import AnatomyParameters
from ctclip.texts.anatomies import PHANTOM_ANATOMIES, label_table

WIDTHS, DIM = (8, 8, 16, 16), 12
SHAPES = [(17, 33, 40), (16, 32, 32), (40, 64, 64), (5, 9, 70)]


def tower() -> InflatedResNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return InflatedResNet(ImageConfig((1, 1, 1, 1), (2, 2, 4, 4), stem_width=4), num_channels=1, embedding_dim=DIM)


def pool_of(num: int = 3, **changes) -> AnatomyPool:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        parameters = AnatomyParameters(**{"needs_whole": False, **changes})
        pool = AnatomyPool(WIDTHS, num_anatomies=num, embedding_dim=DIM, parameters=parameters)
        torch.nn.init.normal_(pool.bias_AE)
        return pool


def numbers_of(shape=(16, 32, 32), studies: int = 2) -> torch.Tensor:
    """Anatomy 1 in one corner, 2 in another, 3 nowhere."""
    numbers = torch.zeros(studies, *shape, dtype=torch.int64)
    numbers[:, 1:4, 1:6, 1:6] = 1
    numbers[:, 10:14, 20:30, 20:30] = 2
    return numbers


def maps_of(shape=(16, 32, 32), studies: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = [[-(-size // step) for size, step in zip(shape, stride, strict=True)] for stride in STAGE_STRIDES]
    return [torch.randn(studies, w, *size, generator=generator) for w, size in zip(WIDTHS, sizes, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
def test_cells_are_those_of_the_towers_stages(shape):
    maps = tower().eval().stage_maps(torch.rand(1, 1, *shape))
    numbers = torch.randint(0, 4, (1, *shape), generator=torch.Generator().manual_seed(0))
    for stage, stride in zip(maps, STAGE_STRIDES, strict=True):
        counts = anatomy_counts(numbers, 3, stride)
        assert counts.shape[2:] == stage.shape[2:]
        assert counts.sum((2, 3, 4)).tolist() == [[int((numbers == k).sum()) for k in (1, 2, 3)]]
        touched = torch.nn.functional.max_pool3d((numbers == 2).float(), stride, stride, ceil_mode=True)
        assert torch.equal(counts[:, 1] > 0, touched > 0)  # the rule of fVLM's code


def test_the_last_stage_is_what_the_towers_own_head_takes():
    network, volume = tower().eval(), torch.rand(2, 1, 16, 32, 32)
    last = network.stage_maps(volume)[-1].mean((2, 3, 4), keepdim=True)
    assert torch.equal(network(volume), network.contrastive_head(last).flatten(1))


def test_numbers_follow_the_table_and_labels_beyond_it_are_of_no_anatomy():
    table = torch.from_numpy(label_table(PHANTOM_ANATOMIES))
    labels = torch.tensor([0, 4, 5, 6, 11, 300, -1], dtype=torch.int16).view(1, 1, 1, 7)
    assert anatomy_numbers(labels, table).flatten().tolist() == [0, 1, 2, 4, 0, 0, 0]


def test_an_anatomy_on_a_face_is_cut_and_one_that_is_nowhere_is_absent():
    numbers = numbers_of()
    assert whole_anatomies(numbers, 3).tolist() == [[True, True, False]] * 2
    for axis, place in [(axis, place) for axis in (1, 2, 3) for place in (0, -1)]:
        cut = numbers.clone()
        cut.select(axis, place)[0, 5, 5] = 2
        assert whole_anatomies(cut, 3).tolist() == [[True, False, False], [True, True, False]]
        assert present_anatomies(cut, 3).tolist() == [[True, True, False]] * 2


def test_the_mean_is_that_of_the_weighted_tokens():
    tokens, weight = torch.arange(12.0).view(1, 2, 6), torch.tensor([[[0, 1, 0, 3, 0, 0], [0] * 6]])
    assert masked_mean(tokens, weight)[0].tolist() == [[2.5, 8.5], [0.0, 0.0]]


@pytest.mark.parametrize(
    "changes", [{"pooling": "attention"}, {"pooling": "mean"}, {"pooling": "mean", "cells": "share"}]
)
def test_an_anatomy_sees_the_tokens_it_touches_and_no_other(changes):
    pool, maps, numbers = pool_of(**changes), maps_of(), numbers_of()
    features, valid = pool(maps, numbers)
    assert features.shape == (2, 3, DIM)
    assert valid.tolist() == [[True, True, False]] * 2
    assert torch.isfinite(features).all()
    for stage, stride in enumerate(STAGE_STRIDES):
        seen = anatomy_counts(numbers, 3, stride)[:, 0] > 0
        elsewhere = [part.clone() for part in maps]
        elsewhere[stage] = torch.where(seen[:, None], maps[stage], 50.0)
        torch.testing.assert_close(pool(elsewhere, numbers)[0][:, 0], features[:, 0])
        inside = [part.clone() for part in maps]
        inside[stage] = torch.where(seen[:, None], torch.randn_like(maps[stage]), maps[stage])
        if stage < 3:  # the last stage has one cell, which all touch, and a norm that a constant cannot move
            assert not torch.allclose(pool(inside, numbers)[0][:, 0], features[:, 0])


def test_a_share_of_a_cell_weighs_less_than_a_full_one():
    numbers = torch.zeros(1, 16, 32, 32, dtype=torch.int64)
    numbers[0, :2, :4, :4] = 1  # one cell of the first stage in full
    numbers[0, 2, 0, 0] = 1  # and one voxel of the next
    counts = anatomy_counts(numbers, 1, STAGE_STRIDES[0])
    assert counts[0, 0, :, 0, 0].tolist() == [32, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_every_parameter_learns_and_absent_anatomies_send_no_gradient(pooling):
    pool = pool_of(pooling=pooling)
    maps = [part.requires_grad_() for part in maps_of()]
    features, valid = pool(maps, numbers_of())
    torch.where(valid[..., None], features, 0.0).square().sum().backward()
    for name, parameter in pool.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert pool.weight_AWE.grad is not None
    assert pool.weight_AWE.grad[0].any()
    assert not pool.weight_AWE.grad[2].any()
    assert all(part.grad is not None and torch.isfinite(part.grad).all() for part in maps)


def test_without_masks_every_anatomy_looks_everywhere():
    pool = pool_of(source="attention")
    with torch.no_grad():
        pool.query_AW.normal_()
    features, valid = pool(maps_of(), None)
    assert valid.all()
    assert not torch.allclose(features[:, 0], features[:, 1])
    with pytest.raises(ConfigError, match="gives every anatomy the same embedding"):
        pool_of(source="attention", pooling="mean")
    with pytest.raises(ConfigError, match="needs a label map"):
        pool_of()(maps_of(), None)
