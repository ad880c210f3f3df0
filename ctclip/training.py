"""The training loop, from a configuration to a run folder with checkpoints. There is no other.

Who follows a volume from here: data.py joins reports and store, ctload's Loader gives batches, training_step.py
changes the weights, checkpoint.py writes them down.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ctclip.checkpoint import Checkpoint, load_model, load_optimizer, save_checkpoint
from ctclip.cohorts.cohort import Cohort
from ctclip.compilation import compile_towers, is_compile_wanted
from ctclip.config import TrainConfig, check_config
from ctclip.config_json import to_json
from ctclip.data import TrainingData, num_channels, open_loader, open_training_data, to_train_batch
from ctclip.distributed import World, is_any, open_world, wait_for_all
from ctclip.loss_watch import LossWatch
from ctclip.meter import Meter
from ctclip.models.dual import build_dual_encoder
from ctclip.models.text import TextTokenizer, write_text_folder
from ctclip.optim import learning_rate
from ctclip.resume import check_resume, environment_of, open_run
from ctclip.runlog import RunLog, machine_facts
from ctclip.stop_signal import StopSignal
from ctclip.text_units import FULL
from ctclip.training_step import TrainingStep
from ctload.batch import Batch
from ctload.durable import replace_file
from ctload.loader import Loader

ANY_MISMATCH = ("studies", "sampler", "crop", "window", "augment", "channels")


@dataclass(frozen=True)
class TrainResult:
    """What became of a run.

    Attributes:
        run: Its folder.
        steps: Optimizer steps done in all.
        loss: Of the last step that this call did; NaN when it did none.
        checkpoint: The newest.
        was_stopped: A signal or stop_at ended it before config.steps.
    """

    run: Path
    steps: int
    loss: float
    checkpoint: Path
    was_stopped: bool


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
        ConfigError: The configuration contradicts itself or the machine.
        CheckpointError: The folder's checkpoint is broken, of another architecture, or cannot be resumed exactly.
        CohortError: The cohort's studies are not in the store.
        DivergedError: The loss or its gradient is not finite; the checkpoints before are kept.
    """
    check_config(config)
    with open_world(config.device) as world, _torch_settings(config, world), StopSignal() as stop:
        run = Path(config.out)
        checkpoint = open_run(run)
        is_talking = world.is_first and not is_quiet
        data = open_training_data(config, cohort)
        is_compiled = is_compile_wanted(config.compile, world.device)
        environment = environment_of(
            world.device,
            is_compiled=is_compiled,
            pipeline=data.pipeline,
            rank_batch=config.data.batch_size // world.size,
        )
        if checkpoint is not None:
            check_resume(checkpoint, config, environment, num_channels=num_channels(config.data))
        with open_loader(config, data, world) as loader:
            wait_for_all(world)  # every rank has looked at the folder before it changes
            if world.is_first:
                _write_run(run, config, data, checkpoint, world)
            wait_for_all(world)
            if is_talking:
                print(data.summary())
            session = _Session(config, world, data, loader, environment)
            session.restore(checkpoint, is_talking=is_talking)
            with closing(session):
                return session.run(stop, stop_at)


