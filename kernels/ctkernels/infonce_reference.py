"""The slow twin of `infonce`: plain torch that autograd differentiates, masks spelled out. The tests' oracle."""

import torch
from torch import Tensor
from torch.nn import functional

from ctkernels.pairing import Pairing, sigmoid_cells, softmax_cells


def infonce_reference(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, pairing: Pairing | None = None
) -> Tensor:
    """InfoNCE of matched pairs (Radford et al. 2021, arXiv 2103.00020, figure 3), with `infonce`'s options.

    A row's target is spread evenly over its positives (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    Args:
        image_features: (B, E), not normalised.
        text_features: (B, E), not normalised; row i belongs to image i.
        logit_scale: Scalar, the log of what multiplies the cosines.
        pairing: Options; the default is symmetric and one positive each.

    Returns:
        Scalar, the mean of the two cross-entropies.
    """
    pairing = pairing or Pairing()
    cosines = functional.normalize(image_features, dim=1) @ functional.normalize(text_features, dim=1).T
    positive, negative = softmax_cells(pairing, len(cosines), cosines.device)
    logits = (logit_scale.exp() * cosines).masked_fill(~(positive | negative), -1e30)
    active = positive.diagonal()
    rows = -(logits.log_softmax(1) * positive).sum(1) / positive.sum(1).clamp_min(1)
    columns = -(logits.log_softmax(0) * positive).sum(0) / positive.sum(0).clamp_min(1)
    each = {"both": (rows + columns) / 2, "image_to_text": rows, "text_to_image": columns}[pairing.direction]
    loss = pairing.weight * torch.where(active, each, 0).sum() / active.sum().clamp_min(1)
    return loss if pairing.sigmoid is None else loss + _sigmoid_term(cosines, pairing)


def _sigmoid_term(cosines: Tensor, pairing: Pairing) -> Tensor:
    term = pairing.sigmoid
    assert term is not None
    positive, negative = sigmoid_cells(term, len(cosines))
    logits = term.log_scale.exp() * cosines + term.bias
    cells = functional.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    counted = positive | negative
    if term.reduction == "balanced":
        means = [cells[mask].mean() if bool(mask.any()) else cells.sum() * 0 for mask in (positive, negative)]
        return term.weight * (means[0] + means[1]) / 2
    divisor = counted.sum() if term.reduction == "mean" else len(cosines)
    return term.weight * cells[counted].sum() / divisor
