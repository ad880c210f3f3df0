"""AdamW with decay groups, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from ctclip.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig, *, is_capturable: bool = False) -> torch.optim.AdamW:
    """AdamW over the trained parameters (Loshchilov and Hutter 2019, arXiv 1711.05101), fused into one pass.

    Weight decay acts on parameters with two axes or more; biases, norms and the logit scale have none.

    Args:
        model: On its device.
        config: Rates and decay.
        is_capturable: For a CUDA graph: the rate is a tensor on the device, which `set_learning_rate` fills.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    given = torch.tensor(rate, device=trained[0].device) if is_capturable else rate
    return torch.optim.AdamW(groups, lr=given, betas=config.betas, fused=True, capturable=is_capturable)


def learning_rate(step: int, *, steps: int, config: OptimConfig) -> float:
    """Learning rate of a step (from 0): a linear rise over warmup_steps, then half a cosine down to final_share.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.
    """
    warmup = min(config.warmup_steps, steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (config.final_share + (1 - config.final_share) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
