"""The knobs of a phantom cohort: what is asked of it, checked once, here.

A knob is data: two cohorts with the same knobs and seed are the same bytes. `realistic` is an adult abdominal practice,
`demo` a cohort of strong, common findings for a small network at coarse resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.errors import KnobError
from ctclip.phantom.organs import PHASES
from ctclip.phantom.prevalence import MALE_SHARE, conditional_prevalence

PLANTED = ("none", "25:75", "50:50", "75:25")
SERIES = ("kernel", "phase")
EMPTY: Mapping[str, float] = MappingProxyType({})

DEMO_FINDINGS = (
    "ascites", "pleural_effusion", "hepatic_steatosis", "splenomegaly", "hepatomegaly", "cardiomegaly", "free_air",
    "atelectasis", "bowel_obstruction", "anasarca", "abdominal_aortic_aneurysm", "osteopenia",
)  # fmt: skip
"""Findings that fill many voxels even at 6 mm."""
DEMO_PREVALENCE: dict[str, float] = dict.fromkeys(DEMO_FINDINGS, 0.35)
DEMO_SECTIONS = tuple(dict.fromkeys(CATALOGUE[name].section for name in FINDINGS if name in DEMO_FINDINGS))
"""Report sections in which the demo's findings are stated; the others are normal in nearly every demo study."""


def realistic_prevalence() -> dict[str, float]:
    """The catalogue's prevalences."""
    return {finding: facts.prevalence for finding, facts in CATALOGUE.items()}


