"""Whether torch.compile is used, and which compiler it would need."""

import os
import shutil
import warnings

import torch
from torch import nn

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


def compile_towers(model: DualEncoder) -> None:
    """Compile both towers in place, for one shape each; names in the state_dict stay as they are."""
    towers: tuple[nn.Module, ...] = (model.encode_image, model.encode_text)
    for tower in towers:
        tower.compile(dynamic=False)
