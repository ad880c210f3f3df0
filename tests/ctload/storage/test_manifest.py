"""Studies: selections and joins keep rows and values together, and refuse what does not fit."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctload.errors import ManifestError
from ctload.storage.manifest import check_manifest
from tests.ctload.studies import make_studies

SPLITS = ["train", "val", "train", "test", "train"]


def labels_of(studies, seed: int = 0) -> dict[str, list]:
    """A table of labels in another order than the studies."""
    order = np.random.default_rng(seed).permutation(len(studies))
    return {"study": [studies.ids[i] for i in order], "abnormal": [int(i) for i in order]}


def test_where_keeps_order_and_takes_one_value_or_several() -> None:
    studies = make_studies(5, columns={"split": SPLITS})
    assert studies.where(split="train").ids == [studies.ids[i] for i in (0, 2, 4)]
    assert studies.where(split=["val", "test"]).ids == [studies.ids[i] for i in (1, 3)]


def test_a_filter_that_leaves_nothing_or_names_no_column_is_refused() -> None:
    studies = make_studies(5, columns={"split": SPLITS})
    with pytest.raises(ManifestError, match="no study has"):
        studies.where(split="holdout")
    with pytest.raises(ManifestError, match="no column 'scanner'"):
        studies.where(scanner="A")
    with pytest.raises(ManifestError, match="cannot be compared"):
        studies.where(depth="deep")


@given(seed=st.integers(0, 1000), num=st.integers(1, 20))
def test_join_brings_each_study_its_own_row_whatever_the_order(seed: int, num: int) -> None:
    studies = make_studies(num)
    assert studies.join(labels_of(studies, seed)).column("abnormal").tolist() == list(range(num))


def test_a_study_without_a_row_is_refused_or_null_on_request() -> None:
    studies = make_studies(3)
    table = {"study": studies.ids[:2], "abnormal": [0, 1]}
    with pytest.raises(ManifestError, match="1 of 3 studies have no row"):
        studies.join(table)
    joined = studies.join(table, missing="null")
    assert joined.table["abnormal"].to_pylist() == [0, 1, None]


def test_keys_twice_and_columns_that_exist_are_refused() -> None:
    studies = make_studies(2)
    with pytest.raises(ManifestError, match="more than once"):
        studies.join({"study": [studies.ids[0]] * 2, "abnormal": [0, 1]})
    with pytest.raises(ManifestError, match="exist already"):
        studies.join({"study": studies.ids, "depth": [1, 2]})
    with pytest.raises(ManifestError, match="no column 'study'"):
        studies.join({"abnormal": [0, 1]})


def test_the_fingerprint_sees_joined_values_and_order() -> None:
    studies = make_studies(4)
    joined = studies.join(labels_of(studies))
    other = studies.join({"study": studies.ids, "abnormal": [0, 1, 2, 9]})
    prints = {s.fingerprint for s in (studies, joined, other, studies.take([1, 0, 2, 3]))}
    assert len(prints) == 4
    assert joined.fingerprint == studies.join(labels_of(studies, seed=5)).fingerprint


def test_a_manifest_with_a_missing_column_or_a_study_twice_is_refused() -> None:
    table = make_studies(2).table
    with pytest.raises(ManifestError, match="'digest' is missing"):
        check_manifest(table.drop_columns(["digest"]), path="manifest.parquet")
    with pytest.raises(ManifestError, match="twice"):
        check_manifest(pa.concat_tables([table, table]), path="manifest.parquet")
