"""HU windows: which range of stored values becomes [0, 1]. Knows nothing of volumes or pipelines."""

from dataclasses import dataclass

from ctload.errors import PlanError


@dataclass(frozen=True)
class HuWindow:
    """The clip range [low, high] in HU (or in the unit of the store), mapped linearly to [0, 1].

    Several windows given to a Loader become channels, in their order.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise PlanError(
                f"HuWindow needs low < high, got low={self.low}, high={self.high} (HU); "
                "for level and width use HuWindow.from_level"
            )

    @classmethod
    def from_level(cls, level: float, width: float) -> "HuWindow":
        """The window of a radiologist's level and width, both in HU."""
        if width <= 0:
            raise PlanError(f"HuWindow.from_level needs width > 0 HU, got {width}")
        return cls(level - width / 2, level + width / 2)
