"""The training loop, from a configuration to a run folder with checkpoints. There is no other.

Who follows a volume from here: data.py joins reports and store, ctload's Loader gives batches, session.py goes from
step to step, step.py changes the weights, checkpoint_writer.py writes them down.
"""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.config_check import check_config
from ctclip.config_json import to_json
from ctclip.data import TrainingData, num_channels, open_loader, open_training_data
from ctclip.errors import ConfigError
from ctclip.models.initial_weights import InitialWeights, begin_text_folder, read_initial
from ctclip.training.batch_shape import shape_batch
from ctclip.training.checkpoint import Checkpoint
from ctclip.training.compilation import is_compile_wanted
from ctclip.training.distributed import World, open_world, wait_for_all
from ctclip.training.flops import measured_ceiling
from ctclip.training.resume import check_resume, elastic_changes, environment_of, open_run
from ctclip.training.runlog import machine_facts
from ctclip.training.session import Session, TrainResult
from ctclip.training.shape_fitting import known_shape
from ctclip.training.stop_signal import StopSignal
from ctclip.training.untrained import write_untrained
from ctload.storage.durable import replace_file


def train(
    config: TrainConfig, *, cohort: Cohort | None = None, stop_at: int | None = None, is_quiet: bool = False
) -> TrainResult:
    """Train, or go on training where config.out holds a checkpoint.

    Under torchrun every rank calls it. On the CPU a run that was stopped and resumed ends with the same bits as one
    that never stopped.

    Args:
        config: Of the run.
        cohort: In place of opening config.cohort.
        stop_at: End with a checkpoint after this step, as SIGTERM would; the schedule stays that of config.steps.
        is_quiet: Show no progress.

    Raises:
        ConfigError: The configuration contradicts itself or the machine, or config.init names nothing.
        CheckpointError: The folder's checkpoint, or what config.init names, is broken or of another architecture, or
            the run cannot be resumed exactly.
        CohortError: The cohort's studies are not in the store.
        DivergedError: The loss or its gradient is not finite; the checkpoints before are kept.
    """
    check_config(config)
    with open_world(config.device) as world, torch_settings(config, world), StopSignal() as stop:
        check_compiled(config, world)
        run = Path(config.out)
        checkpoint = open_run(run)
        initial = None if checkpoint else read_initial(config.init, blocks=config.model.image.blocks)
        if config.steps == 0:
            return write_untrained(config, world, checkpoint, initial)
        is_talking = world.is_first and not is_quiet
        data = open_training_data(config, cohort)
        if checkpoint is not None:
            changes = check_going_on(checkpoint, config, world, data)
            if changes and is_talking:
                print(changes)
        with open_loader(config, data, world) as loader:
            wait_for_all(world)  # every rank has looked at the folder before it changes
            ceiling = measured_ceiling(world.device)
            if world.is_first:
                facts = {**machine_facts(world.device), "ceiling_tflops": ceiling / 1e12}
                _write_run(run, config, data, checkpoint, initial, facts)
            wait_for_all(world)
            if is_talking:
                print(data.summary())
            session = Session(
                config, world, data, loader, checkpoint, initial=initial, ceiling=ceiling, is_talking=is_talking
            )
            del initial  # a gigabyte, where it is Merlin's
            with closing(session):
                return session.run(stop, stop_at)


def check_compiled(config: TrainConfig, world: World) -> None:
    """Refuse a batch that does not divide, and what goes only with or only without torch.compile."""
    shape = shape_batch(config, world.size)
    is_compiled = is_compile_wanted(config.compile, world.device)
    if config.activation_budget < 1 and not is_compiled:
        raise ConfigError(
            f"activation_budget={config.activation_budget} needs torch.compile, which is off here; pass --compile on, "
            "or take micro_batch=auto to save memory without it"
        )
    if shape.ranks_per_group > 1 and config.model.image.norm == "fused":
        raise ConfigError(
            f"bn_group={shape.bn_group} is more than the {shape.rank_batch} studies of a rank, and "
            f"model.image.norm=fused knows one rank's; take norm=torch, or bn_group={shape.rank_batch} or less"
        )
    if shape.ranks_per_group > 1 and is_compiled:
        raise ConfigError(
            f"bn_group={shape.bn_group} is more than the {shape.rank_batch} studies of a rank, and batch norm over "
            f"ranks is not compiled; pass --compile off, or bn_group={shape.rank_batch} or less"
        )


def check_going_on(checkpoint: Checkpoint, config: TrainConfig, world: World, data: TrainingData) -> str:
    """Refuse what cannot go on from a checkpoint; what differs and may, as a line for the terminal."""
    shape = known_shape(config, world, checkpoint) or shape_batch(config, world.size)
    is_compiled = is_compile_wanted(config.compile, world.device)
    environment = environment_of(world, shape, is_compiled=is_compiled, pipeline=data.pipeline)
    check_resume(checkpoint, config, environment, num_channels=num_channels(config.data))
    return elastic_changes(checkpoint, environment)


@contextmanager
def torch_settings(config: TrainConfig, world: World) -> Iterator[None]:
    """Threads, generators and cuDNN as the run needs them, and afterwards as they were."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.benchmark = world.device.type == "cuda"
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.benchmark = benchmark


def _write_run(
    run: Path,
    config: TrainConfig,
    data: TrainingData,
    checkpoint: Checkpoint | None,
    initial: InitialWeights | None,
    facts: dict[str, Any],
) -> None:
    """The files that describe a run; the text folder only where no checkpoint has one."""
    run.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        begin_text_folder(run / "text", config.model.text, data.training_texts(), initial)
    replace_file(run / "config.json", to_json(config).encode())
    starts = run / "machine.json"
    known = json.loads(starts.read_text(encoding="utf-8")) if checkpoint is not None and starts.exists() else []
    known.append({"first_step": checkpoint.step if checkpoint else 0, **facts})
    replace_file(starts, json.dumps(known, indent=2).encode())
