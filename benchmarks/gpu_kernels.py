"""Cases of the kernels: ceilings, InfoNCE, the queue, batch norm; ours and others in one list, predictions beside.

Predictions and floors were derived for an H200 (4.3 TB/s copy, 788 TFLOP/s) before any measurement: launches times
2 to 6 microseconds eagerly, the sum of dependent memory trips in a graph. A graph holds several calls, as it does the
rest of a step where a step is captured whole; its time is per call.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu_case import Case, bfloat16, device
from benchmarks.rivals import autograd_loss, inf_cl_loss, open_clip_loss
from ctkernels import bn_act, infonce, infonce_queue
from ctkernels.queue_reference import queue_reference

BATCHES = (1, 2, 4, 8, 16, 18, 32, 64, 512, 1024, 4096, 8192)
# Provider -> predicted microseconds, forward and backward, for up to 64 pairs.
PREDICTED_US = {"autograd": 450.0, "open_clip": 500.0, "compile": 100.0, "compile, graph": 38.0, "ctkernels": 30.0}
PREDICTED_US |= {"ctkernels, graph": 8.0}
HBM_BYTES_PER_S, FLOPS_PER_S = 4.3e12, 788e12
GRAPH_CALLS = 20  # of one graph: its own launch costs the host as much as a small kernel takes
QUEUES = 8  # of 17 or 67 MB, where the L2 cache of a Hopper GPU holds 50 or 60


def ceilings(is_tiny: bool) -> Iterator[Case]:
    """What the machine at hand can do at most: a copy and a matrix product on random data."""
    size, side = (1 << 12, 64) if is_tiny else (1 << 31, 8192)

    def copy() -> Callable[[], Any]:
        source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device())
        into = torch.empty_like(source)
        return lambda: into.copy_(source)

    def product() -> Callable[[], Any]:
        left, right = (torch.randn(side, side, device=device(), dtype=torch.bfloat16) for _ in range(2))
        return lambda: left @ right

    yield Case("ceiling: copy", "torch", f"bytes={size}", copy, moved_bytes=2 * size, predicted=4.3)
    yield Case("ceiling: bf16 product", "torch", f"side={side}", product, operations=2 * side**3, predicted=788.0)


def contrast(is_tiny: bool) -> Iterator[Case]:
    """InfoNCE forward and backward of bfloat16 features, from raw features to all three gradients."""
    losses: dict[str, tuple[Callable[[], Callable], int]] = {
        "ctkernels": (lambda: infonce, 0),
        "ctkernels, graph": (lambda: infonce, GRAPH_CALLS),
        "autograd": (lambda: autograd_loss, 0),
        "autograd, graph": (lambda: autograd_loss, GRAPH_CALLS),
        "open_clip": (open_clip_loss, 0),
        "inf-cl": (inf_cl_loss, 0),
        "compile": (lambda: _compiled(autograd_loss, is_tiny), 0),
        "compile, graph": (lambda: _compiled(autograd_loss, is_tiny), GRAPH_CALLS),
    }
    for batch in (2, 65) if is_tiny else BATCHES:
        dim = 32 if is_tiny else 512
        for provider, (loss, calls) in losses.items():
            make = functools.partial(_loss_step, loss, batch, dim)
            floor = 1e6 * max(8 * batch * dim / HBM_BYTES_PER_S, 6 * batch * batch * dim / FLOPS_PER_S)
            predicted = PREDICTED_US.get(provider) if batch <= 64 else None
            work, config = "infonce forward+backward", f"B={batch} E={dim} bf16"
            yield Case(work, provider, config, make, predicted=predicted, floor=floor, graph_calls=calls)


def _compiled(function: Callable, is_tiny: bool) -> Callable:
    return torch.compile(function, dynamic=False, backend="aot_eager" if is_tiny else "inductor")


def _loss_step(loss: Callable[[], Callable], batch: int, dim: int) -> Callable[[], Any]:
    image, text = (torch.randn(batch, dim, device=device(), dtype=torch.bfloat16).requires_grad_() for _ in range(2))
    scale = torch.tensor(2.6593, device=device(), requires_grad=True)
    function = loss()

    def step() -> Any:
        with bfloat16():
            made = function(image, text, scale)
        return torch.autograd.grad(made, (image, text, scale))

    return step


def queue(is_tiny: bool) -> Iterator[Case]:
    """InfoNCE against queues in bfloat16, in turn so that they exceed the L2 cache, also within a graph."""
    slots = 256 if is_tiny else 65536
    for dim in (16,) if is_tiny else (128, 512):
        for batch in (4,) if is_tiny else (16, 32):
            for provider, function, calls in (
                ("ctkernels", lambda: _keywords, 0),
                ("ctkernels, graph", lambda: _keywords, QUEUES),
                ("autograd", lambda: queue_reference, 0),
                ("compile", lambda: _compiled(queue_reference, is_tiny), 0),
                ("compile, graph", lambda: _compiled(queue_reference, is_tiny), QUEUES),
            ):
                make = functools.partial(_queue_step, function, batch, dim, slots)
                floor = 1e6 * slots * dim * 2 / HBM_BYTES_PER_S
                predicted = {"ctkernels, graph": floor / 0.7, "autograd": 450.0}.get(provider)
                config = f"B={batch} K={slots} E={dim} bf16"
                work = "infonce against a queue"
                yield Case(work, provider, config, make, predicted=predicted, floor=floor, graph_calls=calls)


def _keywords(query: Tensor, key: Tensor, queue: Tensor, scale: Tensor, query_id: Tensor, queue_id: Tensor) -> Tensor:
    return infonce_queue(query, key, queue, scale, query_id=query_id, queue_id=queue_id)


def _queue_step(function: Callable[[], Callable], batch: int, dim: int, slots: int) -> Callable[[], Any]:
    made = {"device": device(), "dtype": torch.bfloat16}
    query, key = torch.randn(batch, dim, **made).requires_grad_(), torch.randn(batch, dim, **made)
    queues = [functional.normalize(torch.randn(slots, dim, **made), dim=1) for _ in range(QUEUES)]
    scale = torch.tensor(2.6593, device=device(), requires_grad=True)
    ids = torch.arange(batch, device=device()), torch.arange(slots, device=device()) + batch
    loss, turn = function(), 0

    def step() -> Any:
        nonlocal turn
        turn = (turn + 1) % len(queues)
        with bfloat16():
            each = loss(query, key, queues[turn], scale, *ids)
        return torch.autograd.grad(each, (query,))

    return step


def batch_norm(is_tiny: bool) -> Iterator[Case]:
    """Batch norm, add and ReLU of the layers of a ResNet-152 over 160x224x224, B = 4, forward and backward."""
    layers = {"layer1": (256, (80, 56, 56)), "layer2": (512, (40, 28, 28)), "layer3": (1024, (20, 14, 14))}
    batch = 1 if is_tiny else 4
    for name, (channels, size) in {"tiny": (8, (2, 3, 4))}.items() if is_tiny else layers.items():
        voxels = batch * channels * size[0] * size[1] * size[2]
        # Forward reads x twice and the residual, writes y; backward reads d_y, x and y twice, writes two gradients.
        moved = 2 * voxels * 12
        for provider, function in (
            ("ctkernels", lambda: _fused),
            ("eager", lambda: _separate),
            ("compile", lambda: _compiled(_separate, is_tiny)),
        ):
            make = functools.partial(_norm_step, function, (batch, channels, *size))
            predicted = {"ctkernels": 3.4, "eager": 1.6, "compile": 2.6}[provider]
            config = f"{name} B={batch} C={channels} {size[0]}x{size[1]}x{size[2]} bf16"
            yield Case("batch norm, add, ReLU", provider, config, make, moved_bytes=moved, predicted=predicted)


def _fused(norm: nn.BatchNorm3d, x: Tensor, residual: Tensor) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bn_act(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, residual=residual)


def _separate(norm: nn.BatchNorm3d, x: Tensor, residual: Tensor) -> Tensor:
    return functional.relu(norm(x) + residual)


def _norm_step(function: Callable[[], Callable], shape: tuple[int, ...]) -> Callable[[], Any]:
    norm = nn.BatchNorm3d(shape[1]).to(device())
    x, residual, slope = (
        torch.randn(shape, device=device(), dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last_3d)
        for _ in range(3)
    )
    x.requires_grad_()
    residual.requires_grad_()
    call = function()
    learned = (x, residual, norm.weight, norm.bias)
    return lambda: torch.autograd.grad(call(norm, x, residual), learned, slope)
