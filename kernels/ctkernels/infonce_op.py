"""InfoNCE from raw features, with the gradient computed in the forward pass: checks, dispatch, autograd.

Enter: features as the towers give them, not normalised. Leaves: the scalar loss. This file knows nothing of
models or of ranks: gathered features are simply more rows. What computes is chosen in infonce_library.py.

Axes: B pairs, E joint dimension.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ctkernels.infonce_library import compute_gradients, compute_loss
from ctkernels.pairing import DIRECTIONS, REDUCTIONS, Direction, Pairing, SigmoidTerm

_INTEGERS = (torch.int32, torch.int64)


def infonce(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    direction: Direction = "both",
    positive_id: Tensor | None = None,
    ignore_id: Tensor | None = None,
    is_active: Tensor | None = None,
    weight: float = 1.0,
    sigmoid: SigmoidTerm | None = None,
    local_rows: tuple[int, int] | None = None,
) -> Tensor:
    """InfoNCE of matched pairs: cross-entropy of every image over the texts and of every text over the images.

    With x, y the L2-normalised features, z_ij = exp(logit_scale) x_i . y_j, and by default the pair itself as the
    only positive,

        loss = 1/2B sum_i [ log sum_j exp(z_ij) - z_ii  +  log sum_j exp(z_ji) - z_ii ].

    (van den Oord et al. 2018, arXiv 1807.03748, equation 4; both directions as in Radford et al. 2021; several
    positives as in Khosla et al. 2020, arXiv 2004.11362, equation 2: z_ii becomes the mean over the positives.)
    All arithmetic is in float32 at least, also under autocast, and the positives are kept out of the negatives' sum,
    so that a loss near zero keeps its digits. All gradients are computed in the forward pass and only scaled in the
    backward pass; nothing of size (B, B) is kept. A gradient of the gradient is refused. Nothing waits for the device.

    Args:
        image_features: (B, E) of any floating type.
        text_features: (B, E), row i belongs to image i.
        logit_scale: Scalar tensor, the natural log of what multiplies the cosines. One scalar for all pairs.
        direction: "both", or only "image_to_text" (each image finds its text), or only "text_to_image".
        positive_id: (B,) int; pairs of one id are positives of each other. A negative id: its own pair only.
        ignore_id: (B,) int; different pairs of one id are not each other's negatives (say, studies of one patient).
            A negative id is in no group. A positive stays one.
        is_active: (B,) bool; other pairs have neither row nor column, and means are over active ones. No active
            pair: the term is 0.
        weight: Of this term in the loss.
        sigmoid: A logistic term over single cells to add, computed from the same cosines.
        local_rows: Start and stop of the rows whose features get a gradient here, the others' being 0 (each rank its
            own rows of gathered features). The loss and the scalars' gradients stay those of all rows.

    Returns:
        Scalar, float64 when a feature is float64, else float32.

    Raises:
        ValueError: Shapes, types, devices or options that do not fit.

    Example:
        >>> import torch
        >>> features = torch.eye(2)
        >>> round(float(infonce(features, features, torch.tensor(0.0))), 4)
        0.3133
        >>> same = torch.tensor([7, 7])  # both reports say the same
        >>> round(float(infonce(features, features, torch.tensor(0.0), positive_id=same)), 4)
        0.8133
    """
    _check_features(image_features, text_features, logit_scale)
    pairing = Pairing(positive_id, ignore_id, is_active, direction, float(weight), sigmoid)
    _check_pairing(pairing, image_features)
    rows = _check_rows(local_rows, len(image_features))
    scalars = (logit_scale,) if sigmoid is None else (logit_scale, sigmoid.log_scale, sigmoid.bias)
    inputs = (image_features, text_features, *scalars)
    with torch.autocast(image_features.device.type, enabled=False):
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            if not (image_features.requires_grad or text_features.requires_grad):
                rows = (0, 0)
            return _InfoNCE.apply(*inputs[:3], *(inputs[3:] or (None, None)), pairing, rows)
        return compute_loss(image_features, text_features, logit_scale, pairing)


class _InfoNCE(torch.autograd.Function):
    """Saves the gradients for an upstream gradient of 1; the backward pass multiplies them."""

    @staticmethod
    def forward(ctx, image, text, logit_scale, sigmoid_scale, sigmoid_bias, pairing, rows) -> Tensor:
        made = compute_gradients(image, text, logit_scale, pairing, rows)
        ctx.save_for_backward(made.image, made.text, made.scale, made.sigmoid)
        scalars = [tensor for tensor in (logit_scale, sigmoid_scale, sigmoid_bias) if tensor is not None]
        ctx.like = [(tensor.shape, tensor.dtype) for tensor in (image, text, *scalars)]
        ctx.rows = rows
        return made.loss

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride] (the decorator is untyped)
        d_image, d_text, d_scale, d_sigmoid = torch._foreach_mul(ctx.saved_tensors, grad_outputs[0])
        made = [_padded(d_image, ctx.like[0][0], ctx.rows), _padded(d_text, ctx.like[1][0], ctx.rows)]
        made += [d_scale, d_sigmoid[0], d_sigmoid[1]]
        given = [
            grad.reshape(shape).to(kind) if needed else None
            for grad, (shape, kind), needed in zip(made, ctx.like, ctx.needs_input_grad, strict=False)
        ]
        return (*given, *[None] * (7 - len(given)))


def _padded(grad: Tensor, shape: torch.Size, rows: tuple[int, int]) -> Tensor:
    """The gradient of all rows: zero outside `rows`."""
    if grad.shape == shape:
        return grad
    whole = grad.new_zeros(shape)
    whole[rows[0] : rows[1]] = grad
    return whole


def _check_features(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> None:
    shapes = f"image_features {tuple(image_features.shape)}, text_features {tuple(text_features.shape)}"
    if image_features.ndim != 2 or image_features.shape != text_features.shape or image_features.shape[0] == 0:
        raise ValueError(f"infonce needs two equal shapes (B, E) with B >= 1, got {shapes}")
    if not (image_features.is_floating_point() and text_features.is_floating_point()):
        raise ValueError(f"infonce needs floats, got {image_features.dtype} and {text_features.dtype}")
    if image_features.device != text_features.device:
        raise ValueError(
            f"infonce needs one device for all tensors, got {image_features.device} and {text_features.device}"
        )
    _check_scalar(logit_scale, "logit_scale", image_features)


def _check_scalar(scalar: Tensor, name: str, features: Tensor) -> None:
    if scalar.numel() != 1 or not scalar.is_floating_point():
        raise ValueError(f"infonce needs one {name} for all pairs, got shape {tuple(scalar.shape)} of {scalar.dtype}")
    if scalar.device != features.device:
        raise ValueError(
            f"infonce needs one device for all tensors, got {name} on {scalar.device}, not {features.device}"
        )


def _check_pairing(pairing: Pairing, features: Tensor) -> None:
    if pairing.direction not in DIRECTIONS:
        raise ValueError(f"infonce needs a direction of {DIRECTIONS}, got {pairing.direction!r}")
    _check_column(pairing.positive_id, "positive_id", _INTEGERS, features)
    _check_column(pairing.ignore_id, "ignore_id", _INTEGERS, features)
    _check_column(pairing.is_active, "is_active", (torch.bool,), features)
    term = pairing.sigmoid
    if term is None:
        return
    if term.reduction not in REDUCTIONS:
        raise ValueError(f"infonce needs a reduction of {REDUCTIONS}, got {term.reduction!r}")
    _check_column(term.is_normal, "sigmoid.is_normal", (torch.bool,), features)
    _check_scalar(term.log_scale, "sigmoid.log_scale", features)
    _check_scalar(term.bias, "sigmoid.bias", features)


def _check_column(column: Tensor | None, name: str, kinds: tuple[torch.dtype, ...], features: Tensor) -> None:
    if column is None:
        return
    if column.shape != features.shape[:1] or column.dtype not in kinds or column.device != features.device:
        wanted = " or ".join(str(kind) for kind in kinds)
        raise ValueError(
            f"infonce needs {name} of shape ({features.shape[0]},), {wanted}, on {features.device}; "
            f"got {tuple(column.shape)}, {column.dtype}, on {column.device}"
        )


def _check_rows(local_rows: tuple[int, int] | None, num_pairs: int) -> tuple[int, int]:
    if local_rows is None:
        return 0, num_pairs
    start, stop = local_rows
    if not 0 <= start < stop <= num_pairs:
        raise ValueError(f"infonce needs local_rows with 0 <= start < stop <= {num_pairs}, got {local_rows}")
    return start, stop
