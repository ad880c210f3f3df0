"""Text units: which text a study has in each, and the columns by which samplers know it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.errors import ReportError
from ctclip.texts.text_units import make_text_units, text_columns

REPORTS = {
    "a": "Liver: Normal. Spleen: Enlarged. IMPRESSION: Splenomegaly.",
    "b": "Liver: Cyst in segment 4.",
    "c": "Spleen: Normal.",
}


def cohort(**columns: list) -> Cohort:
    rows = {"study": list(REPORTS), "patient": list(REPORTS), "path": list(REPORTS), "report": list(REPORTS.values())}
    table = pa.table({**rows, "split": ["train"] * 3, **columns})
    return make_cohort(table, name="made-up", findings=(), synthetic=True)


def test_each_unit_has_the_cleaned_text_of_the_studies_that_have_one():
    texts = make_text_units(cohort(), ("liver", "spleen", "bowel"))
    assert texts.units == ("report", "liver", "spleen", "bowel")
    assert texts.texts["liver"] == {"a": "liver : normal .", "b": "liver : cyst in segment 4 ."}
    assert texts.texts["bowel"] == {}
    assert texts.texts["report"]["a"].endswith("impression : splenomegaly .")
    assert texts.of(["c", "a"], "spleen") == ["spleen : normal .", "spleen : enlarged ."]


def test_a_study_without_a_text_in_the_unit_is_never_given_an_empty_one():
    texts = make_text_units(cohort(), ("liver",))
    with pytest.raises(ReportError, match="no text in unit 'liver'") as caught:
        texts.of(["a", "c"], "liver")
    assert caught.value.study == "c"


def test_a_section_of_another_name_is_refused():
    with pytest.raises(ReportError, match="no section is called 'lung'; there are lower thorax"):
        make_text_units(cohort(), ("lung",))


def test_columns_mark_absent_sections_as_unknown():
    texts = make_text_units(cohort(), ("liver", "spleen"))
    table = text_columns(cohort(), texts, is_normality_needed=True)
    assert table["text:report"].to_pylist() == [1, 1, 1]
    assert table["text:liver"].to_pylist() == [1, 1, -1]
    assert table["abnormal:liver"].to_pylist() == [0, 1, -1]
    assert table["abnormal:spleen"].to_pylist() == [1, -1, 0]
    assert table["abnormal:report"].to_pylist() == [1, 1, 0]
    assert "abnormal:liver" not in text_columns(cohort(), texts, is_normality_needed=False).column_names


def test_the_cohorts_own_normality_wins_over_rules_but_not_over_an_absent_text():
    given = cohort(**{"abnormal:liver": np.array([1, 0, 1], np.int8)})
    texts = make_text_units(given, ("liver",))
    table = text_columns(given, texts, is_normality_needed=True)
    assert table["abnormal:liver"].to_pylist() == [1, 0, -1]


def test_normality_by_rules_that_know_too_little_is_refused():
    odd = cohort()
    column = pa.array(["Liver: Quux frobnicates the wibble beyond all that anyone could have said of it before."] * 3)
    odd = replace(odd, table=odd.table.set_column(odd.table.column_names.index("report"), "report", column))
    texts = make_text_units(odd, ("liver",))
    with pytest.raises(ReportError, match="fewer than 80%"):
        text_columns(odd, texts, is_normality_needed=True)
    text_columns(odd, texts, is_normality_needed=False)


def test_an_edited_text_changes_the_studys_digest_alone():
    before = text_columns(cohort(), make_text_units(cohort(), ("liver",)), is_normality_needed=False)["texts"]
    edited = cohort()
    reports = [*list(REPORTS.values())[:2], "Spleen: Small."]
    edited = replace(edited, table=edited.table.set_column(3, "report", pa.array(reports)))
    after = text_columns(edited, make_text_units(edited, ("liver",)), is_normality_needed=False)["texts"]
    assert [a == b for a, b in zip(before.to_pylist(), after.to_pylist(), strict=True)] == [True, True, False]
