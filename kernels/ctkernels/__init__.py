"""ctkernels: the operations of contrastive training that are worth their own code. Tensors in, tensors out."""

from ctkernels.infonce_op import infonce
from ctkernels.pairing import SigmoidTerm

__all__ = ["SigmoidTerm", "infonce"]
