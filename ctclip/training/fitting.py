"""The largest forward pass that fits in memory, for micro_batch="auto".

On CUDA it is found by trying: forward and backward on zeros, largest first, beside room for the optimizer's moments,
until none runs out of memory. On a CPU running out kills the process, so there the bytes that two studies keep for
the backward pass are measured and multiplied.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ctclip.errors import ConfigError
from ctclip.models.dual import DualEncoder
from ctclip.training.precision import Precision, mixed_precision

CPU_SHARE = 0.6  # of the free memory that activations may take


def fit_micro_batch(
    model: DualEncoder,
    candidates: Sequence[int],
    *,
    volume_shape: tuple[int, int, int, int],
    num_tokens: int,
    num_texts: int = 1,
    precision: Precision = "auto",
) -> int:
    """The largest of `candidates` whose forward and backward pass fits. The model is left as it was.

    Args:
        model: On its device, in training mode.
        candidates: Numbers of studies, largest first.
        volume_shape: (C, D, H, W) of a study's volume.
        num_tokens: N, of the longest text.
        num_texts: Of each study; one per anatomy where anatomies are looked at apart.
        precision: Of the passes.

    Raises:
        ConfigError: Not even the smallest fits.
    """
    device = model.logit_scale.device
    buffers = [buffer.clone() for buffer in model.buffers()]
    try:

        def zeros(size: int) -> tuple[Tensor, Tensor, Tensor]:
            return _zeros(size, volume_shape=volume_shape, num_texts=num_texts, num_tokens=num_tokens, device=device)

        if device.type == "cuda":
            return _first_that_runs(candidates, lambda size: _try_on_cuda(model, zeros(size), precision))
        kept = _bytes_per_study(model, zeros(2), precision)
        return largest_within(candidates, bytes_per_study=kept, free=int(CPU_SHARE * free_memory()))
    finally:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        model.zero_grad(set_to_none=True)


def largest_within(candidates: Sequence[int], *, bytes_per_study: int, free: int) -> int:
    """The largest candidate that keeps at most `free` bytes.

    Raises:
        ConfigError: None does.
    """
    for size in candidates:
        if size * bytes_per_study <= free:
            return size
    raise ConfigError(
        f"one forward pass of {candidates[-1]} studies keeps {candidates[-1] * bytes_per_study / 2**30:.2f} GiB and "
        f"{free / 2**30:.2f} GiB may be used; take a smaller data.crop or a smaller model"
    )


def free_memory() -> int:
    """Bytes that this process may still take: free memory of the machine, or what its control group has left."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text(encoding="utf-8").strip()) != "max":
        free = min(free, int(text) - int(used.read_text(encoding="utf-8")))
    return free


def _first_that_runs(candidates: Sequence[int], run: Callable[[int], None]) -> int:
    for size in candidates:
        try:
            run(size)
        except torch.OutOfMemoryError:
            continue
        return size
    raise ConfigError(
        f"even a forward pass of {candidates[-1]} studies does not fit in the memory of this GPU; take a smaller "
        "data.crop, a smaller model, or activation_budget below 1"
    )


def _try_on_cuda(model: DualEncoder, zeros: tuple[Tensor, ...], precision: Precision) -> None:
    torch.cuda.empty_cache()
    device = model.logit_scale.device
    moments = [torch.empty_like(p) for p in model.parameters() if p.requires_grad for _ in range(2)]
    with mixed_precision(device, precision):
        features = model(*zeros)
    (features.image.sum() + features.text.sum()).backward()
    torch.cuda.synchronize(device)
    del moments


def _bytes_per_study(model: DualEncoder, zeros: tuple[Tensor, ...], precision: Precision) -> int:
    """Of the two studies given: batch norm refuses a single value per channel."""
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    kept_here = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with kept_here, mixed_precision(model.logit_scale.device, precision):
        features = model(*zeros)
    total = sum(kept.values())
    del features
    return max(1, total // 2)


def _zeros(
    size: int, *, volume_shape: tuple[int, ...], num_texts: int, num_tokens: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    volume = torch.zeros(size, *volume_shape, device=device).contiguous(memory_format=torch.channels_last_3d)
    ids = torch.zeros(size * num_texts, num_tokens, dtype=torch.int64, device=device)
    return volume, ids, torch.ones_like(ids)
