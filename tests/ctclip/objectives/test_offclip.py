"""OFF-CLIP against the numbers of its specification, and its targets against the authors' figure."""

import math
from dataclasses import replace

import pytest
import torch

from ctclip.errors import ConfigError
from ctclip.objectives.clip import clip_loss
from ctclip.objectives.facts import Facts, Scalars
from ctclip.objectives.offclip import (
    MAX_BIAS,
    abnormal_infonce,
    bias_by_rate,
    off_diagonal_loss,
    off_diagonal_targets,
    offclip_objective,
)
from ctclip.objectives.parameters import OffclipParameters
from tests.ctclip.objectives.rows import features_of_logits, random_features

NUMBERS = torch.arange(1, 5, dtype=torch.float64)
LOGITS = 0.5 * NUMBERS[:, None] - 0.3 * NUMBERS + 2 * torch.eye(4, dtype=torch.float64)
SCALE = 10.0
GOLDEN = {
    # normal flags: off-diagonal term, abnormal term
    (1, 0, 1, 0): (0.747703, 0.163478),
    (0, 0, 0, 0): (0.797703, 0.407451),
    (1, 1, 1, 1): (0.422703, 0.0),
    (1, 1, 1, 0): (0.647703, 0.0),
}


def by_terms(facts: Facts) -> Facts:
    """The same, computed term by term and not in one kernel."""
    return replace(facts, valid=facts.valid_rows)


def facts_of(normal, anatomy=None) -> Facts:
    ids = torch.arange(len(normal))
    abnormal = 1 - torch.tensor(normal)
    where = torch.zeros_like(ids) if anatomy is None else torch.tensor(anatomy)
    log_scale = torch.tensor(SCALE, dtype=torch.float64).log()
    return Facts(ids, ids, abnormal, ids, where, scalars=Scalars(log_scale, torch.zeros((), dtype=torch.float64)))


@pytest.mark.parametrize(("normal", "wanted"), GOLDEN.items())
def test_both_terms_have_their_published_values(normal, wanted):
    facts = facts_of(normal)
    assert off_diagonal_loss(LOGITS, facts, OffclipParameters()).item() == pytest.approx(wanted[0], abs=5e-7)
    assert abnormal_infonce(LOGITS, facts).item() == pytest.approx(wanted[1], abs=5e-7)


@pytest.mark.parametrize(("normal", "wanted"), GOLDEN.items())
def test_features_with_these_cosines_give_the_same_values(normal, wanted):
    features, facts = features_of_logits(LOGITS, SCALE), facts_of(normal)
    assert offclip_objective(features, facts, OffclipParameters())[0].item() == pytest.approx(sum(wanted), abs=1e-6)
    loss, logs = offclip_objective(features, by_terms(facts), OffclipParameters())
    assert loss.item() == pytest.approx(sum(wanted), abs=1e-6)
    assert logs["off_diagonal"].item() == pytest.approx(wanted[0], abs=5e-7)
    assert logs["num_abnormal"].item() == 4 - sum(normal)


def test_without_normals_it_is_clip_plus_a_sigmoid_per_cell():
    features = features_of_logits(LOGITS, SCALE)
    _, logs = offclip_objective(features, by_terms(facts_of((0, 0, 0, 0))), OffclipParameters())
    assert logs["abnormal"].item() == pytest.approx(clip_loss(features).item(), abs=1e-12)
    sigmoid = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, torch.eye(4, dtype=torch.float64))
    assert logs["off_diagonal"].item() == pytest.approx(sigmoid.item(), abs=1e-12)


