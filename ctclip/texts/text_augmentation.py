"""CA-GCL's augmentation of texts: another order of an anatomy's sentences, and some of them left out.

Only indices are drawn; no word is inserted, edited or cut. A draw is a function of the access's coordinates. Training
only. The abstract names permutation invariance and partial completeness (arXiv 2605.13544); all probabilities are
inferred.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctclip.errors import ConfigError
from ctclip.texts.text_access import TextAccess

# "It measures 4 mm." means nothing without the sentence before it.
_ANAPHOR = re.compile(r"(?:it|its|this|these|they|the (?:described|defined|mentioned|same))\b", re.I)


@dataclass(frozen=True)
class TextAugmentation:
    """How often, and how much.

    Raises:
        ConfigError: A probability or a share outside [0, 1].
    """

    permute: float = 0.5
    """Chance that the sentences come in another order. [inferred]"""
    drop: float = 0.5
    """Chance that some are left out. [inferred]"""
    min_share: float = 0.5
    """Smallest share of sentences that stays; the share is even between it and 1. [inferred]"""
    protect: Literal["one", "all"] = "one"
    """Of an abnormal text's abnormal sentences: at least one stays, or all do. [inferred]"""

    def __post_init__(self) -> None:
        for name in ("permute", "drop", "min_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"text augmentation {name}={value} is outside [0, 1]")


def draw_sentences(
    sentences: Sequence[str],
    is_abnormal: Sequence[bool],
    augmentation: TextAugmentation,
    access: TextAccess,
    *,
    num_fixed: int = 0,
) -> tuple[int, ...]:
    """Which sentences are read, and in which order: indices into `sentences`, each at most once.

    Sentences that refer back go with the one before. A text with an abnormal sentence keeps one, so that its
    normality stays what it was. One sentence, or none, is left as it is.

    Args:
        sentences: Of one anatomy, in order.
        is_abnormal: One flag each.
        augmentation: How often, and how much.
        access: From which it draws.
        num_fixed: Leading sentences that stay first.
    """
    groups = _groups(sentences, num_fixed)
    if len(groups) < 2:
        return tuple(range(len(sentences)))
    rng = access.generator("sentences")
    is_permuted, is_partial = rng.random(2) < (augmentation.permute, augmentation.drop)
    order = rng.permutation(len(groups)) if is_permuted else np.arange(len(groups))
    if is_partial:
        sick = [k for k, group in enumerate(groups) if any(is_abnormal[index] for index in group)]
        kept = _draw_kept(len(groups), sick, augmentation, rng)
        order = [k for k in order if k in kept]
    return (*range(num_fixed), *(index for k in order for index in groups[k]))


def _groups(sentences: Sequence[str], num_fixed: int) -> list[list[int]]:
    """Indices that stay together, in order."""
    groups: list[list[int]] = []
    for index in range(num_fixed, len(sentences)):
        if groups and _ANAPHOR.match(sentences[index].lstrip()):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _draw_kept(num: int, sick: list[int], augmentation: TextAugmentation, rng: np.random.Generator) -> set[int]:
    """max(1, ceil(r n)) of n groups, even among those that hold what must stay."""
    share = rng.uniform(augmentation.min_share, 1)
    count = max(1, math.ceil(share * num))
    drawn = {int(k) for k in rng.permutation(num)[:count]}
    if augmentation.protect == "all":
        others = [int(k) for k in rng.permutation(num) if k not in sick]
        return {*sick, *others[: max(0, count - len(sick))]}
    if sick and not drawn & set(sick):
        one = int(sick[rng.integers(len(sick))])
        rest = [k for k in rng.permutation(num).tolist() if k != one]
        drawn = {one, *rest[: count - 1]}
    return drawn
