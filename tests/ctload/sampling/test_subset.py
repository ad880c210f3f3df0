"""Nested subsets: nested, whole patients, and labels as frequent as in the whole."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.subset import nested_subsets
from tests.ctload.studies import make_studies

FRACTIONS = (0.2, 0.4, 1.0)


def cohort(num: int, seed: int, prevalences=(0.5, 0.3, 0.15, 0.08)):
    """Studies of patients with one to four studies each, labels that go together, and some unknown."""
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, max(1, num // 2), num)
    sick = rng.normal(size=num // 2 + 1)[patients]
    columns: dict = {"patient": [f"p{patient}" for patient in patients]}
    for place, prevalence in enumerate(prevalences):
        score = 0.7 * sick + rng.normal(size=num)
        values = (score > np.quantile(score, 1 - prevalence)).astype(np.int64)
        values[rng.random(num) < 0.05] = -1
        columns[f"label{place}"] = values
    labels = [name for name in columns if name != "patient"]
    return make_studies(num, columns=columns), labels


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(100, 400))
def test_subsets_are_nested_and_never_part_a_patient(seed: int, num: int) -> None:
    studies, labels = cohort(num, seed)
    try:
        subsets = nested_subsets(studies, FRACTIONS, labels=labels, patient="patient", seed=seed)
    except SamplerError as error:
        # A rare label that whole patients leave no way to share out is refused by name, never dropped in silence.
        if "no positive study of" not in error.message:
            raise
        reject()
    assert set(subsets[0.2]) < set(subsets[0.4]) < set(subsets[1.0]) == set(range(num))
    patients = studies.column("patient")
    for rows in subsets.values():
        assert rows.tolist() == sorted(rows.tolist())
        outside = np.setdiff1d(np.arange(num), rows)
        assert not set(patients[rows]) & set(patients[outside])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_labels_are_as_frequent_as_in_the_whole(seed: int) -> None:
    studies, labels = cohort(1000, seed)
    subsets = nested_subsets(studies, FRACTIONS, labels=labels, patient="patient", seed=seed)
    most = np.unique(studies.column("patient"), return_counts=True)[1].max()
    for fraction, rows in subsets.items():
        assert abs(len(rows) - fraction * 1000) <= 10 * most
        for name in labels:
            positive = studies.column(name) == 1
            assert abs(positive[rows].sum() - fraction * positive.sum()) <= 2 * most


def test_labels_are_balanced_far_better_than_by_chance() -> None:
    studies, labels = cohort(1000, 3)
    patients = studies.column("patient")
    positives = np.stack([studies.column(name) == 1 for name in labels], axis=1)
    rng = np.random.default_rng(0)

    def deviation(rows: np.ndarray) -> float:
        return float(np.abs(positives[rows].mean(axis=0) - positives.mean(axis=0)).mean())

    by_chance = [
        deviation(
            np.flatnonzero(np.isin(patients, rng.permutation(np.unique(patients))[: len(np.unique(patients)) // 5]))
        )
        for _ in range(20)
    ]
    ours = [
        deviation(nested_subsets(studies, (0.2,), labels=labels, patient="patient", seed=seed)[0.2])
        for seed in range(20)
    ]
    assert np.mean(ours) < np.mean(by_chance) / 3


def test_the_seed_decides_and_the_order_of_fractions_does_not() -> None:
    studies, labels = cohort(300, 1)

    def subset(seed: int, fractions=FRACTIONS) -> tuple:
        return tuple(nested_subsets(studies, fractions, labels=labels, patient="patient", seed=seed)[0.2].tolist())

    assert subset(0) == subset(0, FRACTIONS[::-1])
    assert subset(0) != subset(1)


def test_without_patients_and_labels_the_size_is_exact() -> None:
    studies = make_studies(100)
    subsets = nested_subsets(studies, FRACTIONS, labels=(), patient=None, seed=0)
    assert [len(rows) for rows in subsets.values()] == [100, 40, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fractions": ()}, r"fractions must lie in \(0, 1\]"),
        ({"fractions": (0.2, 1.2)}, r"fractions must lie in \(0, 1\]"),
        ({"labels": ["fever"]}, "no column 'fever'"),
        ({"labels": ["patient"]}, "label column 'patient' holds string"),
        ({"patient": "person"}, "no column 'person'"),
        ({"labels": ["rare"]}, "the subset of 40% has no positive study of 'rare', the whole has 1"),
        ({"patient": "owner"}, "names no patient"),
        ({"fractions": (0.01,)}, "1.000% of 4 patients is empty"),
    ],
)
def test_impossible_subsets_are_refused(arguments: dict, message: str) -> None:
    columns = {"patient": ["a", "b", "c", "d"] * 5, "rare": [1] + [0] * 19, "owner": [None] + ["a"] * 19}
    studies = make_studies(20, columns=columns)
    with pytest.raises(SamplerError, match=message):
        nested_subsets(studies, **{"fractions": FRACTIONS, "labels": (), "patient": "patient", "seed": 0, **arguments})
