"""What objectives learn besides the towers: scalars, and a projection whose output is compared with momentum keys."""

import math

import torch
from torch import nn

from ctclip.objectives.facts import Scalars
from ctclip.objectives.offclip import bias_by_rate
from ctclip.objectives.parameters import Methods, ObjectiveName


class Learned(nn.Module):
    """What the named objectives need; nothing of the others.

    Args:
        names: Objectives of the run.
        methods: Their choices.
        normal_rate: Share of normal units in the training split, from which OFF-CLIP's first bias follows.
        batch_size: Rows of a global batch.
        pooled_dim: P, width of the image tower's averaged features.
        seed: Of the projection's first weights.
    """

    def __init__(
        self,
        names: tuple[ObjectiveName, ...],
        methods: Methods,
        *,
        normal_rate: float,
        batch_size: int,
        pooled_dim: int,
        seed: int,
    ) -> None:
        super().__init__()
        choice = methods.mococlip
        self.query_head: nn.Sequential | None = None
        has_query = "mococlip" in names and choice.mode in ("moco", "moco+itc")
        if has_query and not choice.image.share_projection:  # MoCo v2's head
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.query_head = nn.Sequential(
                    nn.Linear(pooled_dim, pooled_dim), nn.ReLU(), nn.Linear(pooled_dim, choice.image.dim)
                )
        self.off_scale = self.off_bias = self.across_scale = None
        if "offclip" in names:
            choice = methods.offclip
            bias = bias_by_rate(normal_rate, batch_size) if choice.bias_init is None else choice.bias_init
            self.off_scale = nn.Parameter(torch.tensor(math.log(choice.scale_init)))
            self.off_bias = nn.Parameter(torch.tensor(float(bias)))
        if "cagcl" in names and methods.cagcl.across.own_temperature:
            self.across_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def scalars(self) -> Scalars:
        """For Facts."""
        return Scalars(self.off_scale, self.off_bias, self.across_scale)
