"""Text units: which part of the report a step is about. A global step enters, a unit and its ordinal leave.

A schedule is a closed form: the unit of any step, and how many batches of that unit came before it, without a walk
through history. This file knows nothing of studies or texts.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ctload.errors import SamplerError
from ctload.sampling.draw import derive_key, permute

SCHEDULES = ("alternate", "full", "sections")


class UnitStep(NamedTuple):
    """The unit of a step, and how many earlier steps had the same unit."""

    unit: str
    num_before: int


@dataclass(frozen=True)
class AlternatingUnits:
    """Full reports and single sections in turn, as Merlin trains (schedule "alternate").

    Even global steps take the full report. Odd ones take one section for the whole batch; the sections are visited
    in rounds, each round once through all of them in an order of its own drawn from the seed, so that after any
    number of steps the sections' counts differ by at most one.

    Args:
        sections: Names of the sections; a column "by:section" tells the sampler which studies are normal there.
        full: Name of the full report's unit.
        schedule: "alternate"; "full", every step the full report; or "sections", every step a section.

    Raises:
        SamplerError: An unknown schedule, no section where one is needed, or a name twice.
    """

    sections: tuple[str, ...]
    full: str = "report"
    schedule: str = "alternate"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", tuple(self.sections))
        if self.schedule not in SCHEDULES:
            raise SamplerError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.schedule != "full" and not self.sections:
            raise SamplerError(f"schedule {self.schedule!r} needs at least one section; or use schedule='full'")
        if not all((self.full, *self.sections)):
            raise SamplerError(f"a text unit has an empty name: full={self.full!r}, sections={self.sections}")
        if len({self.full, *self.sections}) != 1 + len(self.sections):
            raise SamplerError(f"a unit stands twice in full={self.full!r}, sections={self.sections}; name each once")

    @property
    def names(self) -> tuple[str, ...]:
        """The units that steps can have, the full report first."""
        if self.schedule == "full":
            return (self.full,)
        return self.sections if self.schedule == "sections" else (self.full, *self.sections)

    def at(self, global_step: int, seed: int) -> UnitStep:
        """The unit of a step counted over all epochs, from 0."""
        if self.schedule == "full":
            return UnitStep(self.full, global_step)
        if self.schedule == "sections":
            return self._section(global_step, seed)
        if global_step % 2 == 0:
            return UnitStep(self.full, global_step // 2)
        return self._section(global_step // 2, seed)

    def _section(self, number: int, seed: int) -> UnitStep:
        """The unit of the `number`-th section step: each section has one step in every earlier round."""
        num_rounds, place = divmod(number, len(self.sections))
        section = permute(place, len(self.sections), derive_key(seed, "units", num_rounds))
        return UnitStep(self.sections[section], num_rounds)
