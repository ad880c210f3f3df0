"""`ctclip predict` at Merlin's full size on the CPU: wall time, processor time and peak memory of the whole command.

The weights are random and of Merlin's shapes, all towers in one file of 1.1 GB; the scan is made up, 512x512 slices in
a .nii.gz, which the command brings to 160x224x224. Every round is a process of its own: start, reading both files
(from the page cache), resampling and the phenotypes are in it.
"""

import functools
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import torch
from transformers import LongformerConfig, LongformerModel

from benchmarks.rows import append_rows, row_of
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.merlin_checkpoint import CLASSIFIER, IMAGE, TEXT
from ctclip.presets import PRESETS
from ctload.testing import synthetic_volume

SCAN, SPACING_MM = (160, 512, 512), (3.0, 0.7, 0.7)
NUM_PHENOTYPES, EMBEDDING, POOLED, HIDDEN = 1692, 512, 2048, 768
THREADS = (1,)


def run(scratch: Path, num_rounds: int) -> None:
    """Time the command and append the rows."""
    weights, scan = scratch / "merlin-shapes.pt", scratch / "made-up.nii.gz"
    write_weights(weights)
    write_scan(scan)
    rows = []
    for threads in THREADS:
        command = functools.partial(_once, scan, weights, threads)
        command()  # compiles the resampler, fills the page cache
        measured = [command() for _ in range(num_rounds)]
        size = "x".join(map(str, SCAN))
        config = f"merlin, random weights, scan {size} threads={threads} torch={version('torch')}"
        for metric, unit, number in (("wall time", "s", 0), ("processor time", "s", 1), ("peak memory", "GiB", 2)):
            rows.append(row_of("predict one scan", "ctclip", config, metric, unit, [each[number] for each in measured]))
    append_rows("predict", rows)


def write_weights(path: Path) -> None:
    """Random weights under the names of Merlin's released state_dict."""
    if path.exists():
        return
    torch.manual_seed(0)
    image = InflatedResNet(PRESETS["merlin"].model.image, num_channels=1, embedding_dim=EMBEDDING).state_dict()
    longformer = LongformerConfig(
        vocab_size=50265, num_hidden_layers=12, intermediate_size=3072, max_position_embeddings=4098, pad_token_id=1,
        type_vocab_size=1,
    )  # fmt: skip
    text = LongformerModel(longformer).state_dict()
    state = {"logit_scale": torch.tensor(2.6593)}
    state |= {IMAGE + name: tensor for name, tensor in image.items()}
    state |= {CLASSIFIER + "weight": 0.01 * torch.randn(NUM_PHENOTYPES, POOLED, 1, 1, 1)}
    state |= {CLASSIFIER + "bias": torch.zeros(NUM_PHENOTYPES)}
    state |= {f"{TEXT}text_encoder.{name}": tensor for name, tensor in text.items()}
    state |= {TEXT + "linear_layer.weight": 0.01 * torch.randn(EMBEDDING, HIDDEN)}
    state |= {TEXT + "linear_layer.bias": torch.zeros(EMBEDDING)}
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.rename(path)  # a half-written file is never taken for whole


def write_scan(path: Path) -> None:
    """Noise in every voxel, in HU, as NIfTI with axes (x, y, z)."""
    if not path.exists():
        image = nibabel.Nifti1Image(synthetic_volume(SCAN, 0).T, np.diag([*SPACING_MM[::-1], 1.0]))
        nibabel.save(image, path)


def _once(scan: Path, weights: Path, threads: int) -> tuple[float, float, float]:
    """Seconds on the wall, seconds of processors, and GiB at most, of one process."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "ctclip.cli", "predict", str(scan), "--checkpoint", str(weights), "--top", "1"]
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ctclip predict ended with {process.returncode}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / (1 << 20)
