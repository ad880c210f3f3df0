"""Weighted sampling: a column of weights enters, batches in which studies come in proportion to it leave.

Source of the draw: systematic sampling (Madow and Madow, "On the theory of systematic sampling, I", Annals of
Mathematical Statistics 15 (1944) 1-24), over studies in keyed random order: no count strays by a whole study.
"""

from dataclasses import dataclass, field

import numpy as np

from ctload.errors import SamplerError
from ctload.sampling.bound import BoundSampler, Draw, check_step, next_member, sampler_fingerprint
from ctload.sampling.draw import derive_key, permute_range, spread_repeats
from ctload.sampling.sampler import check_numbers, whole_batches
from ctload.sampling.strata import column_of
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class WeightedSampler:
    """Studies in proportion to a weight.

    Rules:
        1. An epoch has floor(studies of weight above 0 / batch_size) batches.
        2. With k = draws of an epoch * weight / sum of weights, a study comes floor(k) or ceil(k) times in it, k in the
           mean over epochs.
        3. The draws stand in random order; one that would come twice in a batch is moved to a batch where it does not,
           where there is one.

    An epoch is drawn at once and kept, about 0.2 s for a million studies.

    Args:
        weights: Column of numbers >= 0; 0 is never drawn.
        batch_size: Studies per batch, over all ranks.
        seed: Of the order, and of the crops and augmentations drawn with it.
    """

    weights: str
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        check_numbers(self.batch_size, self.seed)

    def bind(self, studies: Studies) -> BoundSampler:
        weights = _weights(studies, self.weights)
        rows = np.flatnonzero(weights > 0)
        num_batches = whole_batches(len(rows), self.batch_size)
        return BoundWeighted(studies, repr(self), rows, weights[rows], self.batch_size, num_batches, self.seed)


@dataclass(frozen=True)
class BoundWeighted:
    """A weighted sampler that has met its studies. `kept` holds the epoch drawn last; a draw does not depend on it.

    Attributes:
        rows: Rows of weight above 0, ascending, int64.
        weights: (len(rows),) float64.
    """

    studies: Studies
    description: str
    rows: np.ndarray
    weights: np.ndarray
    batch_size: int
    num_batches: int
    seed: int
    kept: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.studies, self.description)

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        number, batches = self.kept.get("epoch", (-1, np.empty(0)))
        if number != epoch:
            batches = self._draw_epoch(epoch)
            self.kept["epoch"] = (epoch, batches)
        return Draw(batches[step].copy(), "")

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key, batch = derive_key(self.seed, "substitute", epoch, step), self.draw(epoch, step).rows
        return next_member(self.rows, row, key, attempt, batch=batch)

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """(num_batches, B) int64 rows."""
        order = np.empty(len(self.rows), np.int64)
        permute_range(order, 0, len(order), derive_key(self.seed, "weighted order", epoch))
        reached = np.cumsum(self.weights[order])
        num_draws = self.num_batches * self.batch_size
        start = float(derive_key(self.seed, "weighted start", epoch)) / 2.0**64
        points = (np.arange(num_draws) + start) * (reached[-1] / num_draws)
        drawn = order[np.minimum(np.searchsorted(reached, points, side="right"), len(order) - 1)]
        places = np.empty(num_draws, np.int64)
        permute_range(places, 0, num_draws, derive_key(self.seed, "weighted places", epoch))
        batches = self.rows[drawn[places]].reshape(self.num_batches, self.batch_size)
        spread_repeats(batches)
        return batches


def _weights(studies: Studies, name: str) -> np.ndarray:
    """(N,) float64, checked.

    Raises:
        SamplerError: No such column of numbers, or a weight that is none.
    """
    column = column_of(studies, name)
    try:
        weights = column.cast("float64").to_numpy()
    except (ValueError, NotImplementedError) as error:
        raise SamplerError(f"column {name!r} holds {column.type}; weights are numbers >= 0") from error
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise SamplerError(
            f"weight {weights[row]} in column {name!r}, as in {int(wrong.sum())} of {len(studies)} studies; "
            "weights are numbers >= 0, and 0 is never drawn",
            study=studies.table["study"][row].as_py(),
        )
    return weights
