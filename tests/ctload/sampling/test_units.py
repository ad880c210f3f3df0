"""The schedule of text units: equal counts, and a closed form that agrees with counting."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.units import SCHEDULES, AlternatingUnits

SECTIONS = ("lower thorax", "liver", "gallbladder", "spleen", "pancreas")


@settings(deadline=None)  # the first call compiles
@given(st.sampled_from(SCHEDULES), st.integers(1, 5), st.integers(0, 2**32), st.integers(1, 120))
def test_closed_form_agrees_with_counting(schedule: str, num_sections: int, seed: int, num_steps: int) -> None:
    units = AlternatingUnits(SECTIONS[:num_sections], schedule=schedule)
    seen: Counter[str] = Counter()
    for step in range(num_steps):
        unit, num_before = units.at(step, seed)
        assert num_before == seen[unit]
        assert unit in units.names
        seen[unit] += 1
    sections = [seen[name] for name in units.sections]
    assert max(sections) - min(sections) <= 1
    if schedule == "alternate":
        assert seen["report"] == (num_steps + 1) // 2
    assert seen["report"] == {"full": num_steps, "sections": 0}.get(schedule, seen["report"])


def test_even_steps_are_full_reports_and_each_round_visits_every_section() -> None:
    units = AlternatingUnits(SECTIONS)
    names = [units.at(step, seed=4).unit for step in range(40)]
    assert names[::2] == ["report"] * 20
    rounds = [names[1::2][start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(visited) == sorted(SECTIONS) for visited in rounds)
    assert len({tuple(visited) for visited in rounds}) > 1
    assert names != [units.at(step, seed=5).unit for step in range(40)]


def test_a_step_far_away_is_reached_at_once() -> None:
    units = AlternatingUnits(SECTIONS)
    assert units.at(10**15, 0) == ("report", 5 * 10**14)
    assert units.at(10**15 + 1, 0).num_before == 10**14


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sections": ("liver",), "schedule": "random"}, "one of alternate, full, sections"),
        ({"sections": ()}, "needs at least one section"),
        ({"sections": ("liver", "liver")}, "stands twice"),
        ({"sections": ("report",)}, "stands twice"),
        ({"sections": ("",)}, "empty name"),
    ],
)
def test_senseless_schedules_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        AlternatingUnits(**fields)


def test_full_needs_no_sections() -> None:
    assert AlternatingUnits((), schedule="full").names == ("report",)
