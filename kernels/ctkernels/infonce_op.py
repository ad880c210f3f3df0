"""Symmetric InfoNCE from raw features, with the gradient computed in the forward pass.

Enter: features as the towers give them, not normalised. Leaves: the scalar loss. This file knows nothing of
models, of devices' kernels or of ranks: gathered features are simply more rows.

Axes: B pairs, E joint dimension.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_TINY_NORM = 1e-12  # as torch.nn.functional.normalize has it
_SOFTPLUS_LINEAR = 50.0  # exp(-50) is below the rounding of float64; torch's own 20 is not


def infonce(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of matched pairs: (cross-entropy over rows + over columns) / 2, mean over the pairs.

    With x, y the L2-normalised features and z_ij = exp(logit_scale) x_i . y_j,

        loss = 1/2B sum_i [ log sum_j exp(z_ij) - z_ii  +  log sum_j exp(z_ji) - z_ii ].

    (van den Oord et al. 2018, arXiv 1807.03748, equation 4; both directions as in Radford et al. 2021.)
    All arithmetic is in float32 at least, also under autocast, and the positive is kept out of its own sum, so
    that a loss near zero keeps its digits. The gradient of all three inputs is computed in the forward pass and
    only scaled in the backward pass; nothing of size (B, B) is kept. A gradient of the gradient is refused.
    Nothing waits for the device.

    Args:
        image_features: (B, E) of any floating type.
        text_features: (B, E), row i belongs to image i.
        logit_scale: Scalar tensor, the natural log of what multiplies the cosines. One scalar for all pairs.

    Returns:
        Scalar, float64 when a feature is float64, else float32.

    Raises:
        ValueError: Shapes, types or devices that do not fit.

    Example:
        >>> import torch
        >>> features = torch.eye(2)
        >>> round(float(infonce(features, features, torch.tensor(0.0))), 4)
        0.3133
    """
    _check(image_features, text_features, logit_scale)
    inputs = (image_features, text_features, logit_scale)
    with torch.autocast(image_features.device.type, enabled=False):
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return _InfoNCE.apply(*inputs)
        return _loss(*inputs)


def _check(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> None:
    shapes = f"image_features {tuple(image_features.shape)}, text_features {tuple(text_features.shape)}"
    if image_features.ndim != 2 or image_features.shape != text_features.shape or image_features.shape[0] == 0:
        raise ValueError(f"infonce needs two equal shapes (B, E) with B >= 1, got {shapes}")
    if logit_scale.numel() != 1:
        raise ValueError(f"infonce needs one logit_scale for all pairs, got shape {tuple(logit_scale.shape)}")
    if not (image_features.is_floating_point() and text_features.is_floating_point()):
        raise ValueError(f"infonce needs floats, got {image_features.dtype} and {text_features.dtype}")
    if not image_features.device == text_features.device == logit_scale.device:
        devices = f"{image_features.device}, {text_features.device}, {logit_scale.device}"
        raise ValueError(f"infonce needs one device for its three inputs, got {devices}")


class _InfoNCE(torch.autograd.Function):
    """Saves three gradients for an upstream gradient of 1; the backward pass multiplies them."""

    @staticmethod
    def forward(ctx, image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        inputs = (image_features, text_features, logit_scale)
        loss, *gradients = _loss_and_gradients(*inputs)
        ctx.save_for_backward(*gradients)
        ctx.types = [tensor.dtype for tensor in inputs]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride] (the decorator is untyped)
        (grad_loss,) = grad_outputs
        wanted = zip(ctx.saved_tensors, ctx.types, ctx.needs_input_grad, strict=True)
        return tuple((grad * grad_loss).to(kind) if needed else None for grad, kind, needed in wanted)


def _logits(image: Tensor, text: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (B, B), inverse norms (B,) of both sides, scale (). Normalised after the dot, so nothing is rounded."""
    inverse_image = image.norm(dim=1).clamp_min(_TINY_NORM).reciprocal()
    inverse_text = text.norm(dim=1).clamp_min(_TINY_NORM).reciprocal()
    scale = log_scale.exp()
    logits = (image @ text.T) * (scale * inverse_image)[:, None] * inverse_text
    return logits, inverse_image, inverse_text, scale


def _surprise(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Off-diagonal logits (B, B) and log(sum of negatives / positive) of every row (B,) and column (B,).

    Cross-entropy is softplus of the latter and 1 - p of the pair its sigmoid: both exact when p is near 1.
    """
    negatives = logits.clone()
    negatives.diagonal().fill_(float("-inf"))
    positive = logits.diagonal()
    return negatives, negatives.logsumexp(1) - positive, negatives.logsumexp(0) - positive


def _mean_loss(by_row: Tensor, by_column: Tensor) -> Tensor:
    rows = functional.softplus(by_row, threshold=_SOFTPLUS_LINEAR)
    columns = functional.softplus(by_column, threshold=_SOFTPLUS_LINEAR)
    return (rows + columns).mean() / 2


def _promote(image: Tensor, text: Tensor, logit_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    return image.to(kind), text.to(kind), logit_scale.to(kind).reshape(())


def _loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    logits, *_ = _logits(*_promote(image_features, text_features, logit_scale))
    _, by_row, by_column = _surprise(logits)
    return _mean_loss(by_row, by_column)


def _loss_and_gradients(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and its gradient by image_features, text_features and logit_scale, float32 or float64.

    G_ij = dloss/dz_ij; r_i = sum_j G_ij z_ij and c_j = sum_i G_ij z_ij are both the projections that
    normalising subtracts and, summed, the gradient of logit_scale.
    """
    image, text, log_scale = _promote(image_features, text_features, logit_scale)
    logits, inverse_image, inverse_text, scale = _logits(image, text, log_scale)
    negatives, by_row, by_column = _surprise(logits)
    positive = logits.diagonal()
    weight = 0.5 / len(logits)
    row_lse = positive + functional.softplus(by_row, threshold=_SOFTPLUS_LINEAR)
    column_lse = positive + functional.softplus(by_column, threshold=_SOFTPLUS_LINEAR)
    slope = weight * ((negatives - row_lse[:, None]).exp() + (negatives - column_lse).exp())
    slope.diagonal().copy_(-weight * (by_row.sigmoid() + by_column.sigmoid()))
    moment = slope * logits
    rows, columns = moment.sum(1), moment.sum(0)
    slope = slope * (scale * inverse_image)[:, None] * inverse_text
    d_image = slope @ text - (rows * inverse_image**2)[:, None] * image
    d_text = slope.T @ image - (columns * inverse_text**2)[:, None] * text
    return (
        _mean_loss(by_row, by_column),
        d_image,
        d_text,
        rows.sum().reshape(logit_scale.shape),
    )
