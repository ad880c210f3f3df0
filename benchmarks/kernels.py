"""InfoNCE on the CPU: ours against autograd through plain torch and open_clip's loss, in one run.

On a CPU ours is the closed form in ATen, not a Triton kernel: these rows say what that form costs, and nothing about
a GPU. One thread, float32, 512 dimensions, forward and backward from raw features.
"""

import functools
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

from benchmarks.rivals import autograd_loss, open_clip_loss
from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctkernels import infonce

BATCHES, DIM, CALLS = (4, 18, 64, 512), 512, 20


def run(num_rounds: int) -> None:
    """Time all candidates in turn and append the rows."""
    torch.set_num_threads(1)
    losses: dict[str, Callable] = {"ctkernels closed form": infonce, "autograd": autograd_loss}
    try:
        losses["open_clip ClipLoss"] = open_clip_loss()
    except ImportError as missing:
        print(f"without open_clip: {missing}")
    work, rows = "infonce forward+backward", []
    for batch in BATCHES:
        candidates = {name: functools.partial(_microseconds, loss, batch) for name, loss in losses.items()}
        values = alternate(candidates, num_rounds=num_rounds)
        config = f"B={batch} E={DIM} float32 threads=1 torch={version('torch')}"
        rows += [row_of(work, name, config, "time", "us", each) for name, each in values.items()]
        ours = values["ctkernels closed form"]
        rows += [
            row_of(work, f"{name} / ctkernels closed form", config, "ratio", "x", paired_ratios(each, ours))
            for name, each in values.items()
            if each is not ours
        ]
    append_rows("kernels", rows)


def _microseconds(loss: Callable, batch: int) -> float:
    """Of one call, over CALLS of them."""
    rng = torch.Generator().manual_seed(batch)
    inputs = [torch.randn(batch, DIM, generator=rng).requires_grad_() for _ in range(2)]
    inputs.append(torch.tensor(2.6593, requires_grad=True))
    started = time.perf_counter()
    for _ in range(CALLS):
        torch.autograd.grad(loss(*inputs), inputs)
    return 1e6 * (time.perf_counter() - started) / CALLS
