"""In which precision the towers compute; weights, features, losses and the optimizer are float32 always."""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def mixed_precision(device: torch.device | str, precision: Precision) -> torch.autocast:
    """The autocast of a forward pass.

    Args:
        device: Where it runs.
        precision: auto: bfloat16 on CUDA, float32 on the CPU. bfloat16 pays on a CPU with AVX512_BF16 or AMX only.
    """
    kind = torch.device(device).type
    is_half = precision == "bfloat16" or (precision == "auto" and kind == "cuda")
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=is_half)
