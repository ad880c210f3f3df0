"""What every objective keeps, in every form of its switches: its formula, its gradient, and its edges."""

from dataclasses import replace

import pytest
import torch

from ctclip.objectives.cagcl import cagcl_objective
from ctclip.objectives.clip import clip_objective
from ctclip.objectives.facts import Facts
from ctclip.objectives.fvlm import fvlm_objective
from ctclip.objectives.mococlip import mococlip_objective
from ctclip.objectives.offclip import offclip_objective
from ctclip.objectives.parameters import (
    CagclParameters,
    ClipParameters,
    FvlmParameters,
    GlobalParameters,
    LocalParameters,
    MococlipParameters,
    MomentumParameters,
    OffclipParameters,
)
from tests.ctclip.objectives import plain
from tests.ctclip.objectives.rows import learners, made_facts, random_features, reordered

FORMS = {
    "clip": (clip_objective, plain.plain_clip, ClipParameters(weight=0.7), 1),
    **{
        f"offclip-{reduction}-{pairs}-{unknown}": (
            offclip_objective,
            plain.plain_offclip,
            OffclipParameters(0.8, 1.2, reduction, pairs, unknown),
            1,
        )
        for reduction in ("mean", "siglip", "balanced")
        for pairs in ("negative", "ignore")
        for unknown in ("abnormal", "ignore")
    },
    "offclip-anatomies": (offclip_objective, plain.plain_offclip, OffclipParameters(pair_unit="anatomy"), 3),
    "offclip-anatomies-balanced": (
        offclip_objective,
        plain.plain_offclip,
        OffclipParameters(reduction="balanced", abnormal_pairs="ignore", pair_unit="anatomy"),
        3,
    ),
    **{
        f"mococlip-{mode}-{exclude}": (
            mococlip_objective,
            plain.plain_mococlip,
            MococlipParameters(mode, 0.9, 1.1, MomentumParameters(exclude=exclude, temperature=0.2)),
            1,
        )
        for mode in ("itc", "moco", "moco+itc", "cross_modal")
        for exclude in ("study", "patient")
    },
    "fvlm": (fvlm_objective, plain.plain_fvlm, FvlmParameters(), 3),
    "fvlm-mean": (fvlm_objective, plain.plain_fvlm, FvlmParameters(LocalParameters("mean")), 3),
    "fvlm-bare": (fvlm_objective, plain.plain_fvlm, FvlmParameters(LocalParameters("sum", False, False, False)), 3),
    "fvlm-soft": (fvlm_objective, plain.plain_fvlm, FvlmParameters(LocalParameters(soft_alpha=0.3)), 3),
    **{
        f"cagcl-{form}": (cagcl_objective, plain.plain_cagcl, CagclParameters(across=GlobalParameters(form, 0.6)), 3)
        for form in ("all", "cross_only", "category")
    },
    "cagcl-more": (
        cagcl_objective,
        plain.plain_cagcl,
        CagclParameters(
            LocalParameters("mean", needs_abnormal=False),
            GlobalParameters("all", 1.0, True, False, 0.4),
            weight_volume=0.3,
        ),
        3,
    ),
}
NUM = 12


@pytest.fixture(params=FORMS, ids=list(FORMS))
def form(request):
    return FORMS[request.param]


def gradients(loss: torch.Tensor, features, facts: Facts) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, learners(features, facts), allow_unused=True)
    pairs = zip(found, learners(features, facts), strict=True)
    return [torch.zeros_like(learner) if grad is None else grad for grad, learner in pairs]


