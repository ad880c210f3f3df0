"""The runs that hold the methods to their claims: arms differ in the method alone, verdicts follow the plan."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.method_scores import seed_interval, write_draws
from benchmarks.methods import (
    CLAIMS,
    COLUMNS,
    SHAPES,
    arms_of,
    compare_arms,
    paired_interval,
    secondary_arms,
    verdict_of,
)
from ctclip.config_json import differences
from ctclip.presets import PRESETS


@pytest.mark.parametrize("effect", sorted(CLAIMS))
def test_a_method_and_its_control_differ_in_the_objective_and_its_choices_alone(effect):
    arms = arms_of(effect, PRESETS["tiny"])
    method, control = arms.values()
    assert next(iter(arms)) == effect.removesuffix("-second")
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


@pytest.mark.parametrize(
    ("effect", "name", "changed"),
    [
        ("mococlip", "moco", {"objective", "mococlip.mode", "mococlip.image.momentum"}),
        ("mococlip", "clip_batch16", {"data.batch_size"}),
        ("cagcl", "global_alone", {"objective", "cagcl.texts.permute", "cagcl.texts.drop"}),
        ("cagcl", "augmentation_alone", {"objective", "cagcl.across.weight"}),
    ],
)
def test_a_secondary_arm_differs_from_its_control_in_what_it_is_named_for(effect, name, changed):
    tiny = PRESETS["tiny"]
    base = replace(tiny, data=replace(tiny.data, batch_size=2))
    control = list(arms_of(effect, base).values())[1]
    found = set(differences(control, secondary_arms(effect, base)[name]))
    assert changed <= found
    shared = {"cagcl.anatomy.needs_whole", "fvlm.anatomy.needs_whole", "fvlm.local.reduction", "cagcl.local.reduction"}
    assert found - changed <= shared
    assert not secondary_arms("offclip", base)


def test_each_seed_has_its_paired_bootstrap_where_both_runs_have_draws(tmp_path):
    rng = np.random.default_rng(0)
    control = rng.normal(0.7, 0.05, 1000)
    write_draws(tmp_path / "a.npz", {"macro_auroc": control + rng.normal(0.1, 0.01, 1000)})
    write_draws(tmp_path / "b.npz", {"macro_auroc": control, "normal_auc": control})
    low, high = map(float, seed_interval(tmp_path / "a.npz", tmp_path / "b.npz", "macro_auroc").split(":"))
    assert low == pytest.approx(0.1 - 0.0196, abs=0.003)
    assert high == pytest.approx(0.1 + 0.0196, abs=0.003)
    assert seed_interval(tmp_path / "a.npz", tmp_path / "b.npz", "normal_auc") == ""
    assert seed_interval(tmp_path / "a.npz", tmp_path / "none.npz", "macro_auroc") == ""


def test_a_row_has_both_arms_their_difference_and_the_intervals_of_the_seeds():
    method, control = [cells(0.80)[0], cells(0.84)[0]], [cells(0.70)[0], cells(0.72)[0]]
    row = compare_arms([method, control], "macro_auroc", 1, ["0.01:0.02", ""])
    assert (row["method_values"], row["control_values"]) == ("0.8000 0.8400", "0.7000 0.7200")
    assert (row["difference"], row["seed_intervals"]) == ("0.1100", "0.01:0.02")
    assert set(row) <= set(COLUMNS)
