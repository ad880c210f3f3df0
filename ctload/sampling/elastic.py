"""Going on at another batch size: a position in studies enters, the rest of the epoch in other batches leaves.

Sequential and shuffled orders are one list of studies per epoch, so only where a batch begins changes; every study
still comes once. Batches of strata are not cut from one list: their quotas count batches.
"""

from dataclasses import dataclass

from ctload.sampling.bound import BoundSampler, BoundSequential, BoundShuffle, Draw, check_step, next_member
from ctload.sampling.draw import derive_key

ListSampler = BoundSequential | BoundShuffle


@dataclass(frozen=True)
class BoundResumed:
    """A list of studies whose batches, in one epoch, begin `shift` studies off the multiples of the batch size.

    Attributes:
        inner: What draws every other epoch.
        epoch: Where the batch size changed.
        shift: Batch `step` of that epoch begins at step * batch_size + shift of the list; -batch_size < shift <= 0.
    """

    inner: ListSampler
    epoch: int
    shift: int

    @property
    def batch_size(self) -> int:
        return self.inner.batch_size

    @property
    def num_batches(self) -> int:
        return self.inner.num_batches

    @property
    def seed(self) -> int:
        return self.inner.seed

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def draw(self, epoch: int, step: int) -> Draw:
        if epoch != self.epoch:
            return self.inner.draw(epoch, step)
        check_step(epoch, step, num_batches_of(self, epoch))
        start = step * self.batch_size + self.shift
        return self.inner.draw_range(epoch, start, min(start + self.batch_size, self.inner.num_listed))

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key, batch = derive_key(self.seed, "substitute", epoch, step), self.draw(epoch, step).rows
        return next_member(self.inner.members, row, key, attempt, batch=batch)


def num_batches_of(bound: BoundSampler, epoch: int) -> int:
    """Batches of one epoch: another number than usual where the batch size changed inside it."""
    if not isinstance(bound, BoundResumed) or epoch != bound.epoch:
        return bound.num_batches
    left = bound.inner.num_listed - bound.shift
    return left // bound.batch_size if bound.inner.drop_last else -(-left // bound.batch_size)


def shift_in(bound: BoundSampler, epoch: int) -> int:
    """How far the batches of one epoch begin off the multiples of the batch size."""
    return bound.shift if isinstance(bound, BoundResumed) and bound.epoch == epoch else 0


def resume_at(bound: ListSampler, epoch: int, consumed: int) -> tuple[BoundSampler, int]:
    """The order after `consumed` studies of an epoch, and the step that comes next.

    A step number of num_batches_of or more says that the epoch is over.
    """
    step = -(-consumed // bound.batch_size)
    shift = consumed - step * bound.batch_size
    return (BoundResumed(bound, epoch, shift) if shift else bound), step
