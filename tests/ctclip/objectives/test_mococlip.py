"""MoCoCLIP's momentum term against the numbers of its specification, and its modes against each other."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ctclip.errors import ConfigError
from ctclip.objectives.clip import clip_loss
from ctclip.objectives.facts import EMPTY, Facts, Momentum, Negatives
from ctclip.objectives.mococlip import moco_loss, mococlip_objective, usable_slots
from ctclip.objectives.parameters import MococlipParameters, MomentumParameters
from tests.ctclip.objectives.rows import made_facts, random_features


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


QUERY, KEY = tensor([[1, 0], [0.6, 0.8]]), tensor([[0.8, 0.6], [0, 1]])
QUEUE = tensor([[-1, 0], [0, -1], [0.6, -0.8]])


def facts_of(study=(100, 101), patient=None) -> Facts:
    ids = torch.tensor(study)
    zeros = torch.zeros_like(ids)
    return Facts(ids, ids if patient is None else torch.tensor(patient), zeros, ids, zeros)


def momentum_of(queue: Tensor, study, patient=None) -> Momentum:
    ids = torch.tensor(study)
    return Momentum(QUERY, KEY, Negatives(queue, ids, ids if patient is None else torch.tensor(patient)))


@pytest.mark.parametrize(("temperature", "wanted"), [(1.0, 0.735210), (0.2, 0.166200), (0.07, 0.0279272)])
def test_the_loss_has_its_published_values(temperature, wanted):
    loss = moco_loss(momentum_of(QUEUE, [1, 2, 3]), facts_of(), MomentumParameters(temperature=temperature))
    assert loss.item() == pytest.approx(wanted, abs=5e-7)


def test_a_query_restricted_to_one_slot_has_its_published_value():
    momentum = momentum_of(QUEUE, [1, 100, 100])  # slots 1 and 2 are query 0's own; query 1 sees all three
    loss = moco_loss(momentum, facts_of(), MomentumParameters(temperature=1.0))
    assert loss.item() == pytest.approx(0.367063, abs=5e-7)
    alone = replace(facts_of(), valid=torch.tensor([True, False]))
    loss = moco_loss(momentum, alone, MomentumParameters(temperature=1.0))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.8)), abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_equal_vectors_give_the_log_of_their_number(temperature):
    one = torch.ones(2, 2, dtype=torch.float64)
    queue = torch.ones(7, 2, dtype=torch.float64) / math.sqrt(2)
    momentum = Momentum(one, one, Negatives(queue, torch.arange(7), torch.arange(7)))
    loss = moco_loss(momentum, facts_of(), MomentumParameters(temperature=temperature))
    assert loss.item() == pytest.approx(math.log(8), abs=1e-12)


def test_an_empty_queue_gives_zero_and_finite_gradients():
    query = QUERY.clone().requires_grad_()
    for queue, study in ((QUEUE, [EMPTY] * 3), (QUEUE[:0], [])):
        ids = torch.tensor(study, dtype=torch.int64)
        loss = moco_loss(Momentum(query, KEY, Negatives(queue, ids, ids)), facts_of(), MomentumParameters())
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, query)
        assert not gradient.any()


def test_own_studies_and_own_patients_are_no_negatives():
    momentum = momentum_of(QUEUE, [100, 7, EMPTY], patient=[5, 6, EMPTY])
    facts = facts_of(study=(100, 101), patient=(5, 6))
    assert usable_slots(momentum, facts, "study").tolist() == [[False, True, False], [True, True, False]]
    assert usable_slots(momentum, facts, "patient").tolist() == [[False, True, False], [True, False, False]]


def test_no_gradient_reaches_keys_or_queue():
    key, queue = KEY.clone().requires_grad_(), QUEUE.clone().requires_grad_()
    query = QUERY.clone().requires_grad_()
    momentum = Momentum(query, key, Negatives(queue.detach(), torch.arange(3), torch.arange(3)))
    moco_loss(momentum, facts_of(), MomentumParameters()).backward()
    assert key.grad is None
    assert query.grad is not None


def test_itc_alone_is_clip_and_moco_alone_leaves_the_texts_be():
    features, facts = random_features(8), made_facts(8)
    itc, _ = mococlip_objective(features, facts, MococlipParameters("itc"))
    torch.testing.assert_close(itc, clip_loss(features))
    moco, logs = mococlip_objective(features, facts, MococlipParameters("moco"))
    moco.backward()
    assert features.text.grad is not None
    assert not features.text.grad.any()
    assert facts.momentum is not None
    assert facts.momentum.query.grad is not None
    both, _ = mococlip_objective(features, facts, MococlipParameters())
    torch.testing.assert_close(both, itc + moco)
    assert logs["num_negatives"].item() == 9


@pytest.mark.parametrize("mode", ["moco", "moco+itc", "cross_modal"])
def test_a_mode_without_its_keys_is_refused(mode):
    facts = made_facts(4, with_queue=False)
    with pytest.raises(ConfigError, match=r"needs keys of a momentum encoder.*or take mode='itc'"):
        mococlip_objective(random_features(4), facts, MococlipParameters(mode))
