"""The closed form of `infonce` in a dozen ATen calls: loss and all gradients at once. Every device, every float type.

The formulas that the Triton kernels repeat tile by tile stand here in plain torch. Everything in float32 at least.

Axes: B pairs, E joint dimension, R rows whose features want a gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ctkernels.pairing import (
    Pairing,
    SigmoidTerm,
    sigmoid_cells,
    sigmoid_weights,
    softmax_cells,
    softmax_weight,
)

_TINY_NORM = 1e-12  # as torch.nn.functional.normalize has it
_SOFTPLUS_LINEAR = 50.0  # exp(-50) is below the rounding of float64; torch's own 20 is not


class Gradients(NamedTuple):
    """The loss and its gradients, float32 or float64.

    Attributes:
        loss: Scalar.
        image, text: (R, E), by the features of the rows asked for.
        scale: Scalar, by logit_scale.
        sigmoid: (2,), by the sigmoid term's log_scale and bias; zeros without the term.
    """

    loss: Tensor
    image: Tensor
    text: Tensor
    scale: Tensor
    sigmoid: Tensor


class _Cosines(NamedTuple):
    """Cosines (B, B) and inverse norms (B,). Normalised after the dot, so nothing is rounded between."""

    grid: Tensor
    inverse_image: Tensor
    inverse_text: Tensor


def closed_loss(image: Tensor, text: Tensor, logit_scale: Tensor, pairing: Pairing) -> Tensor:
    """The scalar loss alone."""
    image, text, logit_scale = _promote(image, text, logit_scale)
    cosines = _cosines(image, text)
    loss, _ = _softmax_term(logit_scale.exp() * cosines.grid, pairing, wants_slope=False)
    if pairing.sigmoid is not None:
        loss = loss + _sigmoid_term(cosines.grid, pairing.sigmoid)[0]
    return loss


def closed_gradients(
    image: Tensor, text: Tensor, logit_scale: Tensor, pairing: Pairing, rows: tuple[int, int]
) -> Gradients:
    """The loss and its gradient by everything that can learn.

    With D_ij = dloss/dcos_ij, m_i = sum_j D_ij cos_ij is what normalising subtracts:
    dloss/du_i = sum_j D_ij v_j / (|u_i| |v_j|) - m_i u_i / |u_i|^2; the same along columns for the texts.

    Args:
        image: (B, E) of any floating type.
        text: As image.
        logit_scale: Scalar.
        pairing: Options.
        rows: Start and stop of the rows whose features want a gradient.
    """
    image, text, logit_scale = _promote(image, text, logit_scale)
    cosines = _cosines(image, text)
    scale = logit_scale.exp()
    loss, slope = _softmax_term(scale * cosines.grid, pairing, wants_slope=True)
    slope = slope * scale
    d_scale = (slope * cosines.grid).sum()
    d_sigmoid = image.new_zeros(2)
    if pairing.sigmoid is not None:
        added, cells, d_sigmoid = _sigmoid_term(cosines.grid, pairing.sigmoid)
        loss, slope = loss + added, slope + cells
    moment = slope * cosines.grid
    slope = slope * cosines.inverse_image[:, None] * cosines.inverse_text
    mine = slice(*rows)
    subtract_image = (moment[mine].sum(1) * cosines.inverse_image[mine] ** 2)[:, None]
    subtract_text = (moment[:, mine].sum(0) * cosines.inverse_text[mine] ** 2)[:, None]
    d_image = slope[mine] @ text - subtract_image * image[mine]
    d_text = slope[:, mine].T @ image - subtract_text * text[mine]
    return Gradients(loss, d_image, d_text, d_scale, d_sigmoid)


def _promote(image: Tensor, text: Tensor, logit_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    return image.to(kind), text.to(kind), logit_scale.to(kind).reshape(())


def _cosines(image: Tensor, text: Tensor) -> _Cosines:
    inverse_image = image.norm(dim=1).clamp_min(_TINY_NORM).reciprocal()
    inverse_text = text.norm(dim=1).clamp_min(_TINY_NORM).reciprocal()
    return _Cosines((image @ text.T) * inverse_image[:, None] * inverse_text, inverse_image, inverse_text)


def _softmax_term(logits: Tensor, pairing: Pairing, *, wants_slope: bool) -> tuple[Tensor, Tensor]:
    """The weighted cross-entropies, scalar, and their gradient by the logits, (B, B)."""
    if pairing.is_plain:
        return _plain_term(logits, pairing, wants_slope=wants_slope)
    positive, negative = softmax_cells(pairing, len(logits), logits.device)
    mean = softmax_weight(pairing, len(logits), logits)
    loss, slope = logits.new_zeros(()), logits
    for axis, share in _axes(pairing):
        each, by_logit = _cross_entropy(logits, positive, negative, axis, wants_slope=wants_slope)
        loss = loss + share * mean * each.sum()
        slope = share * mean * by_logit if slope is logits else slope + share * mean * by_logit
    return loss, slope


def _axes(pairing: Pairing) -> tuple[tuple[int, float], ...]:
    """The axes whose softmax counts, with their shares: 1 along a row (image to text), 0 along a column."""
    return {"both": ((1, 0.5), (0, 0.5)), "image_to_text": ((1, 1.0),), "text_to_image": ((0, 1.0),)}[pairing.direction]


def _plain_term(logits: Tensor, pairing: Pairing, *, wants_slope: bool) -> tuple[Tensor, Tensor]:
    """`_softmax_term` where the diagonal is positive and all else negative: half the calls of the general form.

    With d = log(sum of negatives / positive), cross-entropy is softplus(d) and 1 - p of the pair sigmoid(d).
    """
    negatives = logits.clone()
    negatives.diagonal().fill_(-torch.inf)
    positive = logits.diagonal()
    loss, slope, own = logits.new_zeros(()), logits, logits
    for axis, share in _axes(pairing):
        weight = share * pairing.weight / len(logits)
        surprise = negatives.logsumexp(axis) - positive
        rest = functional.softplus(surprise, threshold=_SOFTPLUS_LINEAR)
        loss = loss + weight * rest.sum()
        if wants_slope:
            by_logit = weight * (negatives - (positive + rest).unsqueeze(axis)).exp()
            by_own = -weight * surprise.sigmoid()
            slope, own = (by_logit, by_own) if slope is logits else (slope + by_logit, own + by_own)
    if wants_slope:
        slope.diagonal().copy_(own)
    return loss, slope


def _cross_entropy(
    logits: Tensor, positive: Tensor, negative: Tensor, axis: int, *, wants_slope: bool
) -> tuple[Tensor, Tensor]:
    """Cross-entropy along an axis against an even spread over the positives, (B,), and its gradient, (B, B).

    With m the mean of the positives and z counted from it, the loss is lse(positives) + softplus(lse(negatives) -
    lse(positives)): with one positive the first is exactly 0, and the second keeps its digits when it is near 0.
    """
    count = positive.sum(axis, keepdim=True)
    is_active, count = count > 0, count.clamp_min(1)
    shifted = logits - logits.diagonal().unsqueeze(axis)  # so that the mean of equal positives is exact
    shifted = shifted - torch.where(positive, shifted, 0).sum(axis, keepdim=True) / count
    positives, negatives = shifted.masked_fill(~positive, -torch.inf), shifted.masked_fill(~negative, -torch.inf)
    base = torch.where(is_active, positives.logsumexp(axis, keepdim=True), 0)
    surprise = negatives.logsumexp(axis, keepdim=True) - base
    rest = functional.softplus(surprise, threshold=_SOFTPLUS_LINEAR)
    loss = (base + rest).squeeze(axis)
    if not wants_slope:
        return loss, logits
    share = (positives - base).exp()
    slope = share - positive.to(share.dtype) / count - share * surprise.sigmoid() + (negatives - (base + rest)).exp()
    return loss, slope


def _sigmoid_term(grid: Tensor, term: SigmoidTerm) -> tuple[Tensor, Tensor, Tensor]:
    """The term, scalar; its gradient by the cosines, (B, B); by its log_scale and bias, (2,)."""
    scale, bias = term.log_scale.to(grid.dtype).reshape(()).exp(), term.bias.to(grid.dtype).reshape(())
    positive, negative = sigmoid_cells(term, len(grid))
    on, off = sigmoid_weights(term, len(grid), grid)
    weight = torch.where(positive, on, torch.where(negative, off, 0))
    # softplus(l) - l = softplus(-l), and its slope is -sigmoid(-l): no digits are lost at either end.
    sign = torch.where(positive, -1, 1)
    signed = sign * (scale * grid + bias)
    loss = (weight * functional.softplus(signed, threshold=_SOFTPLUS_LINEAR)).sum()
    slope = weight * sign * signed.sigmoid()
    by_cosine = slope * scale
    return loss, by_cosine, torch.stack([(by_cosine * grid).sum(), slope.sum()])
