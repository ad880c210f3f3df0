"""Floating-point operations of training, counted without computing, and the rate this machine reaches at most.

Their quotient is what is usually called MFU, with the ceiling measured here and now instead of read from a datasheet.
"""

import time

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from ctclip.models.dual import DualEncoder


def training_flops(
    model: DualEncoder, *, volume_shape: tuple[int, int, int, int], num_tokens: int, num_texts: int = 1
) -> int | None:
    """Operations (2 per multiply-add) of one study's forward and backward pass through both towers.

    Args:
        model: On the CPU; stays as it is.
        volume_shape: (C, D, H, W).
        num_tokens: N, to which texts are padded.
        num_texts: Of each study; one per anatomy where anatomies are looked at apart.

    Returns:
        The count; None where a text encoder reads values while it runs, so that it cannot be counted.
    """
    with torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        state: dict[str, torch.Tensor] = {
            name: fake.from_tensor(value) for name, value in (*model.named_parameters(), *model.named_buffers())
        }
        inputs = (torch.empty(2, *volume_shape), torch.zeros(2 * num_texts, num_tokens, dtype=torch.int64))
        with FlopCounterMode(display=False) as counter:
            try:
                features = functional_call(model, state, (*inputs, torch.ones_like(inputs[1])))
                (features.image.sum() + features.text.sum()).backward()
            except (NotImplementedError, RuntimeError):
                return None
    return counter.get_total_flops() // 2


def measured_ceiling(device: torch.device, *, num_rounds: int = 5) -> float:
    """The best rate of a large matrix product, operations per second: bfloat16 on CUDA, float32 on the CPU.

    Args:
        device: Where.
        num_rounds: Of which the fastest counts, after one that does not.
    """
    is_cuda = device.type == "cuda"
    size = 8192 if is_cuda else 768
    left = torch.ones(size, size, device=device, dtype=torch.bfloat16 if is_cuda else torch.float32)
    best = float("inf")
    for number in range(num_rounds + 1):
        _wait(device)
        started = time.perf_counter()
        torch.mm(left, left)
        _wait(device)
        if number:
            best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
