"""Training on the CPU: the tiny image tower setting by setting, forward and backward, in one run.

The published tower takes minutes a step on a CPU; these rows compare memory layouts and precisions on the tiny one,
nothing more. Everything about the published sizes is in `python -m benchmarks.gpu`.
"""

import functools
import time
from importlib.metadata import version

import torch

from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.presets import PRESETS
from ctclip.training.precision import Precision, mixed_precision

BATCH, VOLUME, CALLS = 16, (40, 64, 64), 1  # a step of `ctclip demo` and of the studies on phantoms
LAST = torch.channels_last_3d


def run(num_rounds: int) -> None:
    """Time layouts and precisions in turn and append the rows."""
    torch.set_num_threads(1)
    candidates = {
        "channels last": functools.partial(_rate, LAST, "float32"),
        "contiguous": functools.partial(_rate, torch.contiguous_format, "float32"),
        "channels last, bfloat16": functools.partial(_rate, LAST, "bfloat16"),
    }
    values = alternate({f"ctclip tiny, {name}": call for name, call in candidates.items()}, num_rounds=num_rounds)
    shape = "x".join(str(size) for size in VOLUME)
    config = f"B={BATCH} {shape} threads=1 eager torch={version('torch')}"
    work = "image tower forward+backward"
    rows = [row_of(work, name, config, "rate", "studies/s", each) for name, each in values.items()]
    ours, other, half = values.values()
    rows.append(row_of(work, "channels last / contiguous", config, "ratio", "x", paired_ratios(ours, other)))
    rows.append(row_of(work, "bfloat16 / float32", config, "ratio", "x", paired_ratios(half, ours)))
    append_rows("training", rows)


@functools.cache
def _tower(layout: torch.memory_format) -> InflatedResNet:
    torch.manual_seed(0)
    tower = InflatedResNet(PRESETS["tiny"].model.image, num_channels=1, embedding_dim=128).train()
    return tower.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def _rate(layout: torch.memory_format, precision: Precision) -> float:
    """Studies per second over CALLS steps."""
    tower, volume = _tower(layout), torch.rand(BATCH, 1, *VOLUME).contiguous(memory_format=layout)
    started = time.perf_counter()
    for _ in range(CALLS):
        tower.zero_grad(set_to_none=True)
        with mixed_precision("cpu", precision):
            features = tower(volume)
        features.float().square().mean().backward()
    return BATCH * CALLS / (time.perf_counter() - started)
