"""The objective of CLIP and of Merlin: symmetric InfoNCE over the studies of a batch."""

from torch import Tensor

from ctclip.models.features import Features
from ctkernels import infonce


def clip_loss(features: Features) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv 2103.00020), a scalar in float32.

    Args:
        features: Of all studies of the global batch; every other study's text is a negative.
    """
    return infonce(features.image, features.text, features.logit_scale)
