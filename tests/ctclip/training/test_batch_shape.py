"""How a batch is cut: numbers divide each other, or are refused by name with those that would."""

from dataclasses import replace

import pytest

from ctclip.config import DataConfig
from ctclip.errors import ConfigError
from ctclip.presets import PRESETS
from ctclip.training.batch_shape import micro_batch_candidates, shape_batch


def config_of(batch_size: int = 16, **changes):
    return replace(PRESETS["tiny"], data=DataConfig(batch_size=batch_size), **changes)


@pytest.mark.parametrize(
    ("batch_size", "ranks", "micro_batch", "bn_group", "wanted"),
    [
        (16, 1, "off", 0, (16, 16, 16)),
        (16, 2, "off", 0, (8, 8, 8)),
        (16, 2, 4, 0, (8, 4, 4)),
        (16, 2, 4, 2, (8, 4, 2)),
        (16, 4, 8, 4, (4, 4, 4)),  # a forward pass is a rank's part at most
        (18, 1, 6, 6, (18, 6, 6)),
        (16, 4, "off", 8, (4, 4, 8)),  # two ranks share statistics
    ],
)
def test_shapes_that_divide(batch_size, ranks, micro_batch, bn_group, wanted):
    shape = shape_batch(config_of(batch_size, micro_batch=micro_batch, bn_group=bn_group), ranks)
    assert (shape.rank_batch, shape.micro_batch, shape.bn_group) == wanted
    assert shape.ranks_per_group == max(1, wanted[2] // wanted[0])
    assert shape.tower_batch == min(wanted[1:])


@pytest.mark.parametrize(
    ("ranks", "micro_batch", "bn_group", "words"),
    [
        (3, "off", 0, r"number of ranks \(3\) must divide data.batch_size \(16\), which 1, 2, 4, 8, 16 do"),
        (1, 5, 0, r"micro_batch \(5\) must divide the studies of a rank \(16\)"),
        (1, "off", 3, r"bn_group \(3\) must divide data.batch_size \(16\)"),
        (1, 4, 8, "gradient cache cannot give"),
        (1, 2, 16, "Take bn_group=2 or less"),
    ],
)
def test_what_does_not_divide_is_refused_with_the_way_out(ranks, micro_batch, bn_group, words):
    with pytest.raises(ConfigError, match=words):
        shape_batch(config_of(micro_batch=micro_batch, bn_group=bn_group), ranks)


def test_auto_chooses_among_whole_groups():
    assert micro_batch_candidates(config_of(18), 1) == (18, 9, 6, 3, 2, 1)
    assert micro_batch_candidates(config_of(18, bn_group=3), 1) == (18, 9, 6, 3)
    assert micro_batch_candidates(config_of(16, bn_group=16), 2) == (8,)