@dataclass(frozen=True)
class Knobs:
    """What a cohort is asked to be.

    Args:
        prevalence: Share of studies per finding, [0, 1]; findings left out keep the catalogue's.
        effect: Multiplier of a finding's departure from normal (HU and mm), [0, 4]; 1 is the literature's, 0 makes a
            finding that is in the truth and cannot be seen; findings left out have 1.
        severity: Shares of mild, moderate and severe.
        normal_share: Share of patients without any finding, [0, 1).
        phases: Shares of unenhanced, arterial and venous studies.
        noise: Multiplier of the scanner noise, [0, 10].
        sharp_share: Share of studies with a sharp kernel, [0, 1].
        variation: Multiplier of the spread of anatomy, habitus and positioning, [0, 2].
        omission: Chance that a report leaves out a present finding, [0, 1]; a third of it leaves out a section.
        denial: Chance that a report denies an absent finding by name, [0, 1].
        variety: Chance that a sentence is worded in any of the known ways and not in the first, [0, 1].
        planted: Batch ratio normal:abnormal that is to win by construction; see `planting`.
        is_null: Reports are written from a truth drawn anew, so text and volume share nothing.
        repeat_share: Share of patients with a second study; half of these have a third.
        series: Further series per study: "kernel", "phase".
        incidental_share: Share of studies with each abnormality outside the thirty.

    Raises:
        KnobError: A value outside its range, an unknown finding, shares that cannot be had together.
    """

    prevalence: Mapping[str, float] = field(default_factory=realistic_prevalence)
    effect: Mapping[str, float] = field(default_factory=dict)
    severity: tuple[float, float, float] = (0.4, 0.35, 0.25)
    normal_share: float = 0.08
    phases: tuple[float, float, float] = (0.2, 0.1, 0.7)
    noise: float = 1.0
    sharp_share: float = 0.2
    variation: float = 1.0
    omission: float = 0.05
    denial: float = 0.4
    variety: float = 1.0
    planted: str = "none"
    is_null: bool = False
    repeat_share: float = 0.15
    series: tuple[str, ...] = ()
    incidental_share: float = 0.05

    def __post_init__(self) -> None:
        _check_findings("prevalence", self.prevalence, 1.0)
        _check_findings("effect", self.effect, 4.0)
        object.__setattr__(self, "prevalence", {**realistic_prevalence(), **self.prevalence})
        object.__setattr__(self, "effect", {**dict.fromkeys(FINDINGS, 1.0), **self.effect})
        _check_shares("severity", self.severity, ("mild", "moderate", "severe"))
        _check_shares("phases", self.phases, PHASES)
        for name in ("sharp_share", "omission", "denial", "variety", "repeat_share", "incidental_share"):
            _check_range(name, getattr(self, name), 1.0)
        _check_range("normal_share", self.normal_share, 0.95)
        _check_range("noise", self.noise, 10.0)
        _check_range("variation", self.variation, 2.0)
        if self.planted not in PLANTED:
            raise KnobError(f"planted={self.planted!r} is no batch ratio; choose one of {PLANTED}")
        unknown = [name for name in self.series if name not in SERIES]
        if unknown:
            raise KnobError(f"series {unknown} are unknown; further series are {SERIES}")
        self._check_jointly()

    def _check_jointly(self) -> None:
        for finding in FINDINGS:
            share = conditional_prevalence(finding, self.prevalence, self.normal_share)
            if share > 1 + 1e-9:
                limit = self.prevalence[finding] / share
                raise KnobError(
                    f"prevalence of {finding} is {self.prevalence[finding]}, but at most {limit:.3f} can be had with "
                    f"normal_share={self.normal_share} (men are {MALE_SHARE:.0%}, and no gallbladder has no stones); "
                    "lower it or normal_share"
                )

    def changed(
        self, *, prevalence: Mapping[str, float] = EMPTY, effect: Mapping[str, float] = EMPTY, **fields: Any
    ) -> "Knobs":
        """The same knobs with some prevalences, some effects and some other fields changed."""
        return replace(self, prevalence={**self.prevalence, **prevalence}, effect={**self.effect, **effect}, **fields)

    @classmethod
    def realistic(cls) -> "Knobs":
        """An adult abdominal practice: most findings rare, most studies with several."""
        return cls()

    @classmethod
    def demo(cls) -> "Knobs":
        """Twelve common, strong findings that show at 6 to 7 mm, in plain words; the other eighteen are absent."""
        return cls(
            prevalence={**dict.fromkeys(FINDINGS, 0.0), **DEMO_PREVALENCE},
            effect=dict.fromkeys(DEMO_FINDINGS, 1.3),
            severity=(0.0, 0.5, 0.5),
            normal_share=0.05,
            phases=(0.0, 0.0, 1.0),
            sharp_share=0.0,
            variation=0.6,
            omission=0.0,
            denial=0.0,
            variety=0.3,
            repeat_share=0.0,
            incidental_share=0.1,
        )

    @classmethod
    def study(cls) -> "Knobs":
        """`demo`, with three in ten patients free of findings: both strata of every section and of whole reports are
        filled without drawing a few normal studies over and over."""
        return replace(cls.demo(), normal_share=0.3)

    @classmethod
    def null(cls) -> "Knobs":
        """`realistic`, with reports that share nothing with the volumes."""
        return cls(is_null=True)


PRESETS = {"realistic": Knobs.realistic, "demo": Knobs.demo, "study": Knobs.study, "null": Knobs.null}
"""Knobs by name, for command lines."""


def _check_findings(name: str, values: Mapping[str, float], high: float) -> None:
    for finding, value in values.items():
        if finding not in CATALOGUE:
            raise KnobError(f"{name} names the finding {finding!r}, which is unknown; the findings are {FINDINGS}")
        _check_range(f"{name} of {finding}", value, high)


def _check_range(name: str, value: float, high: float) -> None:
    if not 0 <= value <= high:
        raise KnobError(f"{name}={value} is outside [0, {high:g}]; give a number in this range")


def _check_shares(name: str, shares: tuple[float, ...], names: tuple[str, ...]) -> None:
    if len(shares) != len(names) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise KnobError(f"{name}={shares} are no shares of {names}; give {len(names)} numbers >= 0 that sum to 1")
