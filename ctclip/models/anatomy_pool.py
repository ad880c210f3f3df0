"""One image embedding per anatomy: the tokens of the image tower that lie in it, pooled.

Enter: the maps of the image tower's stages and a map of anatomy numbers on the voxel grid. Leave: features
(B, A, E), not normalised, and which of them count. As in fVLM (arXiv 2501.14548, released code): tokens of four depths
whose cell touches the anatomy, attended by one learned query per anatomy. There a ViT gives the tokens, here an
inflated ResNet.

Axes: B studies, A anatomies, T tokens, C channels of a stage, W width of the attention, E joint dimension.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctclip.errors import ConfigError
from ctclip.models.inflated_resnet import STAGE_STRIDES
from ctclip.objectives.parameters import AnatomyParameters

HEADS = 4  # fVLM's
Stride = tuple[int, int, int]


def anatomy_numbers(labels_BDHW: Tensor, table: Tensor) -> Tensor:
    """Anatomy number + 1 of every voxel, 0 where there is none; (B, D, H, W) int64.

    Args:
        labels_BDHW: A label map, whole numbers.
        table: ctclip.texts.anatomies.label_table; labels beyond it are of no anatomy.
    """
    labels = labels_BDHW.long()
    is_known = (labels >= 0) & (labels < len(table))
    return torch.where(is_known, table[torch.where(is_known, labels, 0)], 0)


def anatomy_counts(numbers_BDHW: Tensor, num_anatomies: int, stride: Stride) -> Tensor:
    """Voxels of each anatomy in each cell of a grid, (B, A, d, h, w) int32; d, h, w rounded up, as the tower does."""
    shape = numbers_BDHW.shape[1:]
    grid = [-(-size // step) for size, step in zip(shape, stride, strict=True)]
    axes = [torch.arange(size, device=numbers_BDHW.device) // step for size, step in zip(shape, stride, strict=True)]
    cell = (axes[0][:, None, None] * grid[1] + axes[1][:, None]) * grid[2] + axes[2]
    num_cells = grid[0] * grid[1] * grid[2]
    one = torch.ones((), dtype=torch.int32, device=numbers_BDHW.device).expand(cell.numel())
    counts = torch.zeros(
        len(numbers_BDHW), (num_anatomies + 1) * num_cells, dtype=torch.int32, device=numbers_BDHW.device
    )
    for row, numbers in zip(counts, numbers_BDHW, strict=True):  # one study at a time: an index per voxel is large
        row.scatter_add_(0, (numbers * num_cells + cell).flatten(), one)
    return counts.view(len(counts), num_anatomies + 1, *grid)[:, 1:]


def whole_anatomies(numbers_BDHW: Tensor, num_anatomies: int) -> Tensor:
    """(B, A) bool: anatomies with a voxel in the crop and none on its faces."""
    faces = [numbers_BDHW.select(axis, place) for axis in (1, 2, 3) for place in (0, -1)]
    on_face = torch.stack([_occurs(face.flatten(1), num_anatomies) for face in faces]).any(0)
    return present_anatomies(numbers_BDHW, num_anatomies) & ~on_face


def present_anatomies(numbers_BDHW: Tensor, num_anatomies: int) -> Tensor:
    """(B, A) bool: anatomies with a voxel in the crop."""
    return _occurs(numbers_BDHW.flatten(1), num_anatomies)


def masked_mean(tokens_BCT: Tensor, weight_BAT: Tensor) -> Tensor:
    """(B, A, C) mean of tokens by weights >= 0; 0 where all weights of an anatomy are."""
    weight_BAT = weight_BAT.to(tokens_BCT.dtype)
    total_BA1 = weight_BAT.sum(2, keepdim=True)
    return torch.einsum("bat,bct->bac", weight_BAT / total_BA1.clamp_min(1e-6), tokens_BCT)


class AnatomyPool(nn.Module):
    """Pools the four stages of the image tower by anatomy.

    Args:
        widths: C of each stage.
        num_anatomies: A.
        embedding_dim: E.
        parameters: What is pooled, and how.

    Raises:
        ConfigError: A mean without masks, which would be the same for every anatomy.
    """

    def __init__(
        self, widths: Sequence[int], *, num_anatomies: int, embedding_dim: int, parameters: AnatomyParameters
    ) -> None:
        super().__init__()
        if parameters.source == "attention" and parameters.pooling == "mean":
            raise ConfigError(
                "anatomy.pooling='mean' with anatomy.source='attention' gives every anatomy the same embedding; take "
                "pooling='attention', or masks"
            )
        self._choice = parameters
        self.num_anatomies = num_anatomies
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        is_attending = parameters.pooling == "attention"
        width = embedding_dim if is_attending else sum(widths)
        if is_attending:
            self.entries = nn.ModuleList(nn.Linear(stage, width) for stage in widths)
            self.query_AW = nn.Parameter(torch.zeros(num_anatomies, width))
            self.attention = nn.MultiheadAttention(width, _heads(width), batch_first=True)
        self.weight_AWE = nn.Parameter(torch.randn(num_anatomies, width, embedding_dim) * width**-0.5)
        self.bias_AE = nn.Parameter(torch.zeros(num_anatomies, embedding_dim))

    def forward(self, maps: Sequence[Tensor], numbers_BDHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (B, A, E) and which count (B, A) bool.

        Args:
            maps: Of the four stages, (B, C_k, d_k, h_k, w_k).
            numbers_BDHW: Of `anatomy_numbers`; None with source "attention", where every anatomy counts.
        """
        counts = self._counts(maps, numbers_BDHW)
        if self._choice.pooling == "mean":
            assert counts is not None
            pooled_BAW = self._mean(maps, counts)
        else:
            pooled_BAW = self._attend(maps, counts)
        features = torch.einsum("baw,awe->bae", pooled_BAW, self.weight_AWE.to(pooled_BAW.dtype)) + self.bias_AE
        return features, self._valid(features, numbers_BDHW)

    def _counts(self, maps: Sequence[Tensor], numbers_BDHW: Tensor | None) -> list[Tensor] | None:
        """Per stage, voxels of each anatomy in each token's cell, (B, A, T_k)."""
        if self._choice.source == "attention":
            return None
        if numbers_BDHW is None:
            raise ConfigError("anatomy.source='masks' needs a label map; or take source='attention'")
        counts = []
        for stage, stride in zip(maps, STAGE_STRIDES, strict=True):
            counts_BAdhw = anatomy_counts(numbers_BDHW, self.num_anatomies, stride)
            assert counts_BAdhw.shape[2:] == stage.shape[2:], "the label map and the volume are of one shape"
            counts.append(counts_BAdhw.flatten(2))
        return counts

    def _mean(self, maps: Sequence[Tensor], counts: list[Tensor]) -> Tensor:
        if self._choice.cells == "touched":
            counts = [count > 0 for count in counts]
        means = [masked_mean(stage.flatten(2), count) for stage, count in zip(maps, counts, strict=True)]
        return torch.cat([norm(mean) for norm, mean in zip(self.norms, means, strict=True)], 2)

    def _attend(self, maps: Sequence[Tensor], counts: list[Tensor] | None) -> Tensor:
        stages = zip(maps, self.norms, self.entries, strict=True)
        tokens_BTW = torch.cat([entry(norm(stage.flatten(2).transpose(1, 2))) for stage, norm, entry in stages], 1)
        query_BAW = self.query_AW.to(tokens_BTW.dtype).expand(len(tokens_BTW), -1, -1)
        barred = None
        if counts is not None:
            touched_BAT = torch.cat([count > 0 for count in counts], 2)
            # An anatomy that is not there may look anywhere: a softmax over nothing would be NaN. It does not count.
            allowed_BAT = touched_BAT | ~touched_BAT.any(2, keepdim=True)
            barred = (~allowed_BAT).repeat_interleave(self.attention.num_heads, 0)
        return self.attention(query_BAW, tokens_BTW, tokens_BTW, attn_mask=barred, need_weights=False)[0]

    def _valid(self, features: Tensor, numbers_BDHW: Tensor | None) -> Tensor:
        if self._choice.source == "attention" or numbers_BDHW is None:
            return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        find = whole_anatomies if self._choice.needs_whole else present_anatomies
        return find(numbers_BDHW, self.num_anatomies)


def _occurs(numbers_BV: Tensor, num_anatomies: int) -> Tensor:
    seen = torch.zeros(len(numbers_BV), num_anatomies + 1, dtype=torch.bool, device=numbers_BV.device)
    return seen.scatter_(1, numbers_BV, True)[:, 1:]


def _heads(width: int) -> int:
    return next(heads for heads in (HEADS, 2, 1) if width % heads == 0)
