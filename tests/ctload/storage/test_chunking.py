import pytest

from ctload.errors import CtloadError
from ctload.storage.chunking import chunk_shape, profile_named, shard_shape


@pytest.mark.parametrize(
    ("shape", "chunk", "shard"),
    [
        ((160, 224, 224), (16, 224, 224), (160, 224, 224)),
        ((47, 256, 256), (16, 256, 256), (48, 256, 256)),
        ((5, 10, 12), (5, 10, 12), (5, 10, 12)),
        ((200, 512, 512), (32, 64, 64), (224, 512, 512)),
        ((47, 300, 40), (32, 64, 40), (64, 320, 40)),
    ],
)
def test_small_grids_get_slabs_and_large_ones_blocks(shape, chunk, shard):
    assert chunk_shape(shape) == chunk
    assert shard_shape(shape) == shard


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(CtloadError, match="fast, archive"):
        profile_named("gzip")
