"""BatchOrder: which batch of one rank comes at which step. Positions enter, plans leave; nothing is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ctload.planning.augment import Augment
from ctload.planning.crop import Crop
from ctload.planning.drawing import draw_plan
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.sampling.bound import BoundSampler
from ctload.sampling.elastic import num_batches_of
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class BatchOrder:
    """Everything that decides what the batches of a rank are.

    Attributes:
        bound: The sampler, bound to the studies.
        studies, crop, windows, augment, num_views, rank, world_size: As a Loader has them.
    """

    bound: BoundSampler
    studies: Studies
    crop: Crop
    windows: Sequence[HuWindow]
    augment: Augment | None
    num_views: int
    rank: int
    world_size: int

    def with_bound(self, bound: BoundSampler) -> "BatchOrder":
        """The same with another sampler."""
        return replace(self, bound=bound)


def plan_at(order: BatchOrder, epoch: int, step: int) -> BatchPlan:
    """The plan of the rank's batch at a step of an epoch, windows in HU."""
    whole = draw_plan(
        order.bound,
        order.studies,
        order.crop,
        order.windows,
        order.augment,
        epoch=epoch,
        step=step,
        num_views=order.num_views,
    )
    return whole.rank_slice(order.rank, order.world_size)


def plans_from(order: BatchOrder, epoch: int, step: int) -> Iterator[BatchPlan]:
    """The plans from a step on, epoch after epoch without end; each is drawn when it is asked for."""
    while True:
        for number in range(step, num_batches_of(order.bound, epoch)):
            yield plan_at(order, epoch, number)
        epoch, step = epoch + 1, 0
