"""Rules that choose series: what each clause keeps, and that nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctload.errors import SeriesRuleError
from ctload.scanning.series_rule import SeriesRule

ROWS = [
    {"kernel": "B30f", "thickness_mm": 1.0, "num_slices": 300, "phase": "arterial", "description": "Thorax 1.0 B30f"},
    {"kernel": "B70f", "thickness_mm": 1.0, "num_slices": 300, "phase": "arterial", "description": "Thorax 1.0 B70f"},
    {"kernel": "b30f", "thickness_mm": 3.0, "num_slices": 100, "phase": "portal venous", "description": "Abdomen"},
    {"kernel": None, "thickness_mm": None, "num_slices": 40, "phase": "", "description": None},
]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("kernel=B30f", [0, 2]),
        ("kernel = b30F | B70f", [0, 1, 2]),
        ("kernel!=B30f", [1]),
        ("thickness<=1", [0, 1]),
        ("thickness<1", []),
        ("thickness>1", [2]),
        ("thickness_mm>=1.0", [0, 1, 2]),
        ("thickness=3", [2]),
        ("phase~venous", [2]),
        ("description~thorax|abdomen", [0, 1, 2]),
        ("most slices", [0, 1]),
        ("least slices", [3]),
        ("least thickness", [0, 1]),
        ("kernel=B30f; thickness<=3; most slices", [0]),
        ("most slices; kernel=B30f; ", [0]),
        ("prefer kernel=B99; least slices", [3]),
        ("prefer kernel=B70f; most slices", [1]),
        ("all", [0, 1, 2, 3]),
        ("phase=arterial; all", [0, 1]),
    ],
)
def test_clauses_keep_what_they_say_from_left_to_right(text, kept):
    assert SeriesRule.from_text(text).chosen(ROWS) == kept


def test_only_all_allows_several():
    assert not SeriesRule.from_text("kernel=B30f").takes_all
    assert SeriesRule.from_text("kernel=B30f; ALL").takes_all


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty series rule"),
        (" ; ", "empty series rule"),
        ("kernel", "the clause 'kernel'"),
        ("most", "the clause 'most'"),
        ("kernel=", "the clause 'kernel='"),
        ("thickness<thin", "no number"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_clause(text, said):
    with pytest.raises(SeriesRuleError, match=said):
        SeriesRule.from_text(text)


def test_an_unknown_column_is_named_with_those_there_are():
    with pytest.raises(SeriesRuleError, match="'kernal'; there are kernel, thickness_mm"):
        SeriesRule.from_text("kernal=B30f").chosen(ROWS)


@given(st.lists(st.sampled_from(ROWS), max_size=6), st.sampled_from(["kernel=B30f; most slices", "least thickness"]))
def test_what_is_left_does_not_depend_on_the_order_of_the_rows(rows, text):
    rule = SeriesRule.from_text(text)
    forward = sorted(str(rows[place]) for place in rule.chosen(rows))
    backward = list(reversed(rows))
    assert forward == sorted(str(backward[place]) for place in rule.chosen(backward))
