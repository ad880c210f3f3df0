"""Nested subsets: a share of the studies with the labels of the whole, whole patients only.

For data-scaling experiments: the 20 % lie inside the 40 %, those inside the 100 %, and each has every finding about
as often as the whole. This file knows nothing of batches.

Source: iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML
PKDD 2011), applied to patients instead of studies, and from the largest fraction down.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ctload.errors import SamplerError
from ctload.sampling.draw import derive_key, permute_range
from ctload.storage.manifest import Studies


def nested_subsets(
    studies: Studies, fractions: Sequence[float], *, labels: Sequence[str], patient: str | None, seed: int
) -> dict[float, np.ndarray]:
    """Rows of each fraction of the studies; every smaller subset lies inside every larger one.

    A patient's studies are all in or all out. The number of positive studies of each label comes close to fraction x
    total, rare labels first; it is exact only where patients' studies add up to it.

    Args:
        studies: Their rows are counted.
        fractions: In (0, 1], in any order.
        labels: Columns of numbers in which 1 means positive.
        patient: Column that names each study's patient; None where every study is a patient of its own.
        seed: Of the choice among equals.

    Returns:
        For each fraction its ascending int64 rows.

    Raises:
        SamplerError: A fraction outside (0, 1], an unknown column, a study without a patient, an empty subset, or a
            label of which a subset would have no positive study.
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise SamplerError(f"fractions must lie in (0, 1], got {tuple(fractions)}")
    groups = _groups(studies, patient)
    num_groups = int(groups.max()) + 1
    # Columns: positive studies per label, then all studies.
    counts = np.stack(
        [np.bincount(groups, weights, num_groups) for weights in (*_positives(studies, labels), np.ones(len(studies)))],
        axis=1,
    )
    order = np.empty(num_groups, np.int64)
    permute_range(order, 0, num_groups, derive_key(seed, "subset"))
    chosen, share = np.ones(num_groups, bool), 1.0
    subsets = {}
    for fraction in sorted(set(fractions), reverse=True):
        if fraction < share:
            inside = order[chosen[order]]
            chosen = np.zeros(num_groups, bool)
            chosen[inside[_choose(counts[inside], fraction / share)]] = True
            share = fraction
        _check_positives(counts, chosen, labels, fraction)
        subsets[fraction] = np.flatnonzero(chosen[groups])
    return subsets


def _groups(studies: Studies, patient: str | None) -> np.ndarray:
    """(N,) int64, the number of each study's patient."""
    if patient is None:
        return np.arange(len(studies), dtype=np.int64)
    column = _column(studies, patient)
    if column.null_count:
        row = int(np.flatnonzero(~column.is_valid().to_numpy())[0])
        raise SamplerError(f"column {patient!r} names no patient for this study", study=studies.ids[row])
    return column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def _positives(studies: Studies, labels: Sequence[str]) -> list[np.ndarray]:
    """(N,) float64 of 0 and 1 for each label."""
    positives = []
    for name in labels:
        column = _column(studies, name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise SamplerError(f"label column {name!r} holds {column.type}; labels are 1, 0 or -1 (unknown)")
        positives.append((column.to_numpy() == 1).astype(np.float64))
    return positives


def _column(studies: Studies, name: str) -> pa.ChunkedArray:
    if name not in studies.table.column_names:
        raise SamplerError(
            f"no column {name!r}; there are {', '.join(studies.table.column_names)}. Studies.join(table, on='study') "
            "adds columns"
        )
    return studies.table[name]


def _choose(counts: np.ndarray, share: float) -> np.ndarray:
    """(G,) bool: which groups make up `share` of every column of counts (G, L + 1), the last being the size.

    The label with the fewest groups left goes first. Its groups go, in their order, to the side that still lacks
    more of it; equal lacks are settled by the sides' sizes.
    """
    totals = counts.sum(axis=0)
    lacks = np.stack([(1 - share) * totals, share * totals])  # out, in
    num_groups, num_labels = len(counts), counts.shape[1] - 1
    inside, left = np.zeros(num_groups, bool), np.ones(num_groups, bool)
    while left.any():
        num_left = (counts[left, :num_labels] > 0).sum(axis=0)
        rarest = np.where(num_left > 0, num_left, num_groups + 1)
        column = int(rarest.argmin()) if num_left.any() else num_labels
        for group in np.flatnonzero(left & (counts[:, column] > 0)):
            out, into = lacks[0, column], lacks[1, column]
            side = int(lacks[1, -1] > lacks[0, -1]) if out == into else int(into > out)
            lacks[side] -= counts[group]
            inside[group] = side == 1
            left[group] = False
    return inside


def _check_positives(counts: np.ndarray, chosen: np.ndarray, labels: Sequence[str], fraction: float) -> None:
    if not chosen.any():
        raise SamplerError(f"a subset of {fraction:.3%} of {len(counts)} patients is empty; take a larger fraction")
    for place, name in enumerate(labels):
        if counts[chosen, place].sum() == 0:
            raise SamplerError(
                f"the subset of {fraction:.0%} has no positive study of {name!r}, the whole has "
                f"{int(counts[:, place].sum())}; take a larger fraction or leave the label out"
            )
