"""Training on the CPU: the tiny image tower setting by setting, forward and backward, in one run.

The published tower takes minutes a step on a CPU; these rows compare memory layouts on the tiny one, nothing more.
Everything about the published sizes is in `python -m benchmarks.gpu`.
"""

import functools
import time
from importlib.metadata import version

import torch

from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctclip.config import PRESETS
from ctclip.models.inflated_resnet import InflatedResNet

BATCH, VOLUME, CALLS = 2, (32, 64, 64), 2


def run(num_rounds: int) -> None:
    """Time both layouts in turn and append the rows."""
    torch.set_num_threads(1)
    layouts = {"channels last": torch.channels_last_3d, "contiguous": torch.contiguous_format}
    candidates = {f"ctclip tiny, {name}": functools.partial(_rate, layout) for name, layout in layouts.items()}
    values = alternate(candidates, num_rounds=num_rounds)
    shape = "x".join(str(size) for size in VOLUME)
    config = f"B={BATCH} {shape} float32 threads=1 eager torch={version('torch')}"
    work = "image tower forward+backward"
    rows = [row_of(work, name, config, "rate", "studies/s", each) for name, each in values.items()]
    ours, other = values.values()
    rows.append(row_of(work, "channels last / contiguous", config, "ratio", "x", paired_ratios(ours, other)))
    append_rows("training", rows)


@functools.cache
def _tower(layout: torch.memory_format) -> InflatedResNet:
    torch.manual_seed(0)
    tower = InflatedResNet(PRESETS["tiny"].model.image, num_channels=1, embedding_dim=128).train()
    return tower.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def _rate(layout: torch.memory_format) -> float:
    """Studies per second over CALLS steps."""
    tower, volume = _tower(layout), torch.rand(BATCH, 1, *VOLUME)
    started = time.perf_counter()
    for _ in range(CALLS):
        tower.zero_grad(set_to_none=True)
        tower(volume).square().mean().backward()
    return BATCH * CALLS / (time.perf_counter() - started)