def test_targets_are_those_of_the_figure():
    # the figure's order: normal, abnormal, normal, abnormal, abnormal
    wanted = [[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert off_diagonal_targets(facts_of((1, 0, 1, 0, 0))).long().tolist() == wanted


def test_an_abnormal_unit_turned_normal_changes_its_row_and_column_alone():
    before, after = (off_diagonal_targets(facts_of(normal)) for normal in ((1, 0, 1, 0), (1, 1, 1, 0)))
    changed = (before != after).nonzero().tolist()
    assert changed == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert not before[1, 0]


def test_the_gradient_of_a_normal_pair_is_that_of_its_own_cell():
    logits = LOGITS.clone().requires_grad_()
    off_diagonal_loss(logits, facts_of((1, 0, 1, 0)), OffclipParameters()).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 2], (LOGITS[0, 2].sigmoid() - 1) / 16)
    torch.testing.assert_close(logits.grad[0, 1], LOGITS[0, 1].sigmoid() / 16)


def test_reductions_weigh_the_same_cells_differently():
    facts = facts_of((1, 0, 1, 0))
    target = off_diagonal_targets(facts)
    cells = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, target.double(), reduction="none")
    wanted = {
        "mean": cells.mean(),
        "siglip": cells.sum() / 4,
        "balanced": (cells[target].mean() + cells[~target].mean()) / 2,
    }
    for reduction, value in wanted.items():
        loss = off_diagonal_loss(LOGITS, facts, OffclipParameters(reduction=reduction))  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(loss, value)
    away = torch.ones(4, 4, dtype=torch.bool)
    away[1, 3] = away[3, 1] = False
    ignoring = off_diagonal_loss(LOGITS, facts, OffclipParameters(abnormal_pairs="ignore"))
    torch.testing.assert_close(ignoring, cells[away].mean())


def test_one_row_is_attraction_and_no_infonce():
    features = features_of_logits(LOGITS[:1, :1], SCALE)
    for facts in (facts_of((0,)), by_terms(facts_of((0,)))):
        loss, _ = offclip_objective(features, facts, OffclipParameters())
        assert loss.item() == pytest.approx(math.log1p(math.exp(-LOGITS[0, 0].item())), abs=1e-12)


def test_anatomies_are_losses_of_their_own_averaged():
    features, facts = random_features(8), facts_of((1, 0, 1, 0, 0, 0, 1, 1), anatomy=(0, 1, 0, 1, 0, 1, 0, 1))
    parts = []
    for anatomy in (0, 1):
        rows = facts.anatomy == anatomy
        part = features._replace(image=features.image[rows], text=features.text[rows])
        own = Facts(*(getattr(facts, name)[rows] for name in ("study", "patient", "abnormal", "text", "anatomy")))
        parts.append(offclip_objective(part, replace(own, scalars=facts.scalars), OffclipParameters())[0])
    whole, _ = offclip_objective(features, facts, OffclipParameters(pair_unit="anatomy"))
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_unknown_units_are_their_own_positive_or_left_out():
    facts = replace(facts_of((1, 1, 0, 0)), abnormal=torch.tensor([0, -1, 1, -1]))
    assert off_diagonal_targets(facts).long().tolist() == torch.eye(4).long().tolist()
    features = random_features(4)
    left_out, logs = offclip_objective(features, facts, OffclipParameters(unknown="ignore"))
    kept, _ = offclip_objective(features, replace(facts, valid=torch.tensor([1, 0, 1, 0]).bool()), OffclipParameters())
    assert torch.equal(left_out, kept)
    assert logs["num_valid"].item() == 2


def test_the_first_bias_is_the_log_odds_of_a_positive_cell():
    assert bias_by_rate(0.0, 16) == pytest.approx(math.log((1 / 16) / (15 / 16)))
    share = 0.64**2 * 15 / 16 + 1 / 16
    assert bias_by_rate(0.64, 16) == pytest.approx(math.log(share / (1 - share)))
    assert bias_by_rate(0.3, 1) == pytest.approx(MAX_BIAS)  # one row: every cell is positive
    assert bias_by_rate(0.0, 10**6) == pytest.approx(-MAX_BIAS)


def test_without_its_scalars_it_is_refused():
    facts = replace(facts_of((1, 0)), scalars=Scalars())
    with pytest.raises(ConfigError, match="needs its learned off_scale and off_bias"):
        offclip_objective(random_features(2), facts, OffclipParameters())
