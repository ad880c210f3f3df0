"""One batch through every stage of a training, before days are spent on it: does it run, how long, what does it need.

Everything that training would refuse is refused here, by the same functions. Nothing is left behind: the model's
text folder and one checkpoint are written beside the run's folder, on the same disk, and removed.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.config_check import check_config
from ctclip.data import TrainBatch, TrainingData, num_channels, open_loader, open_training_data, to_train_batch
from ctclip.errors import ConfigError
from ctclip.method_rows import anatomies_of, anatomy_of
from ctclip.models.dual import DualEncoder, build_dual_encoder
from ctclip.models.text import TextTokenizer, write_text_folder
from ctclip.training.batch_shape import BatchShape
from ctclip.training.checkpoint_writer import take_snapshot, write_snapshot
from ctclip.training.compilation import compile_towers, is_compile_wanted
from ctclip.training.distributed import World, open_world
from ctclip.training.flops import measured_ceiling, training_flops
from ctclip.training.hardware import cuda_mismatches, dali_packages, describe_machine, describe_memory
from ctclip.training.loop import check_compiled, check_going_on, torch_settings
from ctclip.training.resume import open_run
from ctclip.training.shape_fitting import describe_shape, fitted_shape
from ctclip.training.step import TrainingStep
from ctclip.training.words import config_of_words
from ctload.loading.loader import Loader


@dataclass(frozen=True)
class Stage:
    """One stage of the examination: its name, its seconds and what was found."""

    name: str
    seconds: float
    note: str


@dataclass
class Diagnosis:
    """What was found, growing stage by stage.

    Attributes:
        stages: In the order in which they ran.
        warnings: What will run, but not as well as it could.
        eta_s: Of the whole run, seconds.
    """

    stages: list[Stage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    eta_s: float = math.nan

    @contextmanager
    def stage(self, name: str, device: torch.device | None = None) -> Iterator[list[str]]:
        """Time a block; it puts its findings into the list."""
        notes: list[str] = []
        started = time.perf_counter()
        yield notes
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        self.stages.append(Stage(name, time.perf_counter() - started, "; ".join(notes)))

    def seconds(self, name: str) -> float:
        """Of the stage of that name."""
        return next(stage.seconds for stage in self.stages if stage.name == name)


def main(words: list[str]) -> int:
    """`ctclip doctor [CONFIG.json | --preset NAME] [options]`: one batch through every stage."""
    if words and not words[0].startswith("-"):
        words = ["--config", *words]
    config = config_of_words(
        words, prog="ctclip doctor", purpose="Run one batch through every stage of a training, and say what it takes."
    )
    print(format_diagnosis(examine(config)))
    return 0


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """The findings as lines."""
    lines = [f"{stage.name:<14} {stage.seconds:8.2f} s  {stage.note}".rstrip() for stage in diagnosis.stages]
    lines += [f"! {warning}" for warning in diagnosis.warnings]
    return "\n".join([*lines, f"the whole run: about {format_duration(diagnosis.eta_s)}"])


def format_duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for name, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.1f} seconds"


def examine(config: TrainConfig, *, cohort: Cohort | None = None) -> Diagnosis:
    """Run every stage of a training once.

    Args:
        config: Of the run.
        cohort: In place of opening config.cohort.

    Raises:
        CtloadError: Whatever the training would be refused for.
        ConfigError: The disk has no room for the checkpoints, or a step does not fit in memory.
    """
    found = Diagnosis()
    check_config(config)
    with open_world(config.device) as world, torch_settings(config, world):
        with found.stage("machine") as notes:
            check_compiled(config, world)
            notes += describe_machine(world.device)
            if world.device.type == "cuda":
                found.warnings += cuda_mismatches(torch.version.cuda or "", dali_packages())
        with found.stage("run folder") as notes:
            checkpoint = open_run(Path(config.out))
            notes.append(f"goes on from step {checkpoint.step}" if checkpoint else "a new run")
        with found.stage("store, cohort") as notes:
            data = open_training_data(config, cohort)
            notes.append(data.summary().replace("\n  ", "; "))
            if checkpoint is not None:
                check_going_on(checkpoint, config, world, data)
        with open_loader(config, data, world) as loader, _folder_beside(Path(config.out)) as scratch:
            _examine_batch(config, world, data, loader, scratch, found)
    done = checkpoint.step if checkpoint else 0
    found.eta_s = _eta(config, found, steps=config.steps - done)
    return found


def _examine_batch(
    config: TrainConfig, world: World, data: TrainingData, loader: Loader, scratch: Path, found: Diagnosis
) -> None:
    device = world.device
    batches = iter(loader)
    next(batches)  # opens files and threads
    with found.stage("batch", device) as notes:
        before = loader.stats()
        batch = next(batches, None)
        if batch is None:
            raise ConfigError(f"an epoch has {loader.num_batches} batch; the doctor needs 2: lower data.batch_size")
        after = loader.stats()
        parts = {"draw": "draw_s", "read": "read_s", "decode": "decode_s", "copy": "copy_s", "pipeline": "pipeline_s"}
        notes += [f"{word} {getattr(after, name) - getattr(before, name):.3f} s" for word, name in parts.items()]
    with found.stage("model", device) as notes:
        write_text_folder(scratch / "text", config.model.text, data.training_texts())
        model = _build(config, scratch)
        flops = training_flops(
            model,
            volume_shape=_volume_shape(batch.volume),
            num_tokens=_length(config),
            num_texts=_num_texts(config),
        )
        model.to(device).train()
        notes.append(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
        if flops:
            notes.append(f"{flops / 1e12:.3g} TFLOP per study and step")
    is_compiled = is_compile_wanted(config.compile, device)
    with found.stage("tokens", device) as notes:
        tokenizer = TextTokenizer(scratch / "text", max_length=_length(config), is_padded_to_max=is_compiled)
        ready = to_train_batch(batch, data.texts, tokenizer, device, data.rows)
        notes.append(f"ids {tuple(ready.tokens.ids.shape)}, volumes {tuple(ready.volume.shape)}")
    shape = _fit(config, world, model, ready, found)
    if is_compiled:
        compile_towers(model, activation_budget=config.activation_budget)
    step = TrainingStep(model, config, world, shape, num_studies=len(data.studies))
    _examine_steps(step, ready, shape, world, found, flops=flops)
    _examine_checkpoint(config, step, loader, scratch, found)


def _fit(config: TrainConfig, world: World, model: DualEncoder, ready: TrainBatch, found: Diagnosis) -> BatchShape:
    with found.stage("fit", world.device) as notes:
        shape = fitted_shape(
            config, world, None, model, volume_shape=_volume_shape(ready.volume), num_texts=_num_texts(config)
        )
        notes.append(describe_shape(shape, world).strip())
    return shape


def _examine_steps(
    step: TrainingStep, ready: TrainBatch, shape: BatchShape, world: World, found: Diagnosis, *, flops: int | None
) -> None:
    device = world.device
    try:
        with found.stage("first step", device) as notes:
            step.run(0, ready)
            notes.append("with compiling and the choice of algorithms where there is any")
        with found.stage("forward", device):
            step.forward_once(1, ready)
        with found.stage("step", device) as notes:
            loss, norm = step.run(1, ready)
            notes.append(f"loss {float(loss):.3f}, gradient norm {float(norm):.3g}")
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"a step of {shape.micro_batch} studies per forward pass does not fit in memory: {error}; take "
            "micro_batch=auto or a divisor, or a smaller data.crop"
        ) from error
    if not (loss.isfinite() and norm.isfinite()):
        found.warnings.append(f"loss {float(loss)} or gradient norm {float(norm)} of the second step is not finite")
    with found.stage("memory") as notes:
        notes += describe_memory(device)
        if flops:
            rate = flops * shape.rank_batch / found.seconds("step")
            share = rate / measured_ceiling(device)
            notes.append(f"{rate / 1e12:.3g} TFLOP/s, {share:.0%} of the measured matrix product's rate")


def _examine_checkpoint(
    config: TrainConfig, step: TrainingStep, loader: Loader, scratch: Path, found: Diagnosis
) -> None:
    with found.stage("snapshot") as notes:
        snapshot = take_snapshot(
            step=2,
            model=step.model,
            optimizer=step.optimizer,
            average=step.average.state_dict() if step.average else None,
            momentum=step.momentum.state_dict() if step.momentum else None,
            config=config,
            num_channels=num_channels(config.data),
            environment={},
            loader_state=loader.state_dict(),
        )
        notes.append("the part of a checkpoint that training waits for")
    with found.stage("checkpoint") as notes:
        folder = write_snapshot(scratch, snapshot)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        needed, free = (config.keep_checkpoints + 1) * size, shutil.disk_usage(scratch).free + size
        notes.append(f"{size / 2**30:.2f} GiB each, {needed / 2**30:.2f} needed, {free / 2**30:.1f} free on disk")
    if needed > free:
        raise ConfigError(
            f"the disk has {free / 2**30:.2f} GiB free and {config.keep_checkpoints} + 1 checkpoints need "
            f"{needed / 2**30:.2f}; free space, or lower keep_checkpoints",
            path=config.out,
        )


def _eta(config: TrainConfig, found: Diagnosis, *, steps: int) -> float:
    """Seconds of the steps that are left: each as long as the slower of loader and step, and the snapshots."""
    load_s, step_s = found.seconds("batch"), found.seconds("step") + found.seconds("tokens")
    if load_s > 1.1 * step_s:
        found.warnings.append(
            f"a batch takes {load_s:.2f} s to load and {step_s:.2f} s to train on: the loader will hold training back"
        )
    return steps * (max(load_s, step_s) + found.seconds("snapshot") / config.checkpoint_every)


def _build(config: TrainConfig, scratch: Path) -> DualEncoder:
    return build_dual_encoder(
        config.model,
        scratch / "text",
        num_channels=num_channels(config.data),
        seed=config.seed,
        is_pretrained=True,
        anatomy=anatomy_of(config),
        num_anatomies=len(anatomies_of(config)),
    )


def _volume_shape(volume: torch.Tensor) -> tuple[int, int, int, int]:
    _, channels, depth, height, width = volume.shape
    return channels, depth, height, width


def _length(config: TrainConfig) -> int:
    return config.model.text.max_length


def _num_texts(config: TrainConfig) -> int:
    return max(1, len(anatomies_of(config)))


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """An empty folder on the disk of `out`, removed afterwards."""
    parent = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    if parent == out.absolute():
        parent = parent.parent
    with tempfile.TemporaryDirectory(prefix=".ctclip-doctor-", dir=parent) as folder:
        yield Path(folder)
