"""Whether a run may go on from a checkpoint: the same model always, the same bits unless inexactness is allowed."""

import warnings
from pathlib import Path
from typing import Any

import torch

from ctclip.config import TrainConfig
from ctclip.config_json import differences
from ctclip.errors import CheckpointError, ConfigError
from ctclip.training.batch_shape import BatchShape
from ctclip.training.checkpoint import Checkpoint, check_same_model, describe, latest_checkpoint, read_checkpoint
from ctclip.training.distributed import World

# Fields that change no bit of a result, or whose effect is in the environment or in the loader's own state.
FREE = frozenset(
    {"cohort", "store", "out", "init", "checkpoint_every", "keep_checkpoints", "log_every", "allow_inexact_resume",
     "device", "compile", "threads", "data.pipeline", "data.prefetch", "data.cache_gib", "data.unpacked",
     "data.on_corrupt", "micro_batch", "bn_group", "profile_steps", "on_nonfinite"}
)  # fmt: skip
# What may change freely: the run stays the same but for the order of sums, hence for the last bits.
ELASTIC = ("world_size", "micro_batch")


def environment_of(world: World, shape: BatchShape, *, is_compiled: bool, pipeline: str) -> dict[str, Any]:
    """What the last bits depend on besides the configuration.

    Args:
        world: Where training runs.
        shape: How a batch is cut.
        is_compiled: By torch.compile.
        pipeline: Which executes the plans.
    """
    device = world.device
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "compile": is_compiled,
        "threads": 0 if is_cuda else torch.get_num_threads(),
        "pipeline": pipeline,
        "world_size": world.size,
        "micro_batch": shape.micro_batch,
        "bn_group": shape.bn_group,
        "torch": torch.__version__,
    }


def open_run(run: Path) -> Checkpoint | None:
    """The checkpoint that a run's folder goes on from; None for a new run.

    Raises:
        ConfigError: The folder holds other things than a run.
        CheckpointError: Its newest checkpoint cannot be read.
    """
    if run.is_file() or (run.is_dir() and any(run.iterdir()) and not (run / "config.json").is_file()):
        raise ConfigError("is in use for something else than a run; give another --out", path=run)
    newest = latest_checkpoint(run) if run.is_dir() else None
    return None if newest is None else read_checkpoint(newest)


def check_resume(
    checkpoint: Checkpoint, config: TrainConfig, environment: dict[str, Any], *, num_channels: int
) -> None:
    """Refuse to go on where the result would not be that of a run that never stopped.

    With config.allow_inexact_resume a difference in settings or environment is a warning; another architecture is
    refused all the same.

    Raises:
        CheckpointError: Names what differs, with both values, and the way out.
    """
    check_same_model(checkpoint, config, num_channels=num_channels)
    changes = {name: pair for name, pair in differences(checkpoint.config, config).items() if name not in FREE}
    before = checkpoint.environment
    keys = sorted((set(before) | set(environment)) - set(ELASTIC))
    changes |= {k: (before.get(k), environment.get(k)) for k in keys if before.get(k) != environment.get(k)}
    if not changes:
        return
    reason = f"the bits would differ from those of a run that never stopped: {describe(changes)}"
    if not config.allow_inexact_resume:
        raise CheckpointError(
            f"cannot be resumed exactly, {reason}. Restore these settings, give another --out, or pass "
            "--allow-inexact-resume",
            path=checkpoint.path,
        )
    warnings.warn(f"resuming inexactly, {reason}", stacklevel=2)


def elastic_changes(checkpoint: Checkpoint, environment: dict[str, Any]) -> str:
    """What differs and may: a line for the terminal, empty where nothing does."""
    before = checkpoint.environment
    changes = {k: (before.get(k), environment[k]) for k in ELASTIC if before.get(k) != environment[k]}
    return f"  equal to the run so far but for rounding: {describe(changes)}" if changes else ""
