"""The model's forward pass over groups of studies, each with batch-norm statistics and dropout of its own.

Whatever a group's studies are computed with, one after another here, on another rank, or twice by the gradient
cache, it sees the same numbers: that is what makes a run independent of the number of ranks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctclip.models.dual import DualEncoder
from ctclip.models.features import Features
from ctclip.training.running_statistics import RunningStatistics


class GroupedForward(nn.Module):
    """The dual encoder, called once per group.

    Args:
        model: The dual encoder.
        group: Studies that the towers see at once.
        statistics: Told after every group.
    """

    def __init__(self, model: DualEncoder, group: int, statistics: RunningStatistics) -> None:
        super().__init__()
        self.model = model
        self._group = group
        self._statistics = statistics

    def forward(
        self,
        volume_BCDHW: Tensor,
        ids_BN: Tensor,
        mask_BN: Tensor,
        seeds: Sequence[int | None],
        numbers_BDHW: Tensor | None = None,
    ) -> Features:
        """Features of B studies with as many texts each; seeds[i] is of the random numbers of group i; None goes on
        with the generator as it is."""
        parts = []
        num_texts = len(ids_BN) // len(volume_BCDHW)
        for number, seed in enumerate(seeds):
            rows = slice(number * self._group, (number + 1) * self._group)
            texts = slice(rows.start * num_texts, rows.stop * num_texts)
            numbers = None if numbers_BDHW is None else numbers_BDHW[rows]
            if seed is not None:
                torch.manual_seed(seed)
            parts.append(self.model(volume_BCDHW[rows], ids_BN[texts], mask_BN[texts], numbers))
            self._statistics.collect()
        if len(parts) == 1:
            return parts[0]
        queries = [part.query for part in parts if part.query is not None]
        return Features(
            torch.cat([part.image for part in parts]),
            torch.cat([part.text for part in parts]),
            parts[0].logit_scale,
            torch.cat(queries) if queries else None,
        )
