"""How many kernels one InfoNCE forward and backward launches on a GPU, counted by torch.profiler."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_case import Case, Ledger, bfloat16, device
from benchmarks.rivals import autograd_loss
from benchmarks.rows import row_of
from ctkernels import infonce

WORK, BATCH = "launches of InfoNCE forward+backward", 18
# Derived by counting calls, before any was seen on a GPU.
PREDICTED = {"autograd": 65.0, "compile": 17.0, "ctkernels": 2.0}  # ours: one kernel, and one scaling of its gradients


def launches(ledger: Ledger, *, is_tiny: bool) -> None:
    """One row each; on the CPU, where nothing is launched, of the calls that compute."""
    dim = 32 if is_tiny else 512
    compiled = torch.compile(autograd_loss, dynamic=False, backend="eager" if is_tiny else "inductor")
    losses: dict[str, Callable] = {"autograd": autograd_loss, "compile": compiled, "ctkernels": infonce}
    for provider, loss in losses.items():
        config = f"B={BATCH} E={dim} bf16"
        if ledger.has(Case(WORK, provider, config, make=lambda: print)):
            continue
        count = _count(loss, dim)
        if count == 0:
            print(f"{WORK}: the profiler saw no kernel of {provider}, which is no number", flush=True)
            continue
        ledger.add_row(row_of(WORK, provider, config, "launches", "1", [float(count)]), predicted=PREDICTED[provider])


def _count(loss: Callable, dim: int) -> int:
    rng = torch.Generator().manual_seed(0)
    inputs = [torch.randn(BATCH, dim, generator=rng).to(device(), torch.bfloat16).requires_grad_() for _ in range(2)]
    inputs.append(torch.tensor(2.6593, device=device(), requires_grad=True))
    upstream = torch.ones((), device=device())

    def step() -> Any:
        with bfloat16():
            made = loss(*inputs)
        return torch.autograd.grad(made, inputs, upstream.to(made.dtype))

    for _ in range(3):  # compiles and warms
        step()
    is_cuda = device().type == "cuda"
    kind = ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU
    with profile(activities=[kind]) as seen:
        step()
        if is_cuda:
            torch.cuda.synchronize()
    wanted = torch.autograd.DeviceType.CUDA if is_cuda else torch.autograd.DeviceType.CPU
    quiet = ("Memcpy", "Memset", "##", "Torch-Compiled")  # copies of scalars and named ranges are no kernels
    kernels = [event for event in seen.events() or [] if event.device_type == wanted and not event.is_user_annotation]
    return sum(1 for event in kernels if not event.name.startswith(quiet))
