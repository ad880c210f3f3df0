"""Momentum copies of encoders: weights that follow the trained ones slowly and get no gradient.

He et al. 2020 (arXiv 1911.05722), equation 2: theta_k <- m theta_k + (1 - m) theta_q, once per optimizer step and
before the keys of the next batch are computed.
"""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MAX_MEMORY_SHARE = 0.05  # of a run; above it, the copy still holds its random start when the run ends
SUGGESTED_MEMORIES = 20

Module = TypeVar("Module", bound=nn.Module)


def momentum_copy(module: Module) -> Module:
    """A copy without gradients, in evaluation mode: batch norm uses running statistics.

    MoCo shuffles its batch among GPUs so that query and key do not share batch statistics; running statistics keep
    them apart on one device too. Whose they are: ctclip/training/key_statistics.py.
    """
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_momentum(target: nn.Module, source: nn.Module, *, momentum: float, has_own_norms: bool = False) -> None:
    """Move a copy towards its source: target <- m target + (1 - m) source.

    Floating-point buffers (batch statistics) move alike; whole numbers (counts of batches) are copied.

    Args:
        target: Made by `momentum_copy` of `source`.
        source: The trained module.
        momentum: m, 0 to 1.
        has_own_norms: The copy's batch statistics are its own and stay as they are.
    """
    ours, theirs = _tensors(target), _tensors(source)
    assert list(ours) == list(theirs), "the momentum copy is of another module"
    if has_own_norms:
        for name in _norm_buffers(target):
            del ours[name]
    moving = [name for name, tensor in ours.items() if tensor.is_floating_point()]
    followers = [ours[name] for name in moving]
    torch._foreach_mul_(followers, momentum)
    torch._foreach_add_(followers, [theirs[name] for name in moving], alpha=1 - momentum)
    for name in ours.keys() - set(moving):
        ours[name].copy_(theirs[name])


def momentum_warning(momentum: float, steps: int) -> str | None:
    """What is wrong with m for a run of so many optimizer steps, and which m would do; None when nothing is.

    A copy remembers about 1 / (1 - m) steps. Where that is above a twentieth of the run it is still near the random
    start when the run ends.
    """
    memory = 1 / (1 - momentum) if momentum < 1 else float("inf")
    if memory <= MAX_MEMORY_SHARE * steps:
        return None
    if steps <= SUGGESTED_MEMORIES:
        return f"momentum={momentum} remembers {memory:.0f} steps of a run of {steps}; give the run more steps"
    return (
        f"momentum={momentum} remembers {memory:.0f} steps, more than {MAX_MEMORY_SHARE:.0%} of a run of {steps}; "
        f"{1 - SUGGESTED_MEMORIES / steps:.4g} would suit it"
    )


def _norm_buffers(module: nn.Module) -> set[str]:
    """Names of the buffers of batch norms."""
    return {
        f"{path}.{name}" if path else name
        for path, norm in module.named_modules()
        if isinstance(norm, _BatchNorm)
        for name, _ in norm.named_buffers(recurse=False)
    }


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
