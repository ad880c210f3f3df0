"""InfoNCE against a queue: closed form against autograd of the reference, golden values, masked slots, the operator."""

import math

import pytest
import torch

from ctkernels import infonce_queue
from ctkernels.queue_reference import queue_reference
from tests.ctkernels.contrast import GRADIENT_TOLERANCE, LOSS_TOLERANCE, relative

KINDS = [torch.float64, torch.float32, torch.bfloat16]


def drawn(batch: int, slots: int, *, dim: int = 24, scale: float = 2.0, dtype=torch.float64):
    """Queries, keys, a unit queue of the dtype, scale, ids: some slots empty, some of a query's own study."""
    rng = torch.Generator().manual_seed(100 * batch + slots)
    shared = torch.randn(batch, dim, generator=rng, dtype=torch.float64)
    query = (3 * (shared + torch.randn(batch, dim, generator=rng, dtype=torch.float64))).to(dtype).requires_grad_()
    key = (shared + torch.randn(batch, dim, generator=rng, dtype=torch.float64)).to(dtype)
    queue = torch.nn.functional.normalize(torch.randn(slots, dim, generator=rng, dtype=torch.float64), dim=1).to(dtype)
    log_scale = torch.tensor(scale, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    query_id = torch.randint(0, slots, (batch,), generator=rng)
    queue_id = torch.randint(-1, slots, (slots,), generator=rng)
    return query, key, queue, log_scale.requires_grad_(), query_id, queue_id


def ours(query, key, queue, scale, query_id, queue_id):
    return infonce_queue(query, key, queue, scale, query_id=query_id, queue_id=queue_id)


def learned(function, arguments):
    loss = function(*arguments)
    return loss.detach(), *torch.autograd.grad(3.0 * loss, (arguments[0], arguments[3]))


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize(("batch", "slots"), [(1, 1), (2, 7), (3, 64), (17, 65), (64, 129), (65, 1000)])
def test_loss_and_gradients_equal_autograd_of_the_reference(batch, slots, dtype):
    arguments = drawn(batch, slots, dtype=dtype)
    loss, d_query, d_scale = learned(ours, arguments)
    doubles = [x.detach().double().requires_grad_(x.requires_grad) if x.is_floating_point() else x for x in arguments]
    wanted = learned(queue_reference, doubles)
    assert relative(loss, wanted[0], 1e-3) < LOSS_TOLERANCE[dtype]
    assert relative(d_query, wanted[1], 1e-4) < GRADIENT_TOLERANCE[dtype]
    assert relative(d_scale, wanted[2], 0.05) < 10 * LOSS_TOLERANCE[dtype]
    assert (d_query.dtype, d_scale.dtype) == (dtype, arguments[3].dtype)


def test_gradcheck():
    query, key, queue, scale, query_id, queue_id = drawn(3, 9, dim=4)
    assert torch.autograd.gradcheck(lambda q, s: ours(q, key, queue, s, query_id, queue_id), (query, scale))


@pytest.mark.parametrize(("temperature", "wanted"), [(1.0, 0.735210), (0.2, 0.166200), (0.07, 0.0279272)])
def test_golden_values_of_moco(temperature, wanted):
    query, key = torch.tensor([[1.0, 0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0, 1.0]])
    queue = torch.tensor([[-1.0, 0], [0, -1], [0.6, -0.8]])
    ids, slots = torch.tensor([5, 6]), torch.tensor([0, 1, 2])
    loss = ours(query, key, queue, torch.tensor(-math.log(temperature)), ids, slots)
    assert float(loss) == pytest.approx(wanted, rel=5e-6)  # they are given to six digits
    first = ours(query[:1], key[:1], queue, torch.tensor(0.0), ids[:1], torch.tensor([0, -1, 5]))
    assert float(first) == pytest.approx(math.log1p(math.exp(-1.8)), rel=1e-6)


def test_equal_vectors_give_the_log_of_all_that_count():
    ones = torch.ones(2, 4)
    loss = ours(ones, ones, ones[:1].expand(7, 4) / 2, torch.tensor(3.0), torch.tensor([0, 1]), torch.arange(2, 9))
    assert float(loss) == pytest.approx(math.log(8), rel=1e-6)


@pytest.mark.parametrize("queue_id", [[-1, -1, -1], [0, 0, -1]])
def test_an_empty_queue_gives_zero_and_zero_gradients(queue_id):
    query = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scale = torch.tensor(2.0, requires_grad=True)
    queue = torch.eye(4)[:3]
    loss = ours(query, torch.ones(1, 4), queue, scale, torch.tensor([0]), torch.tensor(queue_id))
    loss.backward()
    assert (float(loss.detach()), float(scale.grad), float(query.grad.abs().max())) == (0, 0, 0)


def test_what_stands_in_a_masked_slot_does_not_matter():
    query, key, queue, scale, query_id, queue_id = drawn(4, 32)
    other = torch.where((queue_id < 0)[:, None], torch.flip(queue, [0]), queue)
    torch.testing.assert_close(
        ours(query, key, other, scale, query_id, queue_id), ours(query, key, queue, scale, query_id, queue_id)
    )
    assert bool((queue_id < 0).any())


def test_no_gradient_reaches_keys_or_queue():
    query, key, queue, scale, query_id, queue_id = drawn(4, 8)
    key.requires_grad_()
    queue.requires_grad_()
    ours(query, key, queue, scale, query_id, queue_id).backward()
    assert key.grad is None
    assert queue.grad is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": torch.ones(2, 4)},
        {"queue": torch.ones(5, 3)},
        {"queue": torch.ones(0, 4)},
        {"queue": torch.ones(5, 4, dtype=torch.int32)},
        {"logit_scale": torch.ones(2)},
        {"query_id": torch.zeros(2, dtype=torch.int64)},
        {"queue_id": torch.zeros(5)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_does_not_fit_is_refused(wrong):
    right = {
        "query": torch.ones(3, 4),
        "key": torch.ones(3, 4),
        "queue": torch.ones(5, 4),
        "logit_scale": torch.tensor(0.0),
        "query_id": torch.zeros(3, dtype=torch.int64),
        "queue_id": torch.zeros(5, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match="infonce_queue needs"):
        infonce_queue(**right | wrong)
