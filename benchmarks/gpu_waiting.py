"""What a training on a GPU waits for data: ctclip's step fed by ctload from a store, as a share of the time.

Volumes are made up, with noise in every voxel. The clock is the trainer's own (ctclip.training.meter).
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import ctload
from benchmarks.gpu_case import Case, Ledger, device
from benchmarks.gpu_loading import STUDIES, compression_ratio
from benchmarks.gpu_sizes import sizes
from benchmarks.gpu_training import batch_of, config_of, model_of
from benchmarks.rows import row_of
from ctclip.data import choose_pipeline, loader_device, to_volume
from ctclip.training.distributed import World
from ctclip.training.meter import Meter
from ctclip.training.step import TrainingStep
from ctload.testing import synthetic_store, synthetic_volume

WORK, PREDICTED = "training fed from a store", 0.01
EPOCHS_TIMED = 3  # after one that warms up; each is a number


def waiting(ledger: Ledger, *, is_tiny: bool) -> None:
    """Rows of the share of time spent waiting, at B = 4 and 16; none is measured twice."""
    size = sizes(is_tiny)
    ratio = compression_ratio(synthetic_volume(size.volume, 0))
    for batch in (2,) if is_tiny else (4, 16):
        pipeline = choose_pipeline("auto", device())
        config = f"B={batch} {'x'.join(map(str, size.volume))} tokens={size.tokens} bf16 lz4={ratio:.2f}"
        case = Case(WORK, f"ctclip and ctload {pipeline}", config, make=lambda: print)
        if ledger.has(case):
            continue
        shares, rates = _measured(batch, pipeline, is_tiny=is_tiny)
        for metric, unit, values, predicted in (
            ("share waiting", "1", shares, PREDICTED),
            ("rate", "studies/s", rates, None),
        ):
            ledger.add_row(row_of(case.work, case.provider, config, metric, unit, values), predicted=predicted)


def _measured(batch: int, pipeline: str, *, is_tiny: bool) -> tuple[list[float], list[float]]:
    """Of each timed epoch, the share of time spent waiting and studies per second."""
    size = sizes(is_tiny)
    torch.backends.cudnn.benchmark = True
    step = TrainingStep(model_of(size), config_of(batch, size), World(0, 1, device()))
    number, taken, loss = 0, [], torch.zeros(())
    with _loader(batch, pipeline, size.volume, 4 if is_tiny else STUDIES) as loader:
        for epoch in range(1 + EPOCHS_TIMED):
            meter = Meter(steps=0, first_step=0, batch_size=batch, is_shown=False)
            batches = iter(loader)
            while True:
                with meter.waiting():
                    given = next(batches, None)
                if given is None:
                    break
                loss, _ = step.run(number, batch_of(to_volume(given, device()), size))
                meter.count_step()
                number += 1
            float(loss)  # waits for the device
            if epoch:
                taken.append(meter.take())
    return [one["wait_share"] for one in taken], [one["studies_per_s"] for one in taken]


@contextlib.contextmanager
def _loader(batch: int, pipeline: str, shape: tuple[int, int, int], studies: int) -> Iterator[ctload.Loader]:
    with tempfile.TemporaryDirectory(prefix="ctload-gpu-") as folder:
        store = synthetic_store(Path(folder) / "store.zarr", num_studies=studies, shape=shape)
        with ctload.Loader(
            store.studies,
            sampler=ctload.ShuffleSampler(batch_size=batch, seed=0),
            window=ctload.HuWindow(-1000, 1000),
            pipeline=pipeline,
            device=loader_device(pipeline, device()),
            to="torch",
        ) as loader:
            yield loader
