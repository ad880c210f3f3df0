"""Directions, groups, ignored and inactive pairs and the sigmoid term, against autograd through the reference."""

import math

import pytest
import torch

from ctkernels import SigmoidTerm, infonce
from ctkernels.infonce_reference import infonce_reference
from ctkernels.pairing import Pairing
from tests.ctkernels.contrast import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    SIZES,
    leaves,
    options,
    pairings,
    pairs,
    relative,
    with_kind,
)


def learned(function, inputs, pairing):
    loss = function()
    wanted = leaves(inputs, pairing)
    given = torch.autograd.grad(3.0 * loss, wanted, allow_unused=True)
    return loss.detach(), [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, given, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", SIZES)
def test_every_combination_of_options_equals_autograd_of_the_reference(batch, dtype):
    for number, drawn in enumerate(pairings(batch, seed=batch)):
        if dtype != torch.float64 and number % 5 != batch % 5:
            continue
        scalars = torch.float64 if dtype == torch.float64 else torch.float32
        inputs, pairing = pairs(batch, scale=2.0, dtype=dtype), with_kind(drawn, scalars)
        loss, grads = learned(lambda i=inputs, p=pairing: infonce(*i, **options(p)), inputs, pairing)
        doubles, oracle = [x.detach().double().requires_grad_() for x in inputs], with_kind(pairing, torch.float64)
        wanted_loss, wanted = learned(lambda i=doubles, p=oracle: infonce_reference(*i, p), doubles, oracle)
        assert relative(loss, wanted_loss, 1e-3) < LOSS_TOLERANCE[dtype], pairing
        for ours, right in zip(grads[:2], wanted[:2], strict=True):
            assert relative(ours, right, 1e-4) < GRADIENT_TOLERANCE[dtype], pairing
        for ours, right in zip(grads[2:], wanted[2:], strict=True):
            assert relative(ours, right, 0.05) < 10 * LOSS_TOLERANCE[dtype], pairing


def test_gradcheck_of_all_five_inputs_under_all_masks():
    image, text, scale = pairs(5, dim=4)
    groups, patients = torch.tensor([0, 0, 1, -1, -1]), torch.tensor([2, 3, 2, 3, -1])
    active, normal = torch.tensor([1, 1, 1, 0, 1]).bool(), torch.tensor([1, 0, 0, 1, 0]).bool()
    scalars = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, -0.5)]

    def loss(image, text, scale, sigmoid_scale, bias):
        term = SigmoidTerm(sigmoid_scale, bias, normal, 0.7, "balanced")
        return infonce(
            image, text, scale, positive_id=groups, ignore_id=patients, is_active=active, weight=0.6, sigmoid=term
        )

    assert torch.autograd.gradcheck(loss, (image, text, scale, *scalars), eps=1e-6, atol=1e-8)


