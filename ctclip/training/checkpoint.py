"""Checkpoints: everything a run needs to go on bit for bit, in one folder, whole or not there.

<run>/checkpoints/step-00000200/
    checkpoint.json         configuration, step, loader state, environment, and the digest of every other file
    model.safetensors       weights and buffers
    optimizer.safetensors   moments of the optimizer
    average.safetensors     average of the weights, where the run keeps one
    momentum.safetensors    momentum copies and feature queues, where the objective has them
    text/                   configuration and tokenizer of the text tower

There is no pickle in it and none is read. Random numbers need no state: every draw is a function of (seed, step).
Reading is here, writing in checkpoint_writer.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ctclip.config import TrainConfig
from ctclip.config_json import differences, from_json
from ctclip.errors import CheckpointError, ConfigError
from ctload.storage.digests import digest_source

FORMAT = "ctclip-checkpoint"
VERSION = 1
HEADER, TEXT = "checkpoint.json", "text"
WEIGHTS, MOMENTS, AVERAGE = "model.safetensors", "optimizer.safetensors", "average.safetensors"
MOMENTUM = "momentum.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were held against their digests. Tensors are still on disk.

    Attributes:
        path: Its folder.
        config: Of the run that wrote it.
        step: Optimizer steps done.
        num_channels: C of the volumes.
        environment: What the last bits depend on besides the configuration: device, compile mode, threads, ...
        loader_state: For Loader.load_state_dict.
        digest: Covers every file; the identity of these weights.
        num_skipped: Steps of the run that were not finite.
    """

    path: Path
    config: TrainConfig
    step: int
    num_channels: int
    environment: dict[str, Any]
    loader_state: dict[str, Any]
    digest: str
    num_skipped: int = 0

    @property
    def has_average(self) -> bool:
        """Whether an average of the weights was kept; it is what gets evaluated."""
        return (self.path / AVERAGE).is_file()

    @property
    def text_folder(self) -> Path:
        """Configuration and tokenizer of the text tower."""
        return self.path / TEXT


def latest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    folders = step_folders(run / "checkpoints")
    return folders[-1] if folders else None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint's header and hold every file against its digest.

    Args:
        path: A step-... folder, or a run's folder, whose newest checkpoint is taken.

    Raises:
        CheckpointError: No checkpoint, a file of another kind, a newer format, or bytes that are not those written.
    """
    path = Path(path)
    if path.is_file():
        raise CheckpointError(
            "is a file; a checkpoint of ctclip is a folder (runs/NAME, or runs/NAME/checkpoints/step-...). Pickled "
            "checkpoints are never read",
            path=path,
        )
    if not (path / HEADER).is_file():
        newest = latest_checkpoint(path)
        if newest is None:
            raise CheckpointError(f"holds no checkpoint: neither {HEADER} nor checkpoints/step-...", path=path)
        path = newest
    body = _read_header(path)
    _check_files(path, body["files"])
    try:
        config = from_json(json.dumps(body["config"]), TrainConfig)
    except ConfigError as error:
        raise CheckpointError(f"its configuration is not of this version: {error.message}", path=path) from error
    return Checkpoint(
        path,
        config,
        body["step"],
        body["num_channels"],
        body["environment"],
        body["loader"],
        body["digest"],
        body.get("num_skipped", 0),
    )


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy what is to be evaluated into a model of the same architecture: the average of the weights where the run
    keeps one, else the last ones.

    Raises:
        CheckpointError: Names or shapes differ.
    """
    weights = _load_tensors(checkpoint.path / WEIGHTS)
    if checkpoint.has_average:
        weights |= load_average(checkpoint)
    _load_state(checkpoint, model, weights)


def load_last_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy the weights that training goes on from.

    Raises:
        CheckpointError: Names or shapes differ.
    """
    _load_state(checkpoint, model, _load_tensors(checkpoint.path / WEIGHTS))


def load_average(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The average of the weights, by name.

    Raises:
        CheckpointError: The run kept none.
    """
    return _load_tensors(checkpoint.path / AVERAGE)


