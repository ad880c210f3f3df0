"""The runs that hold the methods to their claims: arms differ in the method alone, verdicts follow the plan."""

import numpy as np
import pytest

from benchmarks.methods import CLAIMS, SHAPES, arms_of, paired_interval, verdict_of
from ctclip.config import PRESETS
from ctclip.config_json import differences


@pytest.mark.parametrize("effect", sorted(CLAIMS))
def test_a_method_and_its_control_differ_in_the_objective_and_its_choices_alone(effect):
    arms = arms_of(effect, PRESETS["tiny"])
    method, control = arms.values()
    assert next(iter(arms)) == effect
    allowed = ("objective", "mococlip.", "cagcl.", "fvlm.")
    assert all(name.startswith(allowed) for name in differences(method, control))
    assert SHAPES[effect][0] >= 2


def cells(macro: float, *, last: float = 1.0) -> list[dict]:
    return [{"scores": {"macro_auroc": macro}, "first_loss": 2.0, "last_loss": last}] * 2


@pytest.mark.parametrize(
    ("side", "low", "high", "verdict"),
    [
        (1, 0.1, 0.2, "shown"), (1, -0.2, -0.1, "against"), (-1, -0.2, -0.1, "shown"), (1, -0.1, 0.1, "not shown"),
        (0, 0.1, 0.2, "secondary"),
    ],
)  # fmt: skip
def test_a_verdict_is_where_the_interval_lies_against_the_side_that_is_stated(side, low, high, verdict):
    assert verdict_of([cells(0.8), cells(0.8)], side, low, high) == verdict


def test_a_control_that_learned_nothing_or_a_loss_that_rose_is_no_effect():
    assert verdict_of([cells(0.8), cells(0.55)], 1, 0.1, 0.2) == "not trained"
    assert verdict_of([cells(0.8, last=2.5), cells(0.8)], 1, 0.1, 0.2) == "not trained"


def test_the_interval_is_students_t_over_the_pairs():
    mean, low, high = paired_interval(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert mean == pytest.approx(0.3)
    assert high - mean == pytest.approx(2.7764451 * 0.15811388 / 5**0.5)
    assert mean - low == pytest.approx(high - mean)