class _Session:
    """One process's part of a run, from its first step to its last."""

    def __init__(
        self, config: TrainConfig, world: World, data: TrainingData, loader: Loader, environment: dict[str, Any]
    ) -> None:
        self._config, self._world, self._data, self._loader = config, world, data, loader
        self._environment = environment
        self._path = Path(config.out)
        self._losses = LossWatch()

    def restore(self, checkpoint: Checkpoint | None, *, is_talking: bool) -> None:
        """Build the model, load what was saved, and open the log where it was."""
        config, text_folder = self._config, self._path / "text"
        is_compiled = self._environment["compile"]
        model = build_dual_encoder(
            config.model,
            text_folder,
            num_channels=num_channels(config.data),
            seed=config.seed,
            is_pretrained=checkpoint is None,
        )
        model.to(self._world.device).train()
        if is_compiled:
            compile_towers(model)
        self._step = TrainingStep(model, config, self._world)
        if checkpoint is not None:
            load_model(checkpoint, model)
            load_optimizer(checkpoint, self._step.optimizer)
            allowed = ANY_MISMATCH if config.allow_inexact_resume else ()
            self._loader.load_state_dict(checkpoint.loader_state, allow_mismatch=allowed)
        self._done = self._saved = checkpoint.step if checkpoint else 0
        self._checkpoint = checkpoint.path if checkpoint else None
        self._tokenizer = TextTokenizer(
            text_folder, max_length=config.model.text.max_length, is_padded_to_max=is_compiled
        )
        if is_talking:
            self._say_what_is_cut()
        self._log = RunLog(self._path, first_step=self._done) if self._world.is_first else None
        batch_size = config.data.batch_size
        self._meter = Meter(steps=config.steps, first_step=self._done, batch_size=batch_size, is_shown=is_talking)

    def run(self, stop: StopSignal, stop_at: int | None) -> TrainResult:
        """Steps until config.steps, a stop signal, or stop_at."""
        last = min(self._config.steps, stop_at or self._config.steps)
        is_over = self._done >= last
        while not is_over:
            for batch in self._batches():
                self._do(batch)
                is_over = self._done >= last or self._is_told_to_stop(stop)
                if is_over:
                    break
        if self._checkpoint is None or self._saved < self._done:
            self._save()
        was_stopped = self._done < self._config.steps
        checkpoint = self._checkpoint or self._path
        return TrainResult(self._path, self._done, self._losses.last, checkpoint, was_stopped)

    def close(self) -> None:
        self._meter.close()
        if self._log is not None:
            self._log.close()

    def _say_what_is_cut(self) -> None:
        limit = self._tokenizer.max_length
        lengths = self._tokenizer.lengths(list(self._data.texts.texts[FULL].values()))
        num_long = sum(length > limit for length in lengths)
        if num_long:
            print(
                f"  {num_long} of {len(lengths)} reports have more than {limit} tokens and are cut (longest "
                f"{max(lengths)}); model.text.max_length sets the limit"
            )

    def _batches(self) -> Iterator[Batch]:
        """The rest of the loader's epoch; the time until each batch counts as waiting."""
        batches = cast(Generator[Batch], iter(self._loader))
        try:
            while True:
                with self._meter.waiting():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        finally:
            batches.close()

    def _do(self, batch: Batch) -> None:
        """One step, and what is due after it."""
        ready = to_train_batch(batch, self._data.texts, self._tokenizer, self._world.device)
        loss, norm = self._step.run(self._done, ready)
        self._done += 1
        self._losses.add(self._done, ready.unit, ready.study, loss, norm)
        self._meter.count_step()
        is_logged = self._done % self._config.log_every == 0 or self._done == self._config.steps
        # Reading a loss waits for the device: on CUDA only where it is logged or saved.
        if is_logged or self._world.device.type == "cpu":
            self._losses.look()
        if is_logged:
            self._write_metrics()
        if self._done % self._config.checkpoint_every == 0:
            self._save()

    def _write_metrics(self) -> None:
        losses, rates = self._losses.take(), self._meter.take()
        self._meter.show(losses["loss"], rates)
        if self._log is None:
            return
        config = self._config
        self._log.write(
            self._done,
            {
                **losses,
                "learning_rate": learning_rate(self._done - 1, steps=config.steps, config=config.optim),
                "logit_scale": self._step.model.logit_scale.exp().item(),
                "epoch": self._loader.epoch,
                **rates,
            },
        )

    def _is_told_to_stop(self, stop: StopSignal) -> bool:
        """Whether any rank got a signal. Several ranks ask each other only where they log."""
        if self._world.size > 1 and self._done % self._config.log_every:
            return False
        return is_any(stop.is_set, self._world)

    def _save(self) -> None:
        """A checkpoint, unless a loss since the last one is not finite."""
        self._losses.look()
        if self._world.is_first:
            self._checkpoint = save_checkpoint(
                self._path,
                step=self._done,
                model=self._step.model,
                optimizer=self._step.optimizer,
                config=self._config,
                num_channels=num_channels(self._config.data),
                environment=self._environment,
                loader_state=self._loader.state_dict(),
            )
        self._saved = self._done
        wait_for_all(self._world)


@contextmanager
def _torch_settings(config: TrainConfig, world: World) -> Iterator[None]:
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


def _write_run(run: Path, config: TrainConfig, data: TrainingData, checkpoint: Checkpoint | None, world: World) -> None:
    """The files that describe a run; the text folder only where no checkpoint has one."""
    run.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        write_text_folder(run / "text", config.model.text, data.training_texts())
    replace_file(run / "config.json", to_json(config).encode())
    starts = run / "machine.json"
    known = json.loads(starts.read_text(encoding="utf-8")) if checkpoint is not None and starts.exists() else []
    known.append({"first_step": checkpoint.step if checkpoint else 0, **machine_facts(world.device)})
    replace_file(starts, json.dumps(known, indent=2).encode())
