"""The fingerprint of studies: equal where ids, digests and joined columns are, however they are held in memory."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.storage.digests import column_bytes
from ctload.storage.manifest import Studies
from tests.ctload.studies import make_studies

VALUES = {
    "text": st.none() | st.text(max_size=5),
    "whole": st.none() | st.integers(-(2**40), 2**40),
    "number": st.none() | st.floats(allow_nan=False),
    "truth": st.none() | st.booleans(),
    "list": st.lists(st.text(max_size=2), max_size=3),
}


def digest(column: pa.ChunkedArray) -> bytes:
    return b"|".join(bytes(part) for part in column_bytes(column))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), kind=st.sampled_from(sorted(VALUES)), cut=st.integers(0, 8), skip=st.integers(0, 3))
def test_bytes_depend_on_values_and_not_on_chunks_or_slices(
    data: st.DataObject, kind: str, cut: int, skip: int
) -> None:
    values = data.draw(st.lists(VALUES[kind], min_size=1, max_size=8))
    types = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "truth": pa.bool_()}
    of_type = types.get(kind, pa.list_(pa.string()))
    whole = pa.chunked_array([pa.array(values, of_type)])
    padded = pa.array([*values[:skip], *values], of_type)[min(skip, len(values)) :]
    for other in (pa.chunked_array([whole.chunk(0)[:cut], whole.chunk(0)[cut:]]), pa.chunked_array([padded])):
        assert digest(other) == digest(whole)
    if kind == "text":
        assert digest(whole.cast(pa.large_string())) == digest(whole)
        assert digest(whole.dictionary_encode()) == digest(whole)
    changed = data.draw(st.lists(VALUES[kind], min_size=1, max_size=8))
    if changed != values or [type(value) for value in changed] != [type(value) for value in values]:
        same = pa.chunked_array([pa.array(changed, of_type)]).equals(whole)
        assert (digest(pa.chunked_array([pa.array(changed, of_type)])) == digest(whole)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [(["ab", "c"], ["a", "bc"]), (["", "a"], [None, "a"]), ([0, 1], [None, 1]), ([1, 2], [1.0, 2.0]), ([True], [1.0])],
)
def test_values_that_look_alike_have_bytes_of_their_own(one: list, other: list) -> None:
    assert digest(pa.chunked_array([one])) != digest(pa.chunked_array([other]))


def test_the_fingerprint_covers_ids_digests_and_joined_columns_in_order() -> None:
    studies = make_studies(5, columns={"label": [0, 1, 0, None, 1]})
    same = Studies(pa.concat_tables([studies.table[:2], studies.table[2:]]))
    assert same.fingerprint == studies.fingerprint
    changes = [
        studies.take([1, 0, 2, 3, 4]),
        studies.take([0, 1, 2, 3]),
        make_studies(5),
        make_studies(5, columns={"label": [0, 1, 0, 0, 1]}),
        make_studies(5, columns={"other": [0, 1, 0, None, 1]}),
        make_studies(5, shape=(32, 48, 49), columns={"label": [0, 1, 0, None, 1]}),
    ]
    assert len({studies.fingerprint, *(changed.fingerprint for changed in changes)}) == 1 + len(changes)
