"""Columns of every kind to strata, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.strata import known_rows, strata_of
from tests.ctload.studies import make_studies

label = st.sampled_from([0, 1, -1, None])


@given(st.lists(label, min_size=1, max_size=40), st.sampled_from([pa.int8(), pa.int64(), pa.float32()]))
def test_numbers_part_into_normal_abnormal_and_unknown(values: list, kind: pa.DataType) -> None:
    values = [*values, 0, 1]
    studies = make_studies(len(values), columns={"abnormal": pa.array(values, kind)})
    abnormal, normal = strata_of(studies, "abnormal", ("normal", "abnormal"))
    assert (abnormal.name, normal.name) == ("abnormal", "normal")
    assert normal.rows.tolist() == [row for row, value in enumerate(values) if value == 0]
    assert abnormal.rows.tolist() == [row for row, value in enumerate(values) if value == 1]
    assert known_rows(studies, "abnormal").tolist() == [row for row, value in enumerate(values) if value in (0, 1)]


@given(st.lists(st.sampled_from(["GE", "Siemens", None, "normal"]), min_size=1, max_size=30))
def test_text_parts_by_value_and_null_is_unknown(values: list) -> None:
    values = ["GE", *values]
    studies = make_studies(len(values), columns={"scanner": values})
    (stratum,) = strata_of(studies, "scanner", ["GE"])
    assert stratum.rows.tolist() == [row for row, value in enumerate(values) if value == "GE"]
    assert known_rows(studies, "scanner").tolist() == [row for row, value in enumerate(values) if value is not None]


def test_truth_values_dictionaries_and_nan() -> None:
    columns = {
        "contrast": pa.array([True, False, None, True]),
        "kernel": pa.array(["soft", "bone", "soft", None]).dictionary_encode(),
        "age": pa.array([50.0, np.nan, 60.0, 50.0]),
    }
    studies = make_studies(4, columns=columns)
    assert [stratum.rows.tolist() for stratum in strata_of(studies, "contrast", ["true", "false"])] == [[1], [0, 3]]
    assert [stratum.rows.tolist() for stratum in strata_of(studies, "contrast", ["abnormal"])] == [[0, 3]]
    assert strata_of(studies, "kernel", ["soft"])[0].rows.tolist() == [0, 2]
    assert known_rows(studies, "kernel").tolist() == [0, 1, 2]
    assert strata_of(studies, "age", ["50"])[0].rows.tolist() == [0, 3]
    assert known_rows(studies, "age").tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("column", "keys", "message"),
    [
        ("grade", ["0"], "no column 'grade'.*join it.*name an existing column, or use ShuffleSampler"),
        ("channels", ["0"], "holds list<.*>; strata need numbers, truth values or text"),
        ("label", ["0", "7"], r"quota for '7', but none of 4 studies.*0 \(2\), 1 \(1\)"),
        ("label", ["normal", "0"], "both mean 0.0"),
        ("label", ["-1"], "mean unknown there and are never drawn"),
        ("label", ["nan"], "mean unknown there and are never drawn"),
        ("label", ["sick"], "quota for 'sick', but column 'label' holds int64"),
        ("scanner", ["Philips"], "none of 4 studies has it in column 'scanner', which holds 'GE'"),
    ],
)
def test_impossible_strata_name_the_value_and_the_way_out(column: str, keys: list[str], message: str) -> None:
    studies = make_studies(4, columns={"label": [0, 0, 1, -1], "scanner": ["GE", "GE", "GE", "Siemens"]})
    with pytest.raises(SamplerError, match=message):
        strata_of(studies, column, keys)
