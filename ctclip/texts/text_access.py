"""The coordinates of one reading of one study's text, from which everything random about it is drawn."""

from dataclasses import dataclass

import numpy as np

from ctload.sampling.draw import derive_key


@dataclass(frozen=True)
class TextAccess:
    """Which reading it is.

    Attributes:
        seed: Of the run.
        epoch: Of the loader.
        step: Within the epoch.
        study: Its id.
        unit: Text unit or anatomy.
    """

    seed: int
    epoch: int
    step: int
    study: str
    unit: str = ""

    def key(self, purpose: str) -> int:
        """A 64-bit key, the same for the same coordinates and purpose."""
        return int(derive_key(self.seed, purpose, self.epoch, self.step, self.study, self.unit))

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator of its own for one purpose."""
        return np.random.Generator(np.random.Philox(key=self.key(purpose)))
