"""ctkernels: the operations of contrastive training that are worth their own code. Tensors in, tensors out."""

from ctkernels.bn_act_op import bn_act
from ctkernels.infonce_op import infonce
from ctkernels.pairing import SigmoidTerm
from ctkernels.queue_op import infonce_queue

__all__ = ["SigmoidTerm", "bn_act", "infonce", "infonce_queue"]
