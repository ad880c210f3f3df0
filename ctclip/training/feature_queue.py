"""The feature queue: unit vectors of past batches, first in first out, with the studies they are of.

It is a module of buffers alone, so that a checkpoint that holds it resumes exactly. Every rank holds the whole queue
and is given the gathered keys of all ranks in the order of the global batch, so that all hold the same one.

Axes: N rows of a batch, M momentum dimension, K slots.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctclip.errors import ConfigError
from ctclip.objectives.facts import EMPTY, Negatives

MOCO_LENGTH = 65536  # K of He et al. 2020
NOBODY = 2**63 - 1  # id of a random vector, which belongs to no study: not negative, which would be an empty slot


class FeatureQueue(nn.Module):
    """K slots. Any batch size does; of a batch larger than the queue the last K rows stay.

    Args:
        length: K, 1 or more.
        dim: M.
        init: "masked": slots are empty until they are written, and empty slots are no negatives. "random": unit
            vectors that belong to no study, as in MoCo.
        seed: Of the random vectors.

    Raises:
        ConfigError: length or dim below 1.
    """

    key: Tensor
    study: Tensor
    patient: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, length: int, dim: int, *, init: Literal["masked", "random"] = "masked", seed: int = 0) -> None:
        super().__init__()
        if length < 1 or dim < 1:
            raise ConfigError(f"a feature queue needs length >= 1 and dim >= 1, got length={length}, dim={dim}")
        key = torch.zeros(length, dim)
        if init == "random":
            key = functional.normalize(torch.randn(length, dim, generator=torch.Generator().manual_seed(seed)), dim=1)
        owner = torch.full((length,), NOBODY if init == "random" else EMPTY)
        self.register_buffer("key", key)
        self.register_buffer("study", owner)
        self.register_buffer("patient", owner.clone())
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        """K."""
        return len(self.key)

    def negatives(self) -> Negatives:
        """What an objective sees. It looks into the queue itself: go backward before the next `enqueue`, else torch
        refuses the backward pass."""
        return Negatives(self.key, self.study, self.patient)

    @torch.no_grad()
    def enqueue(self, key: Tensor, study: Tensor, patient: Tensor, valid: Tensor | None = None) -> None:
        """Write the keys of one global batch over the oldest ones.

        Args:
            key: (N, M), is normalised here.
            study: (N,) int64 hashes.
            patient: (N,) int64 hashes.
            valid: (N,) bool; other rows take a slot and leave it empty, so that nothing waits for a count.
        """
        num, length = len(key), len(self)
        if valid is not None:
            study, patient = torch.where(valid, study, EMPTY), torch.where(valid, patient, EMPTY)
            key = torch.where(valid[:, None], key, 0.0)
        skipped = max(0, num - length)
        slots = (self.pointer + skipped + torch.arange(num - skipped, device=self.key.device)) % length
        self.key.index_copy_(0, slots, functional.normalize(key[skipped:].to(self.key.dtype), dim=1))
        self.study.index_copy_(0, slots, study[skipped:])
        self.patient.index_copy_(0, slots, patient[skipped:])
        self.pointer.copy_((self.pointer + num) % length)
        self.filled.copy_((self.filled + num).clamp(max=length))


def queue_length(wanted: int | None, num_studies: int) -> int:
    """K of a run: the wanted one, or the largest power of two that is at most 65536 and a quarter of the studies.

    Args:
        wanted: K, or None for the rule.
        num_studies: Of the training split.

    Raises:
        ConfigError: K is above the number of studies, so that a study's own older keys would fill the queue; or below
            1; or the rule finds no K for so few studies.
    """
    if wanted is None:
        most = min(MOCO_LENGTH, num_studies // 4)
        if most < 1:
            raise ConfigError(f"{num_studies} training studies are too few for a feature queue; 4 are the least")
        return 2 ** (most.bit_length() - 1)
    if wanted < 1:
        raise ConfigError(f"image.queue={wanted} must be at least 1; leave it out for a quarter of the studies")
    if wanted > num_studies:
        raise ConfigError(
            f"image.queue={wanted} is above the {num_studies} training studies: it would hold several keys of each, "
            f"a query's own among them; take at most {num_studies}, or leave it out for a quarter of them"
        )
    return wanted