def load_momentum(checkpoint: Checkpoint, branch: nn.Module) -> None:
    """Copy the state of the momentum branch, queues included.

    Raises:
        CheckpointError: The run kept none, or of other shapes.
    """
    try:
        branch.load_state_dict(_load_tensors(checkpoint.path / MOMENTUM))
    except RuntimeError as error:
        raise CheckpointError(f"has another momentum branch: {error}", path=checkpoint.path) from error


def _load_state(checkpoint: Checkpoint, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    if getattr(model, "objective", None) is None:  # what an objective learned is of no use outside training
        weights = {name: value for name, value in weights.items() if not name.startswith("objective.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"is of another architecture: {error}", path=checkpoint.path) from error


def load_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Copy the checkpoint's moments into an optimizer over the same parameters.

    Raises:
        CheckpointError: Another number of parameters, or other shapes.
    """
    moments = _load_tensors(checkpoint.path / MOMENTS)
    parameters = _parameters(optimizer)
    names = {name for name in moments if name.split(".")[0] in {str(number) for number in range(len(parameters))}}
    if names != set(moments):
        raise CheckpointError(
            f"has moments of another model than the one with {len(parameters)} parameters", path=checkpoint.path
        )
    for name, saved in moments.items():
        number, key = name.split(".")
        parameter = parameters[int(number)]
        # A moment lies in memory as its parameter does; the step count is a scalar, which fused AdamW keeps by it.
        place = torch.empty_like(parameter) if saved.ndim else torch.empty_like(saved, device=parameter.device)
        if place.shape != saved.shape:
            raise CheckpointError(
                f"moment {name} is {tuple(saved.shape)}, not {tuple(place.shape)}", path=checkpoint.path
            )
        optimizer.state[parameter][key] = place.copy_(saved)


def check_same_model(checkpoint: Checkpoint, config: TrainConfig, *, num_channels: int) -> None:
    """Refuse to go on with a checkpoint of another architecture.

    Raises:
        CheckpointError: Names the fields that differ and both values.
    """
    changes = differences(checkpoint.config.model, config.model)
    if checkpoint.num_channels != num_channels:
        changes["channels of the volumes"] = (checkpoint.num_channels, num_channels)
    if changes:
        raise CheckpointError(
            f"is of another architecture: {describe(changes)}. Take the checkpoint's values, or another --out",
            path=checkpoint.path,
        )


def describe(changes: dict[str, tuple[Any, Any]]) -> str:
    """Differences as words: name: checkpoint's value, now this value."""
    return "; ".join(f"{name}: {old!r} in the checkpoint, now {new!r}" for name, (old, new) in changes.items())


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}", path=path) from error


def write_header(folder: Path, body: dict[str, Any]) -> None:
    """Write checkpoint.json last: the body and the digest of every other file in the folder."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    body["files"] = {name: digest_source(folder / name) for name in files}
    body["digest"] = _digest(body)
    (folder / HEADER).write_text(json.dumps(body, indent=1), encoding="utf-8")


def _digest(body: dict[str, Any]) -> str:
    covered = {key: value for key, value in body.items() if key != "digest"}
    return xxhash.xxh3_128_hexdigest(json.dumps(covered, sort_keys=True).encode())


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read: {error}. {_WAY_OUT}", path=path) from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"is no {FORMAT}", path=path)
    if body.get("version") != VERSION:
        raise CheckpointError(
            f"has format version {body.get('version')}, this ctclip reads {VERSION}; update ctclip", path=path
        )
    if body.get("digest") != _digest(body):
        raise CheckpointError(f"is not what was written: its digest differs. {_WAY_OUT}", path=path)
    return body


_WAY_OUT = "Remove this step's folder to go on from the checkpoint before it"


def _check_files(folder: Path, files: dict[str, str]) -> None:
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"is missing. {_WAY_OUT}", path=path)
        if digest_source(path) != digest:
            raise CheckpointError(f"is not what was written: its digest differs. {_WAY_OUT}", path=path)


def step_folders(root: Path) -> list[Path]:
    """Whole checkpoints below a folder, oldest first."""
    return sorted(path for path in root.glob("step-*") if path.is_dir())
