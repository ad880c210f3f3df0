"""The feature queue is first in, first out, for any batch size, and its state is all of it."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from ctclip.errors import ConfigError
from ctclip.objectives.facts import EMPTY, Facts, Momentum
from ctclip.objectives.mococlip import moco_loss, usable_slots
from ctclip.objectives.parameters import MomentumParameters
from ctclip.training.feature_queue import NOBODY, FeatureQueue, queue_length


def facts_of(*study: int) -> Facts:
    ids = torch.tensor(study)
    return Facts(ids, ids, ids, ids, ids)


def batch(first: int, num: int, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.arange(first, first + num)
    keys = torch.stack([torch.randn(dim, generator=torch.Generator().manual_seed(int(i))) for i in ids])
    return keys, ids, ids // 2


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (3, 3, 3, 3, 3), (1, 7, 2, 5), (20,), (5, 19, 3), (8, 8, 8)])
def test_it_holds_the_last_keys_whatever_the_batch_sizes(sizes):
    queue, first = FeatureQueue(8, 4), 0
    for num in sizes:
        queue.enqueue(*batch(first, num))
        first += num
    held = sorted(range(max(0, first - 8), first))
    assert sorted(study for study in queue.study.tolist() if study != EMPTY) == held
    for slot, study in enumerate(queue.study.tolist()):
        if study != EMPTY:
            key, _, patient = batch(study, 1)
            torch.testing.assert_close(queue.key[slot], normalize(key, dim=1)[0])
            assert queue.patient[slot] == patient[0]
            assert slot == study % 8
    assert queue.filled.item() == min(first, 8)
    assert queue.pointer.item() == first % 8


def test_a_new_queue_has_no_negatives_or_random_ones():
    facts = facts_of(5, 6)
    masked, random = FeatureQueue(6, 4), FeatureQueue(6, 4, init="random", seed=3)
    query, key = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0))
    assert not usable_slots(Momentum(query, key, masked.negatives()), facts, "patient").any()
    assert usable_slots(Momentum(query, key, random.negatives()), facts, "patient").all()
    assert (random.study == NOBODY).all()
    torch.testing.assert_close(random.key.norm(dim=1), torch.ones(6))
    assert torch.equal(random.key, FeatureQueue(6, 4, init="random", seed=3).key)
    assert not torch.equal(random.key, FeatureQueue(6, 4, init="random", seed=4).key)


def test_rows_that_are_not_valid_leave_their_slot_empty():
    queue = FeatureQueue(5, 4)
    keys, study, patient = batch(10, 3)
    keys[1] = float("nan")
    queue.enqueue(keys, study, patient, torch.tensor([True, False, True]))
    assert queue.study.tolist() == [10, EMPTY, 12, EMPTY, EMPTY]
    assert torch.isfinite(queue.key).all()


def test_saved_and_loaded_in_the_middle_it_goes_on_with_the_same_bits():
    queue = FeatureQueue(7, 4)
    for first in (0, 5):
        queue.enqueue(*batch(first, 5))
    resumed = FeatureQueue(7, 4)
    resumed.load_state_dict(copy.deepcopy(queue.state_dict()))
    for one in (queue, resumed):
        one.enqueue(*batch(10, 5))
    facts = facts_of(12, 40)
    query, key = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0))
    losses = [moco_loss(Momentum(query, key, one.negatives()), facts, MomentumParameters()) for one in (queue, resumed)]
    assert torch.equal(*losses)
    for name, tensor in queue.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_backward_pass_after_the_next_enqueue_is_refused_by_torch():
    queue = FeatureQueue(4, 4)
    queue.enqueue(*batch(0, 4))
    facts = replace(facts_of(12, 40), valid=torch.tensor([True, True]))  # the fused kernel has its gradient by then
    query = torch.randn(2, 4, requires_grad=True)
    loss = moco_loss(Momentum(query, torch.randn(2, 4), queue.negatives()), facts, MomentumParameters())
    queue.enqueue(*batch(4, 2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_default_length_is_a_power_of_two_at_most_a_quarter_of_the_studies():
    assert queue_length(None, 15_314) == 2048
    assert queue_length(None, 10**7) == 65536
    assert queue_length(None, 64) == 16
    assert queue_length(None, 4) == 1
    assert queue_length(100, 100) == 100


def test_a_queue_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match=r"image.queue=101 is above the 100 training studies.*at most 100"):
        queue_length(101, 100)
    with pytest.raises(ConfigError, match="3 training studies are too few"):
        queue_length(None, 3)
    with pytest.raises(ConfigError, match=r"image.queue=0 must be at least 1"):
        queue_length(0, 10)
    with pytest.raises(ConfigError, match="length=0"):
        FeatureQueue(0, 4)
