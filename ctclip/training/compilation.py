"""Whether torch.compile is used, and which compiler it would need."""

import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._functorch.config
from torch._dynamo.backends.registry import lookup_backend

from ctclip.models.dual import DualEncoder

CXX_COMPILERS = ("g++", "clang++", "c++")


def is_compile_wanted(mode: str, device: torch.device) -> bool:
    """ "on" and "off" as they are; "auto" is on for CUDA only. Off, with a warning, where no C++ compiler is found.

    On a CPU compiling takes a minute and gains it back after some 250 steps.
    """
    if mode == "off" or (mode == "auto" and device.type != "cuda"):
        return False
    candidates = [name for name in (os.environ.get("CXX"), *CXX_COMPILERS) if name]
    if any(shutil.which(name) for name in candidates):
        return True
    warnings.warn(
        f"no C++ compiler was found (looked for {', '.join(candidates)}), which torch.compile needs: training runs "
        "eagerly, slower and otherwise the same. Install g++, or set CXX",
        stacklevel=2,
    )
    return False


def compile_towers(model: DualEncoder, *, activation_budget: float = 1.0) -> None:
    """Compile both towers in place, for one shape each; names in the state_dict stay as they are.

    Args:
        model: Its towers are compiled at their first call.
        activation_budget: Share of the image tower's activations that are kept for the backward pass. The text tower
            keeps all of its own: under a budget torch draws dropout masks anew in the backward pass (pytorch 190758).
    """
    if activation_budget < 1:
        model.encode_image.compile(dynamic=False, backend=budgeted_backend(activation_budget))
    else:
        model.encode_image.compile(dynamic=False)
    model.encode_text.compile(dynamic=False)


def budgeted_backend(budget: float, backend: str = "inductor") -> Callable[..., Any]:
    """A backend of torch.compile that keeps at most this share of what the backward pass needs."""
    compiler = lookup_backend(backend)

    def compile_graph(graph: Any, inputs: Any) -> Any:
        with torch._functorch.config.patch(activation_memory_budget=budget):
            return compiler(graph, inputs)

    return compile_graph
