"""How a batch is cut: into the ranks' parts, forward passes, and groups that share batch-norm statistics.

Enter the configuration's numbers and the number of ranks; leave numbers that divide each other, or a refusal that
names the ones that do not. It knows nothing of torch.
"""

from dataclasses import dataclass

from ctclip.config import TrainConfig
from ctclip.errors import ConfigError


@dataclass(frozen=True)
class BatchShape:
    """Numbers of studies, each a divisor of the one before it, but for a bn_group beyond rank_batch.

    Attributes:
        batch_size: Per optimizer step, over all ranks.
        rank_batch: Of one rank.
        micro_batch: Of one forward pass; below rank_batch the gradient cache is used.
        bn_group: That share batch-norm statistics; beyond rank_batch a whole number of ranks shares them.
    """

    batch_size: int
    rank_batch: int
    micro_batch: int
    bn_group: int

    @property
    def ranks_per_group(self) -> int:
        """Ranks that share batch-norm statistics."""
        return max(1, self.bn_group // self.rank_batch)

    @property
    def tower_batch(self) -> int:
        """Studies that the towers see at once: those of one group in one forward pass."""
        return min(self.bn_group, self.micro_batch)


def shape_batch(config: TrainConfig, world_size: int, *, micro_batch: int | None = None) -> BatchShape:
    """The shape of a configuration's batches.

    Args:
        config: Of the run.
        world_size: Number of ranks.
        micro_batch: What micro_batch="auto" found.

    Raises:
        ConfigError: Numbers that do not divide; names them and those that would.
    """
    batch_size = config.data.batch_size
    _expect_divides("the number of ranks", world_size, "data.batch_size", batch_size)
    rank_batch = batch_size // world_size
    forward = rank_batch if micro_batch is None and config.micro_batch in ("off", "auto") else config.micro_batch
    forward = min(rank_batch, micro_batch if micro_batch is not None else int(forward))
    _expect_divides("micro_batch", forward, "the studies of a rank", rank_batch)
    group = config.bn_group or forward
    _expect_divides("bn_group", group, "data.batch_size", batch_size)
    if group <= forward:
        _expect_divides("bn_group", group, "the studies of a forward pass", forward)
    elif forward < rank_batch:
        raise ConfigError(
            f"bn_group={group} is more than micro_batch={forward}: batch norm would need statistics over several "
            f"forward passes, which the gradient cache cannot give. Take bn_group={forward} or less, or micro_batch=off"
        )
    else:
        _expect_divides("the studies of a rank", rank_batch, "bn_group", group)
    return BatchShape(batch_size, rank_batch, forward, group)


def micro_batch_candidates(config: TrainConfig, world_size: int) -> tuple[int, ...]:
    """Sizes of a forward pass that a configuration allows, largest first; what micro_batch="auto" chooses from."""
    rank_batch = shape_batch(config, world_size).rank_batch
    group = config.bn_group or 1
    if group > rank_batch:
        return (rank_batch,)
    return tuple(size for size in divisors(rank_batch)[::-1] if size % group == 0)


def divisors(number: int) -> list[int]:
    """Divisors of a number, rising."""
    return [size for size in range(1, number + 1) if number % size == 0]


def _expect_divides(name: str, value: int, of: str, whole: int) -> None:
    if value < 1 or whole % value:
        near = ", ".join(map(str, divisors(whole)))
        raise ConfigError(f"{name} ({value}) must divide {of} ({whole}), which {near} do")
