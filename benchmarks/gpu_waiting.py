"""What a training on a GPU waits for data: ctclip's step fed by ctload from a store, beside the step on one batch held.

Volumes are made up, with noise in every voxel. "share waiting" is by the trainer's own clock (ctclip.training.meter),
which sees the host only; "share lost" is how much slower the fed step is than the same step on a batch that is there.
"""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import ctload
from benchmarks.gpu_case import Case, Ledger, device
from benchmarks.gpu_loading import STUDIES, compression_ratio
from benchmarks.gpu_sizes import Sizes, sizes
from benchmarks.gpu_training import batch_of, config_of, model_of
from benchmarks.rows import row_of
from ctclip.data import TrainBatch, choose_pipeline, loader_device, to_volume
from ctclip.training.distributed import World
from ctclip.training.meter import Meter
from ctclip.training.step import TrainingStep
from ctload.testing import synthetic_store, synthetic_volume

WORK, PREDICTED = "training fed from a store", 0.01
STEPS, STRETCHES = 24, 5  # of one number; numbers after one that warms up
READ_AHEAD = 4  # batches that a loader may hold ready


def waiting(ledger: Ledger, *, is_tiny: bool) -> None:
    """Rows at B = 4 and 16; none is measured twice."""
    size = sizes(is_tiny)
    ratio = compression_ratio(synthetic_volume(size.volume, 0))
    for batch in (2,) if is_tiny else (4, 16):
        pipeline = choose_pipeline("auto", device())
        config = f"B={batch} {'x'.join(map(str, size.volume))} tokens={size.tokens} bf16 lz4={ratio:.2f}"
        case = Case(WORK, f"ctclip and ctload {pipeline}", config, make=lambda: print)
        if ledger.has(case):
            continue
        fed, held = _measured(batch, pipeline, is_tiny=is_tiny)
        rates = [one["studies_per_s"] for one in fed]
        lost = [1 - rate / alone for rate, alone in zip(rates, held, strict=True)]
        for metric, unit, values, predicted in (
            ("share lost", "1", lost, PREDICTED),
            ("share waiting", "1", [one["wait_share"] for one in fed], PREDICTED),
            ("rate", "studies/s", rates, None),
            ("rate on one batch held", "studies/s", held, None),
        ):
            ledger.add_row(row_of(case.work, case.provider, config, metric, unit, values), predicted=predicted)


def _measured(batch: int, pipeline: str, *, is_tiny: bool) -> tuple[list[dict[str, float]], list[float]]:
    """Stretch by stretch, in turn: what the trainer's clock says of steps fed from a store, and the rate of steps on a
    batch that stays where it is."""
    size = sizes(is_tiny)
    torch.backends.cudnn.benchmark = True
    step = TrainingStep(model_of(size), config_of(batch, size), World(0, 1, device()))
    numbers, steps, stretches = itertools.count(), 2 if is_tiny else STEPS, 2 if is_tiny else STRETCHES
    fed, held = [], []
    with _loader(batch, pipeline, size.volume, 4 if is_tiny else STUDIES) as loader:
        batches = (one for _ in itertools.count() for one in loader)  # epochs without end, as in training
        for stretch in range(1 + stretches):
            _feed(step, numbers, batches, size, _meter(batch), READ_AHEAD)  # made ready while the batch was held
            meter, alone = _meter(batch), _meter(batch)
            given = _feed(step, numbers, batches, size, meter, steps)
            taken = meter.take()
            alone.take()  # begins here
            _hold(step, numbers, given, alone, steps)
            if stretch:
                fed.append(taken)
                held.append(alone.take()["studies_per_s"])
    return fed, held


def _feed(
    step: TrainingStep, numbers: Iterator[int], batches: Iterator[Any], size: Sizes, meter: Meter, count: int
) -> TrainBatch:
    """Some steps on batches of the loader, to the end on the device; the last batch."""
    given, loss = None, torch.zeros(())
    for _ in range(count):
        with meter.waiting():
            volumes = next(batches)
        given = batch_of(to_volume(volumes, device()), size)
        loss, _ = step.run(next(numbers), given)
        meter.count_step()
    float(loss)  # waits for the device
    assert given is not None
    return given


def _hold(step: TrainingStep, numbers: Iterator[int], given: TrainBatch, meter: Meter, count: int) -> None:
    """Some steps on one batch, to the end on the device."""
    loss = torch.zeros(())
    for _ in range(count):
        loss, _ = step.run(next(numbers), given)
        meter.count_step()
    float(loss)


def _meter(batch: int) -> Meter:
    return Meter(steps=0, first_step=0, batch_size=batch, is_shown=False)


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
