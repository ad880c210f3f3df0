"""Which arms a study compares, and what the literature says should come out.

The claims are those of the paper behind Merlin's batch-composition study (arXiv 2604.13561), which ran each arm once. A
verdict says whether this study's effect has the same sign and stands clear of 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ctclip.study.arm import RANDOM, TWIN, Arm
from ctclip.study.effects import Effect

LEVEL = 0.05
SAME, OPPOSITE, UNRESOLVED, TOO_WEAK = "same direction", "opposite", "unresolved", "instrument too weak"
REPRODUCED = "reproduced"


@dataclass(frozen=True)
class Comparison:
    """A difference of two arms, A - B, with what it isolates."""

    a: str
    b: str
    meaning: str

    @property
    def name(self) -> str:
        return f"{self.a} - {self.b}"


@dataclass(frozen=True)
class Claim:
    """What a paper reports of two arms: `sign` of A - B."""

    text: str
    a: str
    b: str
    sign: int


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "batch-composition": (
        Claim("batches at 25:75 score below random ones", "25:75", RANDOM, -1),
        Claim("batches at 50:50 score below random ones", "50:50", RANDOM, -1),
        Claim("batches at 75:25 score below random ones", "75:25", RANDOM, -1),
        Claim("75:25 is better than 25:75", "75:25", "25:75", 1),
        Claim("75:25 is better than 50:50", "75:25", "50:50", 1),
    ),
    "data-scaling": (
        Claim("20 % of the data scores below all of it", "random, 20% of the data", RANDOM, -1),
        Claim("40 % of the data scores below all of it", "random, 40% of the data", RANDOM, -1),
    ),
    "alternation": (),
    "methods": (),
}


def comparisons_of(kind: str, arms: Sequence[Arm]) -> tuple[Comparison, ...]:
    """The differences that a study reports; every effect of one study is corrected with the others."""
    titles = [arm.title for arm in arms]
    if kind != "batch-composition":
        return tuple(Comparison(title, titles[0], f"against {titles[0]}") for title in titles[1:])
    ratios = [arm.title for arm in arms if arm.normal_share is not None and not arm.is_twin]
    found = []
    for ratio in ratios:
        found += [Comparison(ratio, RANDOM, "ratio and exposure together")]
        if ratio + TWIN in titles:
            found += [
                Comparison(ratio, ratio + TWIN, "ratio within the batch, at equal exposure"),
                Comparison(ratio + TWIN, RANDOM, "exposure alone"),
            ]
    found += [Comparison(high, low, "two ratios") for low, high in _pairs(ratios)]
    known = {claim.a for claim in CLAIMS[kind]} | {claim.b for claim in CLAIMS[kind]}
    return tuple(item for item in found if item.meaning != "two ratios" or {item.a, item.b} <= known)


def _pairs(ratios: Sequence[str]) -> list[tuple[str, str]]:
    """75:25 against each of the others, as the paper's claim is about it."""
    return [(ratio, "75:25") for ratio in ratios if ratio != "75:25" and "75:25" in ratios]


def verdict(claim: Claim, effect: Effect | None, *, is_strong_enough: bool, is_merlin: bool) -> str:
    """Of a claim: same direction | opposite | unresolved, or that the study cannot judge.

    Args:
        claim: To judge.
        effect: Of its two arms, corrected; None where an arm is not there.
        is_strong_enough: The reference arm reached the AUROC that the study asks.
        is_merlin: The cohort is Merlin's own; only then a claim can be called reproduced.
    """
    if not is_strong_enough:
        return TOO_WEAK
    if effect is None or not effect.p_holm < LEVEL:
        return UNRESOLVED
    if effect.value * claim.sign < 0:
        return OPPOSITE
    return REPRODUCED if is_merlin else SAME
