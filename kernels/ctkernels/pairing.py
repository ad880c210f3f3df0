"""Which pairs count as what: everything of a contrastive batch that is not a feature, a few numbers per pair.

Enter: group ids and flags, (B,) each, and plain options. Nothing of size (B, B) is stored here; `grid` spells the
masks out for the slow twins. This file knows nothing of gradients or devices.

Axes: B pairs.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["both", "image_to_text", "text_to_image"]
Reduction = Literal["mean", "siglip", "balanced"]
DIRECTIONS = ("both", "image_to_text", "text_to_image")
REDUCTIONS = ("mean", "siglip", "balanced")


@dataclass(frozen=True)
class SigmoidTerm:
    """One logistic loss per cell of the (B, B) matrix, with normal x normal as positives (OFF-CLIP, arXiv 2503.01794).

    With n_i the normal flags, Y_ij = [i = j or (n_i and n_j)] and l_ij = exp(log_scale) cos_ij + bias, the term is
    weight * sum_ij w_ij (softplus(l_ij) - Y_ij l_ij) over all pairs, whether active or not.

    Attributes:
        log_scale: Scalar, natural log of what multiplies the cosines; apart from infonce's own.
        bias: Scalar, added to the logits.
        is_normal: (B,) bool.
        weight: Of the term in the loss.
        reduction: "mean" over the cells that count, "siglip" (sum / B), or "balanced" (half the mean over the
            positives plus half the mean over the negatives; a mean of nothing is 0).
        ignores_abnormal: Cells of two different abnormal pairs do not count; else they are negatives.
    """

    log_scale: Tensor
    bias: Tensor
    is_normal: Tensor
    weight: float = 1.0
    reduction: Reduction = "mean"
    ignores_abnormal: bool = False


@dataclass(frozen=True)
class Pairing:
    """What `infonce` was told of its B pairs, checked.

    Attributes:
        positive_id: (B,) int, equal ids that are not negative are each other's positives; or None.
        ignore_id: (B,) int, equal ids that are not negative are no negatives of each other; or None.
        is_active: (B,) bool, pairs outside have no row and no column; or None.
        direction: Which softmaxes count.
        weight: Of the softmax term in the loss.
        sigmoid: The term over single cells; or None.
    """

    positive_id: Tensor | None = None
    ignore_id: Tensor | None = None
    is_active: Tensor | None = None
    direction: Direction = "both"
    weight: float = 1.0
    sigmoid: SigmoidTerm | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the own pair is the only positive and all others are negatives."""
        return self.positive_id is None and self.ignore_id is None and self.is_active is None


def same_group(ids: Tensor) -> Tensor:
    """(B, B) bool: equal ids, of those that are not negative."""
    return (ids[:, None] == ids) & (ids >= 0)


def softmax_cells(pairing: Pairing, num_pairs: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positive and negative cells, each (B, B) bool. A positive is never ignored; an inactive pair has neither."""
    own = torch.eye(num_pairs, dtype=torch.bool, device=device)
    positive = own if pairing.positive_id is None else own | same_group(pairing.positive_id)
    negative = ~positive
    if pairing.ignore_id is not None:
        negative &= ~same_group(pairing.ignore_id)
    if pairing.is_active is not None:
        both = pairing.is_active[:, None] & pairing.is_active
        positive, negative = positive & both, negative & both
    return positive, negative


def softmax_weight(pairing: Pairing, num_pairs: int, like: Tensor) -> Tensor:
    """Weight of a pair's cross-entropy, scalar: the term's weight over the number of active pairs."""
    if pairing.is_active is None:
        return like.new_full((), pairing.weight / num_pairs)
    return pairing.weight / pairing.is_active.sum().clamp_min(1).to(like.dtype)


def sigmoid_cells(term: SigmoidTerm, num_pairs: int) -> tuple[Tensor, Tensor]:
    """Positive and negative cells of the sigmoid term, each (B, B) bool."""
    normal = term.is_normal
    own = torch.eye(num_pairs, dtype=torch.bool, device=normal.device)
    positive = own | (normal[:, None] & normal)
    negative = ~positive
    if term.ignores_abnormal:
        negative &= normal[:, None] | normal
    return positive, negative


def sigmoid_weights(term: SigmoidTerm, num_pairs: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of every positive and of every negative cell, scalars, counted from the flags alone."""
    num_normal = term.is_normal.sum().to(like.dtype)
    num_abnormal = num_pairs - num_normal
    num_positive = num_normal * num_normal + num_abnormal
    num_negative = num_pairs * num_pairs - num_positive
    if term.ignores_abnormal:
        num_negative = num_negative - num_abnormal * (num_abnormal - 1)
    if term.reduction == "balanced":
        return term.weight / (2 * num_positive), term.weight / (2 * num_negative.clamp_min(1))
    if term.reduction == "siglip":
        each = like.new_full((), term.weight / num_pairs)
    else:
        each = term.weight / (num_positive + num_negative)
    return each, each
