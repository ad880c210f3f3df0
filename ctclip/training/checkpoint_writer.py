"""Writing checkpoints: a copy of everything in memory, then files in a thread, whole or not there.

What a checkpoint is stands in checkpoint.py. A folder is written under another name, made durable, and renamed, so
that a kill leaves the one before.

Rank 0 writes for all. Under data parallelism every rank holds the same weights, moments, momentum copies and queues,
the loader's state is a few numbers for all ranks (their quarantines are merged before), and random numbers have no
state, so nothing is lost; a sharded format such as torch.distributed.checkpoint, which also pickles, would buy a
collective at every save and files that nothing else reads.
"""

import json
import shutil
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ctclip.config import TrainConfig
from ctclip.config_json import to_json
from ctclip.errors import CheckpointError
from ctclip.training.checkpoint import (
    AVERAGE,
    FORMAT,
    MOMENTS,
    MOMENTUM,
    TEXT,
    VERSION,
    WEIGHTS,
    step_folders,
    write_header,
)
from ctload.storage.durable import sync_folder, sync_tree


@dataclass(frozen=True)
class Snapshot:
    """Everything of one checkpoint, in the computer's own memory; later steps do not change it.

    Attributes:
        step: Optimizer steps done.
        tensors: By file, then by name.
        body: Of checkpoint.json, without digests.
        keep: Checkpoints that stay, this one among them.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    body: Mapping[str, Any]
    keep: int


def take_snapshot(
    *,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None,
    momentum: Mapping[str, Tensor] | None = None,
    config: TrainConfig,
    num_channels: int,
    environment: Mapping[str, Any],
    loader_state: Mapping[str, Any],
    num_skipped: int = 0,
) -> Snapshot:
    """Copy what a checkpoint holds. It waits for the device; nothing is written.

    Args:
        step: Optimizer steps done.
        model: The dual encoder itself, without wrappers.
        optimizer: Over the model's parameters.
        average: Of the weights, by name; None where none is kept.
        momentum: State of the momentum branch with its queues; None where the objective has none.
        config: Of the run.
        num_channels: C of the volumes.
        environment: See Checkpoint.
        loader_state: Loader.state_dict() after this step.
        num_skipped: Steps of the run that were not finite.
    """
    tensors = {WEIGHTS: _copy(model.state_dict()), MOMENTS: _copy(_moments(optimizer))}
    if average is not None:
        tensors[AVERAGE] = _copy(average)
    if momentum is not None:
        tensors[MOMENTUM] = _copy(momentum)
    body = {
        "format": FORMAT, "version": VERSION, "step": step, "num_channels": num_channels, "num_skipped": num_skipped,
        "config": json.loads(to_json(config)), "environment": dict(environment), "loader": dict(loader_state),
    }  # fmt: skip
    return Snapshot(step, tensors, body, config.keep_checkpoints)


def write_snapshot(run: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint below `run`, whole or not at all, and drop the oldest beyond those that are kept.

    Args:
        run: Folder of the run; its text/ is copied into the checkpoint.
        snapshot: Of `take_snapshot`.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: The disk is full or read-only; the checkpoints before are untouched.
    """
    root = run / "checkpoints"
    target = root / f"step-{snapshot.step:08d}"
    beside = root / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        _sweep(root)
        shutil.copytree(run / TEXT, beside / TEXT)
        for name, tensors in snapshot.tensors.items():
            save_file(dict(tensors), beside / name)
        write_header(beside, dict(snapshot.body))
        sync_tree(beside)
        if target.exists():  # the same step of a run that was sent back to an earlier checkpoint
            _discard(target)
        beside.rename(target)
        sync_folder(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise CheckpointError(f"cannot be written ({error}); free space or rights, then resume", path=target) from error
    for old in step_folders(root)[: -snapshot.keep]:
        _discard(old)
    return target


class CheckpointWriter:
    """Writes snapshots of one run in a thread, never two at once.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._path: Path | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write; waits first for the one before.

        Raises:
            CheckpointError: The one before could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise what a finished thread met, without waiting.

        Raises:
            CheckpointError: The last one could not be written.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> Path | None:
        """Return when nothing is being written: the newest checkpoint of this writer, None before the first.

        Raises:
            CheckpointError: It could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._path

    def _write(self, snapshot: Snapshot) -> None:
        try:
            self._path = write_snapshot(self._run, snapshot)
        except Exception as error:  # given to whoever waits, in wait()
            self._error = error


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, in memory of their own."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors as "<number of the parameter>.<key>"."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{number}.{key}": value
        for number, parameter in enumerate(parameters)
        for key, value in optimizer.state[parameter].items()
    }


def _discard(folder: Path) -> None:
    """Rename, then remove: a kill in between leaves no half checkpoint under a checkpoint's name."""
    gone = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    folder.rename(gone)
    shutil.rmtree(gone)


def _sweep(root: Path) -> None:
    """Remove what a kill left."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(".step-*.tmp"):
        shutil.rmtree(left)
