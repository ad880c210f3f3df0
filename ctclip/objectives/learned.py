"""What objectives learn besides the towers: scalars, as parameters of the model."""

import math

import torch
from torch import nn

from ctclip.objectives.facts import Scalars
from ctclip.objectives.offclip import bias_by_rate
from ctclip.objectives.parameters import Methods, ObjectiveName


class LearnedScalars(nn.Module):
    """The scalars that the named objectives need; none of the others.

    Args:
        names: Objectives of the run.
        methods: Their choices.
        normal_rate: Share of normal units in the training split, from which OFF-CLIP's first bias follows.
        batch_size: Rows of a global batch.
    """

    def __init__(
        self, names: tuple[ObjectiveName, ...], methods: Methods, *, normal_rate: float, batch_size: int
    ) -> None:
        super().__init__()
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
