"""`torch.ops.ctkernels.infonce_queue`: one operator for all devices, and the choice of what computes it.

As infonce_library.py: eager code calls the computation directly, compiled code sees one opaque operator.
"""

import torch
from torch import Tensor

from ctkernels.infonce_library import is_for_triton
from ctkernels.queue_closed import QueueGradients, queue_gradients

torch.library.define(
    "ctkernels::infonce_queue",
    "(Tensor query, Tensor key, Tensor queue, Tensor logit_scale, Tensor query_id, Tensor queue_id) "
    "-> (Tensor, Tensor)",
)


def compute_queue(
    query: Tensor, key: Tensor, queue: Tensor, logit_scale: Tensor, query_id: Tensor, queue_id: Tensor
) -> QueueGradients:
    """The loss and its gradients, by whatever is fastest for these inputs, which infonce_queue describes."""
    if torch.compiler.is_compiling():
        return QueueGradients(
            *torch.ops.ctkernels.infonce_queue.default(query, key, queue, logit_scale, query_id, queue_id)
        )
    return _computed(query, key, queue, logit_scale, query_id, queue_id)


def _computed(query: Tensor, key: Tensor, queue: Tensor, *others: Tensor) -> QueueGradients:
    if not is_for_triton(query, key, queue):
        return queue_gradients(query, key, queue, *others)
    from ctkernels.queue_triton import LAUNCH, queue_launch  # an optional package, and only for CUDA

    if query.shape[1] > LAUNCH[queue.dtype != torch.bfloat16][0]:
        return queue_gradients(query, key, queue, *others)
    with torch.cuda.device(query.device):
        return queue_launch(query.contiguous(), key.contiguous(), queue.contiguous(), *others)


@torch.library.impl("ctkernels::infonce_queue", "CompositeExplicitAutograd")
def _operator(*arguments: Tensor) -> tuple[Tensor, ...]:
    return tuple(_computed(*arguments))


@torch.library.register_fake("ctkernels::infonce_queue")
def _shapes(query: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
    kind = torch.promote_types(query.dtype, torch.float32)
    return query.new_empty(2, dtype=kind), query.new_empty(query.shape, dtype=kind)
