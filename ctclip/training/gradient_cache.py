"""Gradient cache: the exact gradient of a loss over the whole batch, with the memory of one forward pass.

Gao et al. 2021 (arXiv 2101.06983). The first pass computes features without gradient, chunk by chunk; the loss of
all of them gives the gradient at every feature; the second pass computes each chunk again, with gradient, and sends
its share back through the towers. What it costs is one more forward pass.

Unlike averaging the losses of chunks, negatives come from the whole batch; unlike evaluating the loss once per chunk
over cached features, parameters outside the towers (the logit scale) get their gradient once. It knows nothing of
the loss, of ranks or of batch norm: a chunk is a function that gives the same features each time it is called, and
whoever makes it replays dropout and leaves the running statistics alone on the second call.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ctclip.models.features import Features


def backward_in_chunks(
    chunks: Sequence[Callable[[], Features]],
    loss_of: Callable[[Features], Tensor],
    *,
    shared: Sequence[nn.Parameter],
    between_passes: Callable[[], None] = lambda: None,
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Add the gradient of loss_of(all features) to every parameter's `grad`.

    With one chunk its graph is kept and nothing is computed twice.

    Args:
        chunks: Each computes the features of its studies; concatenated they are the batch in its order.
        loss_of: The loss, a scalar, of the features of all chunks. Called once.
        shared: Trained parameters outside the towers, which the loss reads itself.
        between_passes: Called after every chunk has been computed once.
        no_sync: Entered around every backward pass but the last (DistributedDataParallel.no_sync).

    Returns:
        The loss, detached.
    """
    is_cached = len(chunks) > 1
    with torch.no_grad() if is_cached else nullcontext():
        outputs = [chunk() for chunk in chunks]
    between_passes()
    whole = _leaves(outputs)
    loss = loss_of(whole)
    rows = [name for name in Features._fields if _is_rows(getattr(whole, name))]
    wanted = [*(getattr(whole, name) for name in rows), *shared]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    parts = {name: _split(gradients[i], outputs, name) for i, name in enumerate(rows)}
    of_shared = [_or_zeros(gradient, to) for gradient, to in zip(gradients[len(rows) :], shared, strict=True)]
    for number, chunk in enumerate(chunks):
        is_last = number == len(chunks) - 1
        with nullcontext() if is_last else no_sync():
            output = chunk() if is_cached else outputs[0]
            roots = [getattr(output, name) for name in rows]
            incoming = [_or_zeros(parts[name][number], to) for name, to in zip(rows, roots, strict=True)]
            # The shared parameters come last and once, so that DistributedDataParallel sees all of its own.
            torch.autograd.backward(
                [*roots, *(shared if is_last else ())], [*incoming, *(of_shared if is_last else ())]
            )
    return loss.detach()


def _is_rows(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _leaves(outputs: Sequence[Features]) -> Features:
    """Features of all chunks, cut off from the towers; scalars as the first chunk has them."""
    joined = {}
    for name in Features._fields:
        values = [getattr(output, name) for output in outputs]
        joined[name] = torch.cat(values).detach().requires_grad_() if _is_rows(values[0]) else values[0]
    return Features(**joined)


def _split(gradient: Tensor | None, outputs: Sequence[Features], name: str) -> Sequence[Tensor | None]:
    if gradient is None:
        return [None] * len(outputs)
    return gradient.split([len(getattr(output, name)) for output in outputs])


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
