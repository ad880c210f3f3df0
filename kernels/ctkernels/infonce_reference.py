"""The slow twin of `infonce`: ten lines of plain torch that autograd differentiates. The tests' oracle."""

import torch
from torch import Tensor
from torch.nn import functional


def infonce_reference(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of matched pairs (Radford et al. 2021, arXiv 2103.00020, figure 3).

    Args:
        image_features: (B, E), not normalised.
        text_features: (B, E), not normalised; row i belongs to image i.
        logit_scale: Scalar, the log of what multiplies the cosines.

    Returns:
        Scalar, the mean of the two cross-entropies.
    """
    image = functional.normalize(image_features, dim=1)
    text = functional.normalize(text_features, dim=1)
    logits = logit_scale.exp() * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
