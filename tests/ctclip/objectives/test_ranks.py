"""Gathered rows of two ranks: the loss and the gradients of one process, and one queue on all ranks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctclip.objectives.cagcl import cagcl_objective
from ctclip.objectives.facts import Facts, gather_facts
from ctclip.objectives.fvlm import fvlm_objective
from ctclip.objectives.mococlip import mococlip_objective
from ctclip.objectives.offclip import offclip_objective
from ctclip.objectives.parameters import (
    CagclParameters,
    FvlmParameters,
    MococlipParameters,
    OffclipParameters,
)
from ctclip.training.distributed import gather_features, gather_rows, open_world
from ctclip.training.feature_queue import FeatureQueue
from tests.ctclip.objectives.rows import learners, made_facts, random_features
from tests.ctclip.ranks import next_group, run_ranks

NUM, SIZE = 12, 2
ROWS = ("study", "patient", "abnormal", "text", "anatomy", "valid")
OBJECTIVES = {
    "offclip": (offclip_objective, OffclipParameters(), 1),
    "mococlip": (mococlip_objective, MococlipParameters(), 1),
    "cross_modal": (mococlip_objective, MococlipParameters("cross_modal"), 1),
    "fvlm": (fvlm_objective, FvlmParameters(), 3),
    "cagcl": (cagcl_objective, CagclParameters(), 3),
}


def own_rows(facts: Facts, rows: slice) -> Facts:
    changes = {name: getattr(facts, name)[rows] for name in ROWS}
    for name in ("momentum", "text_momentum"):
        whole = getattr(facts, name)
        query = whole.query.detach()[rows].clone().requires_grad_()
        changes[name] = replace(whole, query=query, key=whole.key[rows])
    return replace(facts, **changes, teacher=None, whole=None)


def loss_of_a_rank(name: str, world, rows: slice) -> tuple[torch.Tensor, list[torch.Tensor]]:
    objective, parameters, anatomies = OBJECTIVES[name]
    whole = random_features(NUM)
    features = whole._replace(
        image=whole.image.detach()[rows].clone().requires_grad_(),
        text=whole.text.detach()[rows].clone().requires_grad_(),
    )
    facts = own_rows(made_facts(NUM, anatomies=anatomies, valid=True), rows)
    gathered = gather_facts(facts, world)
    for key in ("momentum", "text_momentum"):
        own = getattr(facts, key)
        rows_of_all = replace(own, query=gather_rows(own.query, world), key=gather_rows(own.key, world))
        gathered = replace(gathered, **{key: rows_of_all})
    loss, _ = objective(gather_features(features, world), gathered, parameters)
    return loss.detach(), list(torch.autograd.grad(loss, learners(features, facts), allow_unused=True))


def save_losses(folder: str) -> None:
    next_group()
    with open_world("cpu") as world:
        rows = slice(world.rank * NUM // world.size, (world.rank + 1) * NUM // world.size)
        saved = {name: loss_of_a_rank(name, world, rows) for name in OBJECTIVES}
        queue = FeatureQueue(7, 4)
        for step in range(5):
            keys = torch.randn(10, 4, generator=torch.Generator().manual_seed(step))
            ids = torch.arange(10) + 10 * step
            own = slice(5 * world.rank, 5 * world.rank + 5) if world.size == SIZE else slice(0, 10)
            queue.enqueue(
                gather_rows(keys[own], world), gather_rows(ids[own], world), gather_rows(ids[own] // 2, world)
            )
        torch.save({"losses": saved, "queue": queue.state_dict()}, Path(folder) / f"{world.size}-{world.rank}.pt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objective-ranks")
    run_ranks(save_losses, SIZE, str(folder))
    save_losses(str(folder))
    names = ("1-0", *(f"{SIZE}-{rank}" for rank in range(SIZE)))
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in names]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_have_the_loss_and_the_gradients_of_one_process(saved, name):
    (loss, wanted), *parts = (one["losses"][name] for one in saved)
    for part_loss, _ in parts:
        torch.testing.assert_close(part_loss, loss, rtol=1e-12, atol=0)
    for place, whole in enumerate(wanted):
        pieces = [gradients[place] for _, gradients in parts]
        if whole is None:
            assert pieces == [None] * SIZE
        elif whole.ndim == 0:  # a scalar's gradient is whole on every rank
            for piece in pieces:
                torch.testing.assert_close(piece, whole, rtol=1e-10, atol=1e-14)
        else:  # rows' gradients are multiplied by the ranks, for DDP's average
            torch.testing.assert_close(torch.cat(pieces) / SIZE, whole, rtol=1e-10, atol=1e-14)


def test_every_rank_holds_the_queue_of_one_process(saved):
    for name, tensor in saved[0]["queue"].items():
        for one in saved[1:]:
            assert torch.equal(one["queue"][name], tensor), name
