"""Ranks: who this process is, and features gathered from all ranks with their gradients.

Under torchrun each rank holds a contiguous slice of the global batch; the loss is that of the whole batch. Alone, a
process is rank 0 of 1 and nothing is initialised. gloo on the CPU, nccl on CUDA.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ctclip.errors import ConfigError
from ctclip.models.features import Features

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: 0 .. size - 1; rank 0 writes.
        size: Number of ranks.
        device: Where this rank computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0


@contextmanager
def open_world(device: str, *, timeout_s: float = 1800.0) -> Iterator[World]:
    """Join the ranks that torchrun started, for the length of the block; alone where it started none.

    Args:
        device: "cpu", "cuda" or "auto" (CUDA where there is a device).
        timeout_s: How long a rank waits for the others, seconds.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s))
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()


def choose_device(device: str, *, local_rank: int = 0) -> torch.device:
    """The torch device of "cpu", "cuda" or "auto".

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda', but torch finds no CUDA device; use device='cpu' or 'auto'")
    return torch.device("cuda", local_rank) if device == "cuda" else torch.device("cpu")


def gather_features(features: Features, world: World) -> Features:
    """Features of the global batch, in its order, on every rank.

    Every rank computes the loss of the whole batch from them, so each has the full gradient of its own rows at once
    and nothing is reduced on the way back. The gradient is multiplied by the number of ranks, because
    DistributedDataParallel averages the parameters' gradients over ranks where their sum is wanted. The logit
    scale's gradient is the whole one on every rank, and its average is right as it is.
    """
    if world.size == 1:
        return features
    query = None if features.query is None else gather_rows(features.query, world)
    return Features(gather_rows(features.image, world), gather_rows(features.text, world), features.logit_scale, query)


def gather_rows(rows: Tensor, world: World) -> Tensor:
    """Rows (N, ...) of the global batch, in its order, on every rank; as many on each. Their gradient, where they
    have one, is that of `gather_features`.
    """
    return rows if world.size == 1 else _GatherRows.apply(rows, world)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, world: World) -> Tensor:
        ctx.world, ctx.num_rows = world, len(rows)
        parts = [torch.empty_like(rows) for _ in range(world.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        (grad,) = grad_outputs
        start = ctx.world.rank * ctx.num_rows
        return ctx.world.size * grad[start : start + ctx.num_rows], None


def is_any(flag: bool, world: World) -> bool:
    """Whether the flag is set on any rank; every rank gets the same answer."""
    if world.size == 1:
        return flag
    votes = torch.tensor(int(flag), device=world.device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def wait_for_all(world: World) -> None:
    """Return when every rank has come here."""
    if world.size > 1:
        dist.barrier()


def gather_studies(study: tuple[str, ...], world: World) -> tuple[str, ...]:
    """Study ids of the global batch, in its order, on every rank; each calls it with its own part."""
    if world.size == 1:
        return study
    return tuple(name for part in gather_objects(study, world) for name in part)


def gather_objects(value: T, world: World) -> list[T]:
    """Every rank's value, in the order of ranks, on every rank; small plain data."""
    if world.size == 1:
        return [value]
    parts: list[Any] = [None] * world.size
    dist.all_gather_object(parts, value)
    return parts


def smallest(number: int, world: World) -> int:
    """The smallest of all ranks' numbers, on every rank."""
    if world.size == 1:
        return number
    votes = torch.tensor(number, device=world.device)
    dist.all_reduce(votes, op=dist.ReduceOp.MIN)
    return int(votes.item())
