"""Strata: a column of the studies enters, groups of rows that are drawn together leave.

A row belongs to a stratum when its value in the column is the stratum's; every other row, and every row whose
value is unknown (null, NaN, or -1 in a column of numbers), belongs to none and is never drawn. This file knows
nothing of batches.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ctload.errors import SamplerError
from ctload.storage.manifest import Studies

NORMALITY = {"normal": 0, "abnormal": 1}
UNKNOWN = -1
KNOWN = "known"  # name of the one stratum of studies that are drawn alike


@dataclass(frozen=True)
class Stratum:
    """Studies drawn together.

    Attributes:
        name: As the quota names it.
        rows: Ascending int64 rows of the studies.
    """

    name: str
    rows: np.ndarray


def unit_column(by: str, unit: str) -> str:
    """The column that holds a unit's values: `by` itself where there are no units, else "by:unit"."""
    return f"{by}:{unit}" if unit else by


def column_of(studies: Studies, name: str) -> pa.ChunkedArray:
    """A column to group by.

    Raises:
        SamplerError: No such column, or one that holds neither numbers, truth values nor text.
    """
    if name not in studies.table.column_names:
        raise SamplerError(
            f"no column {name!r} to sample by; there are {', '.join(studies.table.column_names)}. Ways out: join it "
            f"with Studies.join(table, on='study'), name an existing column, or use ShuffleSampler, which needs none"
        )
    column = studies.table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (_is_number(column.type) or _is_text(column.type) or pa.types.is_boolean(column.type)):
        raise SamplerError(f"column {name!r} holds {column.type}; strata need numbers, truth values or text")
    return column


def known_rows(studies: Studies, name: str) -> np.ndarray:
    """Ascending rows whose value in a column is known: not null, NaN, or -1 in a column of numbers."""
    return np.flatnonzero(_is_known(column_of(studies, name)))


def strata_of(studies: Studies, name: str, keys: Iterable[str]) -> tuple[Stratum, ...]:
    """One stratum per key, in the order of their names.

    Args:
        studies: Their rows are counted.
        name: The column.
        keys: Values of the column. In a column of numbers or truth values "normal" means 0 and "abnormal" 1.

    Raises:
        SamplerError: No such column, a key that no study has, that means unknown, or that means the same as another.
    """
    column = column_of(studies, name)
    known = _is_known(column)
    strata, meanings = [], {}
    for key in sorted(keys):
        value = _value_of(key, column.type, name)
        if value in meanings:
            raise SamplerError(
                f"quotas for {meanings[value]!r} and {key!r} both mean {value!r} in column {name!r}; keep one of them"
            )
        meanings[value] = key
        rows = np.flatnonzero(_equals(column, value) & known)
        if len(rows) == 0:
            raise SamplerError(
                f"quota for {key!r}, but none of {len(studies)} studies has it in column {name!r}, which holds "
                f"{_seen(column)}; correct the key, or drop it from the quotas"
            )
        strata.append(Stratum(key, rows))
    return tuple(strata)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_known(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) bool."""
    if _is_text(column.type):
        return column.is_valid().to_numpy()
    numbers = _numbers(column)
    return ~(np.isnan(numbers) | (numbers == UNKNOWN))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64 of a column of numbers or truth values, NaN for a null."""
    plain = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    return plain.cast(pa.float64(), safe=False).to_numpy()


def _equals(column: pa.ChunkedArray, value: float | str) -> np.ndarray:
    """(N,) bool; a null equals nothing."""
    if isinstance(value, str):
        return column.to_numpy() == value
    return _numbers(column) == value


def _value_of(key: str, kind: pa.DataType, name: str) -> float | str:
    """The column's value that a quota's key means."""
    if _is_text(kind):
        return key
    words = {"true": 1, "false": 0, **NORMALITY}
    try:
        number = float(words.get(key.lower(), key))
    except ValueError:
        raise SamplerError(
            f"quota for {key!r}, but column {name!r} holds {kind}; name its values, or 'normal' (0) and 'abnormal' (1)"
        ) from None
    if number == UNKNOWN or np.isnan(number):
        raise SamplerError(
            f"quota for {key!r} in column {name!r}: {UNKNOWN} and NaN mean unknown there and are never drawn; "
            "give these studies a value of their own in a joined column"
        )
    return number


def _seen(column: pa.ChunkedArray) -> str:
    """The column's values with their counts, most frequent first, at most eight."""
    pairs = [(pair["values"], pair["counts"]) for pair in column.value_counts().to_pylist()]
    pairs.sort(key=lambda pair: -pair[1])
    text = ", ".join(f"{value!r} ({count})" for value, count in pairs[:8])
    return text + (f" and {len(pairs) - 8} other values" if len(pairs) > 8 else "")
