"""Losses of recent steps: kept on the device, looked at when asked; one that is not finite is never passed over."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctclip.errors import DivergedError
from ctclip.texts.text_units import FULL

MAX_SKIPPED_IN_A_ROW = 10


class SkippedStepWarning(UserWarning):
    """A step's loss or gradient was not finite; it changed nothing and training went on (on_nonfinite="skip")."""


@dataclass(frozen=True)
class SkippedStep:
    """A step that changed nothing.

    Attributes:
        step: Counted from 1.
        unit: Its text unit.
        study: Of the global batch, in its order.
        loss, norm: One of them is not finite.
    """

    step: int
    unit: str
    study: tuple[str, ...]
    loss: float
    norm: float

    def __str__(self) -> str:
        return (
            f"step {self.step} has loss {self.loss} and gradient norm {self.norm}, which must be finite; text unit "
            f"{self.unit!r}, studies {', '.join(self.study)}"
        )


@dataclass(frozen=True)
class _Unseen:
    step: int
    unit: str
    study: tuple[str, ...]
    values: Tensor  # (2,): loss and gradient norm


class LossWatch:
    """Collects each step's loss and gradient norm without waiting for the device.

    Args:
        on_nonfinite: "stop" or "skip".
        gather: This rank's study ids in, those of the global batch out; called on every rank at the same look.
        num_skipped: Skipped before this process.
    """

    def __init__(
        self,
        *,
        on_nonfinite: str = "stop",
        gather: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda study: study,
        num_skipped: int = 0,
    ) -> None:
        self._unseen: list[_Unseen] = []
        self._seen: list[tuple[str, float, float]] = []
        self._is_skipping = on_nonfinite == "skip"
        self._gather = gather
        self._skipped: list[SkippedStep] = []
        self._in_a_row = 0
        self.num_skipped = num_skipped
        self.last = math.nan

    def add(self, step: int, unit: str, study: tuple[str, ...], loss: Tensor, norm: Tensor) -> None:
        """Remember a step (counted from 1) with the text unit and the studies of this rank's batch."""
        self._unseen.append(_Unseen(step, unit, study, torch.stack([loss, norm])))

    def look(self) -> None:
        """Read what was added since the last look; waits for the device.

        Raises:
            DivergedError: A loss or a norm is not finite and the policy is to stop, or too many in a row were not;
                names the step and its studies.
        """
        if not self._unseen:
            return
        values = torch.stack([entry.values for entry in self._unseen]).tolist()
        for entry, (loss, norm) in zip(self._unseen, values, strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                self._seen.append((entry.unit, loss, norm))
                self._in_a_row = 0
            else:
                self._skip(SkippedStep(entry.step, entry.unit, self._gather(entry.study), loss, norm))
        self.last = values[-1][0]
        self._unseen.clear()

    def take(self) -> dict[str, float]:
        """Means over the steps seen since the last call: loss, of full reports and of sections, and the norm."""
        full = [loss for unit, loss, _ in self._seen if unit == FULL]
        sections = [loss for unit, loss, _ in self._seen if unit != FULL]
        groups = {
            "loss": full + sections,
            "loss_report": full,
            "loss_sections": sections,
            "gradient_norm": [norm for *_, norm in self._seen],
        }
        self._seen = []
        return {name: sum(values) / len(values) for name, values in groups.items() if values}

    def take_skipped(self) -> list[SkippedStep]:
        """Steps skipped since the last call."""
        taken, self._skipped = self._skipped, []
        return taken

    def _skip(self, step: SkippedStep) -> None:
        self._skipped.append(step)
        self._in_a_row += 1
        self.num_skipped += 1
        advice = (
            "Look at these studies (`ctload verify`), or go on from the last checkpoint with a lower "
            "optim.learning_rate or a longer optim.warmup_steps"
        )
        if not self._is_skipping:
            raise DivergedError(f"{step}. {advice}; on_nonfinite=skip goes on without such steps")
        if self._in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(f"{self._in_a_row} steps in a row were skipped, the last: {step}. {advice}")
        warnings.warn(f"skipped: {step}", SkippedStepWarning, stacklevel=3)