def features_of(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit features whose cosines times exp(scale) are the logits, for golden values given as logits."""
    scale = torch.tensor(10.0, dtype=torch.float64)
    size = len(logits)
    image = torch.cat([logits / scale, torch.zeros(size, size, dtype=torch.float64)], 1)
    image[:, -1] = (1 - image.square().sum(1)).sqrt()
    text = torch.cat([torch.eye(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)], 1)
    return image, text, scale.log()


@pytest.mark.parametrize(
    ("normal", "off", "abnormal"),
    [
        ([1, 0, 1, 0], 0.747703, 0.163478),
        ([0, 0, 0, 0], 0.797703, 0.407451),
        ([1, 1, 1, 1], 0.422703, 0.0),
        ([1, 1, 1, 0], 0.647703, 0.0),
    ],
)
def test_golden_values_of_offclip(normal, off, abnormal):
    index = torch.arange(4, dtype=torch.float64)
    logits = 0.5 * (index[:, None] + 1) - 0.3 * (index + 1) + 2 * torch.eye(4, dtype=torch.float64)
    image, text, scale = features_of(logits)
    flags = torch.tensor(normal).bool()
    term = SigmoidTerm(scale, torch.zeros_like(scale), flags)
    contrast = infonce(image, text, scale, is_active=~flags)
    assert float(contrast) == pytest.approx(abnormal, abs=1e-6)
    assert float(infonce(image, text, scale, weight=0.0, sigmoid=term)) == pytest.approx(off, abs=1e-6)
    assert float(infonce(image, text, scale, is_active=~flags, sigmoid=term)) == pytest.approx(off + abnormal, abs=2e-6)


def test_all_pairs_of_one_group_have_the_entropy_of_the_group_as_floor():
    features = torch.ones(6, 4)
    loss = infonce(features, features, torch.tensor(3.0), positive_id=torch.zeros(6, dtype=torch.int64))
    assert float(loss) == pytest.approx(math.log(6), rel=1e-6)


def test_ignoring_a_pair_equals_taking_its_column_out_of_that_row():
    image, text, scale = (x.detach() for x in pairs(4))
    ids = torch.tensor([0, 0, -1, -1])
    kept = [0, 2, 3]
    alone = infonce(image[kept], text[kept], scale, direction="image_to_text")
    first_of_alone = _row_loss(image[kept], text[kept], scale, 0)
    assert float(alone) > 0
    assert _row_loss(image, text, scale, 0, ignore=1) == pytest.approx(first_of_alone, rel=1e-12)
    rows = [_row_loss(image, text, scale, 0, ignore=1), _row_loss(image, text, scale, 1, ignore=0)]
    rows += [_row_loss(image, text, scale, 2), _row_loss(image, text, scale, 3)]
    loss = infonce(image, text, scale, ignore_id=ids, direction="image_to_text")
    assert float(loss) == pytest.approx(sum(rows) / 4, rel=1e-12)


def _row_loss(image, text, scale, row, ignore=None) -> float:
    cosines = torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    logits = (scale.exp() * cosines)[row].detach().clone()
    if ignore is not None:
        logits[ignore] = -torch.inf
    return float(logits.logsumexp(0) - logits[row])


def test_no_active_pair_gives_zero_and_zero_gradients():
    inputs = pairs(3, dtype=torch.float32)
    loss = infonce(*inputs, is_active=torch.zeros(3, dtype=torch.bool))
    assert float(loss.detach()) == 0
    assert all(float(grad.abs().max()) == 0 for grad in torch.autograd.grad(loss, inputs))


def test_permuting_the_batch_changes_nothing():
    image, text, scale = pairs(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    for number, pairing in enumerate(pairings(9)):
        if number % 11:
            continue
        columns = {name: getattr(pairing, name) for name in ("positive_id", "ignore_id", "is_active")}
        moved = options(pairing) | {name: None if c is None else c[order] for name, c in columns.items()}
        term = pairing.sigmoid
        if term is not None:
            moved["sigmoid"] = SigmoidTerm(
                term.log_scale, term.bias, term.is_normal[order], term.weight, term.reduction, term.ignores_abnormal
            )
        torch.testing.assert_close(
            infonce(image[order], text[order], scale, **moved), infonce(image, text, scale, **options(pairing))
        )


@pytest.mark.parametrize("rows", [(0, 3), (3, 9), (4, 5)])
def test_local_rows_get_the_same_gradient_and_the_others_none(rows):
    for pairing in [Pairing(), next(p for p in pairings(9) if p.sigmoid and p.positive_id is not None)]:
        inputs, pairing = pairs(9), with_kind(pairing, torch.float64)
        loss, grads = learned(lambda i=inputs, p=pairing: infonce(*i, **options(p)), inputs, pairing)
        mine, local = learned(lambda i=inputs, p=pairing: infonce(*i, **options(p), local_rows=rows), inputs, pairing)
        assert torch.equal(mine, loss)
        for ours, whole in zip(local[:2], grads[:2], strict=True):
            torch.testing.assert_close(ours[slice(*rows)], whole[slice(*rows)], rtol=1e-12, atol=1e-15)
            assert float(ours.abs().sum()) == pytest.approx(float(ours[slice(*rows)].abs().sum()))
        for ours, whole in zip(local[2:], grads[2:], strict=True):
            torch.testing.assert_close(ours, whole)


def test_frozen_features_still_give_the_scale_its_gradient():
    image, text, scale = pairs(5)
    (wanted,) = torch.autograd.grad(infonce(image, text, scale), [scale])
    (grad,) = torch.autograd.grad(infonce(image.detach(), text.detach(), scale), [scale])
    torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": "sideways"},
        {"positive_id": torch.zeros(2, dtype=torch.int64)},
        {"positive_id": torch.zeros(3)},
        {"ignore_id": torch.zeros(3, dtype=torch.int64, device="meta")},
        {"is_active": torch.zeros(3, dtype=torch.int64)},
        {"local_rows": (0, 4)},
        {"local_rows": (2, 2)},
        {"sigmoid": SigmoidTerm(torch.ones(2), torch.zeros(()), torch.zeros(3, dtype=torch.bool))},
        {"sigmoid": SigmoidTerm(torch.ones(()), torch.zeros(()), torch.zeros(3))},
        {"sigmoid": SigmoidTerm(torch.ones(()), torch.zeros(()), torch.zeros(3).bool(), reduction="sum")},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_options_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="infonce needs"):
        infonce(*pairs(3), **wrong)
