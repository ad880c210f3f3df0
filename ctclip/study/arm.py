"""Arms of a study: what a strategy changes in the configuration that all share, and nothing else.

An arm is data. This file knows nothing of seeds, runs or scores.
"""

import re
from dataclasses import dataclass, replace
from typing import get_args

from ctclip.config import DataConfig, TrainConfig
from ctclip.errors import StudyError
from ctclip.objectives.parameters import ObjectiveName

RANDOM, TWIN = "random", "-twin"
RATIO = re.compile(r"(\d+):(\d+)(-twin)?")
RATIOS = ("25:75", "50:50", "75:25")
OBJECTIVES = get_args(ObjectiveName)
KINDS = ("batch-composition", "data-scaling", "alternation", "methods")
# What the arms of a kind may differ in; everything else is equal or refused.
FREE_FIELDS = {
    "batch-composition": {"data.sampler", "data.quotas"},
    "data-scaling": {"data.fraction", "data.fractions", "data.sampler", "data.quotas"},
    "alternation": {"data.schedule"},
    "methods": {"objective"},
}


@dataclass(frozen=True)
class Arm:
    """One strategy of a study.

    Attributes:
        strategy: "random", a ratio normal:abnormal such as "25:75", or its shuffled twin "25:75-twin".
        fraction: Share of the training studies.
        schedule: Text units of the steps: alternate | full | sections.
        objective: Names of the terms of the loss.
    """

    strategy: str = RANDOM
    fraction: float = 1.0
    schedule: str = "alternate"
    objective: tuple[str, ...] = ("clip",)

    def __post_init__(self) -> None:
        ratio = RATIO.fullmatch(self.strategy)
        if self.strategy != RANDOM and (ratio is None or int(ratio[1]) + int(ratio[2]) == 0):
            raise StudyError(
                f"no strategy {self.strategy!r}; there are random, a ratio normal:abnormal such as 25:75, and its "
                "shuffled twin 25:75-twin"
            )
        if not 0 < self.fraction <= 1:
            raise StudyError(f"arm {self.title!r} asks for {self.fraction:g} of the studies; a share lies in (0, 1]")
        unknown = [name for name in self.objective if name not in OBJECTIVES]
        if unknown or not self.objective:
            raise StudyError(
                f"arm {self.title!r}: no objective {' + '.join(unknown)!r}; there are {', '.join(OBJECTIVES)}, joined "
                "by + where several are minimised"
            )

    @property
    def name(self) -> str:
        """Short, unique within a study, fit for a folder."""
        words = [self.strategy.replace(":", "to")]
        words += [f"{self.fraction:.0%}".replace("%", "pct")] if self.fraction != 1 else []
        words += [self.schedule] if self.schedule != "alternate" else []
        words += list(self.objective) if self.objective != ("clip",) else []
        return "_".join(words)

    @property
    def title(self) -> str:
        """For a table."""
        words = [self.strategy]
        words += [f"{self.fraction:.0%} of the data"] if self.fraction != 1 else []
        words += [f"schedule {self.schedule}"] if self.schedule != "alternate" else []
        words += [" + ".join(self.objective)] if self.objective != ("clip",) else []
        return ", ".join(words)

    @property
    def normal_share(self) -> float | None:
        """Share of normal studies that a batch is asked to have; None for random."""
        found = RATIO.fullmatch(self.strategy)
        if found is None:
            return None
        normal, abnormal = int(found[1]), int(found[2])
        return normal / (normal + abnormal)

    @property
    def is_twin(self) -> bool:
        return self.strategy.endswith(TWIN)


def arms_of(
    kind: str,
    *,
    ratios: tuple[str, ...] = RATIOS,
    fractions: tuple[float, ...] = (0.2, 0.4, 1.0),
    objectives: tuple[tuple[str, ...], ...] = (("clip",),),
) -> tuple[Arm, ...]:
    """The arms of a kind of study, the one that others are compared with first.

    Raises:
        StudyError: No such kind, a ratio that is none, or the same arm twice.
    """
    if kind == "batch-composition":
        arms = [Arm(), *(Arm(ratio) for ratio in ratios), *(Arm(ratio + TWIN) for ratio in ratios)]
    elif kind == "data-scaling":
        arms = [Arm(fraction=fraction) for fraction in sorted(fractions, reverse=True)]
    elif kind == "alternation":
        arms = [Arm(), Arm(schedule="full"), Arm(schedule="sections")]
    elif kind == "methods":
        arms = [Arm(objective=objective) for objective in objectives]
    else:
        raise StudyError(f"no study {kind!r}; there are {', '.join(KINDS)}")
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(f"arm {twice[0]!r} is asked for twice; give each ratio, fraction and objective once")
    return tuple(arms)


def configure(arm: Arm, base: TrainConfig) -> TrainConfig:
    """The base configuration with what the arm changes.

    `random` draws from the studies of known normality, which are the only ones that the ratios can draw.
    """
    share = arm.normal_share
    data: DataConfig = replace(base.data, fraction=arm.fraction, schedule=arm.schedule, eligible="normality")  # pyright: ignore[reportArgumentType]
    if arm.fraction == 1:  # no share is drawn; so that these cells are the same in studies of any shares
        data = replace(data, fractions=DataConfig().fractions)
    if share is not None:
        quotas = {"normal": 100 * share, "abnormal": 100 * (1 - share)}
        data = replace(data, sampler="twin" if arm.is_twin else "stratified", quotas=quotas)
    return replace(base, data=data, objective=arm.objective)  # pyright: ignore[reportArgumentType]
