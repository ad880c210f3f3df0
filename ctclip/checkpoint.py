"""Checkpoints: everything a run needs to go on bit for bit, in one folder, whole or not there.

<run>/checkpoints/step-00000200/
    checkpoint.json         configuration, step, loader state, environment, and the digest of every other file
    model.safetensors       weights and buffers
    optimizer.safetensors   moments of the optimizer
    text/                   configuration and tokenizer of the text tower

There is no pickle in it and none is read. Random numbers need no state: every draw is a function of (seed, step).
A folder is written under another name, made durable, and renamed, so that a kill leaves the one before.
"""

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ctclip.config import TrainConfig
from ctclip.config_json import differences, from_json, to_json
from ctclip.errors import CheckpointError, ConfigError
from ctload.digests import digest_source
from ctload.durable import sync_folder, sync_tree

FORMAT = "ctclip-checkpoint"
VERSION = 1
HEADER, WEIGHTS, MOMENTS, TEXT = "checkpoint.json", "model.safetensors", "optimizer.safetensors", "text"


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
    """

    path: Path
    config: TrainConfig
    step: int
    num_channels: int
    environment: dict[str, Any]
    loader_state: dict[str, Any]
    digest: str

    @property
    def text_folder(self) -> Path:
        """Configuration and tokenizer of the text tower."""
        return self.path / TEXT


def save_checkpoint(
    run: Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    num_channels: int,
    environment: dict[str, Any],
    loader_state: dict[str, Any],
) -> Path:
    """Write the checkpoint of `step` below `run`, whole or not at all, and drop the oldest beyond keep_checkpoints.

    Args:
        run: Folder of the run; its text/ is copied into the checkpoint.
        step: Optimizer steps done.
        model: The dual encoder itself, without wrappers.
        optimizer: Over the model's parameters.
        config: Of the run.
        num_channels: C of the volumes.
        environment: See Checkpoint.
        loader_state: Loader.state_dict() after this step.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: The disk is full or read-only; the checkpoints before are untouched.
    """
    root = run / "checkpoints"
    target = root / f"step-{step:08d}"
    beside = root / f".{target.name}.{uuid.uuid4().hex}.tmp"
    body = {
        "format": FORMAT, "version": VERSION, "step": step, "num_channels": num_channels,
        "config": json.loads(to_json(config)), "environment": environment, "loader": loader_state,
    }  # fmt: skip
    try:
        _sweep(root)
        shutil.copytree(run / TEXT, beside / TEXT)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, beside / WEIGHTS)
        save_file(_moments(optimizer), beside / MOMENTS)
        _write_header(beside, body)
        sync_tree(beside)
        if target.exists():  # the same step of a run that was sent back to an earlier checkpoint
            _discard(target)
        beside.rename(target)
        sync_folder(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise CheckpointError(f"cannot be written ({error}); free space or rights, then resume", path=target) from error
    for old in _step_folders(root)[: -config.keep_checkpoints]:
        _discard(old)
    return target


def latest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    folders = _step_folders(run / "checkpoints")
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
        path, config, body["step"], body["num_channels"], body["environment"], body["loader"], body["digest"]
    )


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy the checkpoint's weights into a model of the same architecture.

    Raises:
        CheckpointError: Names or shapes differ.
    """
    weights = _load_tensors(checkpoint.path / WEIGHTS)
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


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors as "<number of the parameter>.<key>"."""
    return {
        f"{number}.{key}": value.contiguous()
        for number, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state[parameter].items()
    }


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}", path=path) from error


def _write_header(folder: Path, body: dict[str, Any]) -> None:
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


def _step_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("step-*") if path.is_dir())


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
