"""Sentences in another order and some left out: never another word, never another normality."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ctclip.errors import ConfigError
from ctclip.texts.text_access import TextAccess
from ctclip.texts.text_augmentation import TextAugmentation, draw_sentences

ALWAYS = TextAugmentation(1.0, 1.0)
PLACE = TextAccess(0, 0, 0, "a", "liver")


def draw(sentences, flags=None, augmentation=ALWAYS, num_fixed=0, **place):
    flags = [False] * len(sentences) if flags is None else flags
    return draw_sentences(sentences, flags, augmentation, replace(PLACE, **place), num_fixed=num_fixed)


@given(
    st.lists(
        st.tuples(st.sampled_from(["A cyst.", "It is large.", "Normal.", "These are new."]), st.booleans()), max_size=9
    ),
    st.integers(0, 2**63),
    st.sampled_from([ALWAYS, TextAugmentation(), TextAugmentation(0, 1, 0), TextAugmentation(1, 1, 0.2, "all")]),
)
def test_a_part_of_the_sentences_each_once_and_as_abnormal_as_before(parts, seed, augmentation):
    sentences, flags = [text for text, _ in parts], [flag for _, flag in parts]
    drawn = draw(sentences, flags, augmentation, seed=seed)
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(len(sentences)))
    assert bool(drawn) == bool(sentences)
    assert any(flags[index] for index in drawn) == any(flags)
    if augmentation.protect == "all":
        assert {index for index, flag in enumerate(flags) if flag} <= set(drawn)
    assert drawn == draw(sentences, flags, augmentation, seed=seed)


def test_short_texts_and_chance_zero_change_nothing():
    never = TextAugmentation(0.0, 0.0)
    for sentences in ([], ["A cyst."], ["A cyst.", "It is large."]):
        assert draw(sentences) == tuple(range(len(sentences)))
    assert all(draw("abcdef", augmentation=never, step=step) == (0, 1, 2, 3, 4, 5) for step in range(50))


@pytest.mark.parametrize("name", ["seed", "epoch", "step", "study", "unit"])
def test_every_coordinate_draws_anew(name):
    values = map(str, range(20)) if name in ("study", "unit") else range(20)
    places = [replace(PLACE, **{name: value}) for value in values]
    assert len({draw_sentences("abcdefgh", [False] * 8, ALWAYS, place) for place in places}) > 15


def test_sentences_that_refer_back_follow_the_one_before():
    sentences = [
        "A cyst.",
        "It measures 4 mm.",
        "The same lesion is new.",
        "A stone.",
        "Its site is the left kidney.",
        "Air.",
    ]
    for step in range(200):
        drawn = list(draw(sentences, step=step))
        for follower in (1, 2, 4):
            if follower in drawn:
                assert drawn[drawn.index(follower) - 1] == follower - 1
        assert (1 in drawn) == (0 in drawn)


def test_fixed_sentences_stay_first():
    for step in range(50):
        assert draw("abcdef", num_fixed=2, step=step)[:2] == (0, 1)


def test_every_order_of_three_is_equally_likely():
    only_order = TextAugmentation(1.0, 0.0)
    counts = Counter(draw("abc", augmentation=only_order, step=step) for step in range(6000))
    assert set(counts) == set(permutations(range(3)))
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_the_share_that_stays_is_even_between_its_bounds():
    num, augmentation = 10, TextAugmentation(0.0, 1.0, 0.5)
    sizes = [len(draw("x" * num, augmentation=augmentation, step=step)) for step in range(4000)]
    assert min(sizes) == 6  # ceil(10 r) with r in (0.5, 1)
    assert max(sizes) == 10
    assert sum(sizes) / len(sizes) == pytest.approx(8, abs=0.1)
    assert draw("abcdef", augmentation=augmentation) == tuple(sorted(draw("abcdef", augmentation=augmentation)))


def test_half_of_the_texts_are_permuted_and_half_are_cut():
    drawn = [draw("abcdefgh", augmentation=TextAugmentation(), step=step) for step in range(2000)]
    assert sum(one != tuple(sorted(one)) for one in drawn) / 2000 == pytest.approx(0.5, abs=0.05)
    assert sum(len(one) < 8 for one in drawn) / 2000 == pytest.approx(0.5 * 0.75, abs=0.05)


def test_chances_outside_their_range_are_refused():
    for name in ("permute", "drop", "min_share"):
        with pytest.raises(ConfigError, match=rf"{name}=1.5 is outside"):
            replace(ALWAYS, **{name: 1.5})
