"""Features: what the towers give and an objective takes."""

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """What the two towers say of B studies.

    Where anatomies are looked at apart, B counts anatomies of studies, all of one study one after another.

    Attributes:
        image: (B, E), not normalised.
        text: (B, E), not normalised; row i belongs to image i.
        logit_scale: Scalar, natural log of what multiplies the cosines.
        query: (B, M), not normalised, what is compared with momentum keys; None where nothing is.
    """

    image: Tensor
    text: Tensor
    logit_scale: Tensor
    query: Tensor | None = None