@pytest.mark.parametrize("valid", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradients_are_those_of_the_plain_formula(form, valid, seed):
    objective, formula, parameters, anatomies = form
    features, facts = random_features(NUM, seed=seed), made_facts(NUM, seed=seed, anatomies=anatomies, valid=valid)
    loss, logs = objective(features, facts, parameters)
    wanted = formula(features, facts, parameters)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(gradients(loss, features, facts), gradients(wanted, features, facts), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    assert logs
    assert not any(value.requires_grad for value in logs.values())


def test_the_order_of_the_rows_does_not_matter(form):
    objective, _, parameters, anatomies = form
    features, facts = random_features(NUM), made_facts(NUM, anatomies=anatomies, valid=True)
    order = torch.randperm(NUM, generator=torch.Generator().manual_seed(5))
    moved, moved_facts = reordered(features, facts, order)
    torch.testing.assert_close(
        objective(features, facts, parameters)[0], objective(moved, moved_facts, parameters)[0], rtol=1e-12, atol=1e-13
    )


def test_with_nothing_valid_the_loss_is_exactly_zero_and_so_are_the_gradients(form):
    objective, _, parameters, anatomies = form
    if isinstance(parameters, CagclParameters):
        parameters = replace(parameters, weight_volume=0.0)  # whole volumes are not rows
    features = random_features(NUM)
    facts = replace(made_facts(NUM, anatomies=anatomies), valid=torch.zeros(NUM, dtype=torch.bool))
    loss, _ = objective(features, facts, parameters)
    assert loss.item() == 0
    loss.backward()
    assert features.image.grad is not None
    assert features.text.grad is not None
    assert not features.image.grad.any()
    assert not features.text.grad.any()


def test_rows_that_are_not_valid_may_hold_anything(form):
    objective, _, parameters, anatomies = form
    if isinstance(parameters, CagclParameters):
        parameters = replace(parameters, weight_volume=0.0)
    facts = made_facts(NUM, anatomies=anatomies, valid=True)
    assert facts.valid is not None
    features = random_features(NUM)
    wanted, _ = objective(features, facts, parameters)
    wanted.backward()
    spoiled = random_features(NUM)
    with torch.no_grad():
        spoiled.image[~facts.valid], spoiled.text[~facts.valid] = float("nan"), float("inf")
        momentum = facts.momentum
        assert momentum is not None
        key = momentum.key.clone()
        key[~facts.valid] = float("nan")
    loss, _ = objective(spoiled, replace(facts, momentum=replace(momentum, key=key)), parameters)
    loss.backward()
    assert torch.equal(loss, wanted)
    torch.testing.assert_close(spoiled.image.grad, features.image.grad, rtol=0, atol=0)
    torch.testing.assert_close(spoiled.text.grad, features.text.grad, rtol=0, atol=0)


@pytest.mark.parametrize("abnormal", [0, 1, -1])
def test_one_row_and_one_kind_of_rows_follow_the_formula(form, abnormal):
    objective, formula, parameters, anatomies = form
    for num in (1, 6):
        features = random_features(num)
        facts = made_facts(num, anatomies=anatomies)
        facts = replace(facts, abnormal=torch.full((num,), abnormal))
        loss, _ = objective(features, facts, parameters)
        torch.testing.assert_close(loss, formula(features, facts, parameters), rtol=1e-12, atol=1e-13)
        assert all(torch.isfinite(grad).all() for grad in gradients(loss, features, facts))


def test_half_precision_features_agree_with_double(form):
    objective, formula, parameters, anatomies = form
    half = random_features(NUM, kind=torch.bfloat16)
    facts = made_facts(NUM, anatomies=anatomies)
    double = type(half)(*(part.detach().double() for part in half[:3]))
    loss, _ = objective(half, facts, parameters)
    assert loss.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(loss.double(), formula(double, facts, parameters), rtol=1e-5, atol=1e-5)


def test_autocast_changes_nothing(form):
    objective, _, parameters, anatomies = form
    features, facts = random_features(NUM, kind=torch.float32), made_facts(NUM, anatomies=anatomies)
    wanted, _ = objective(features, facts, parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = objective(features, facts, parameters)
    torch.testing.assert_close(loss, wanted, rtol=0, atol=0)
