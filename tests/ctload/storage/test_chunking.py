import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctload.errors import CtloadError
from ctload.storage.chunking import chunk_shape, profile_named, shard_shape


@pytest.mark.parametrize(
    ("shape", "chunk", "shard"),
    [
        ((160, 224, 224), (16, 224, 224), (160, 224, 224)),
        ((50, 256, 256), (13, 256, 256), (52, 256, 256)),
        ((5, 10, 12), (5, 10, 12), (5, 10, 12)),
        ((192, 512, 512), (32, 64, 64), (192, 512, 512)),
        ((200, 512, 512), (29, 64, 64), (203, 512, 512)),
        ((47, 300, 40), (24, 60, 40), (48, 300, 40)),
        ((1, 257, 1), (1, 52, 1), (1, 260, 1)),
    ],
)
def test_small_grids_get_slabs_and_large_ones_blocks(shape, chunk, shard):
    assert chunk_shape(shape) == chunk
    assert shard_shape(shape) == shard


@given(shape=st.tuples(*(st.integers(1, 700),) * 3))
def test_chunks_are_as_few_as_their_limit_allows_and_hardly_padded(shape):
    chunk, shard = chunk_shape(shape), shard_shape(shape)
    limit = (16, *shape[1:]) if max(shape[1:]) <= 256 else (32, 64, 64)
    for size, part, whole, most in zip(shape, chunk, shard, limit, strict=True):
        assert 1 <= part <= most
        number = -(-size // most)
        assert whole == part * (whole // part) >= size
        assert whole // part <= number
        assert whole - size < number


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(CtloadError, match="fast, archive"):
        profile_named("gzip")
