"""Features: what the towers give and an objective takes."""

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """What the two towers say of B studies.

    Attributes:
        image: (B, E), not normalised.
        text: (B, E), not normalised; row i belongs to image i.
        logit_scale: Scalar, natural log of what multiplies the cosines.
    """

    image: Tensor
    text: Tensor
    logit_scale: Tensor
