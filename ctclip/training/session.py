"""One process's part of a training run, from its first step to its last: steps, metrics, checkpoints."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from ctclip.config import TrainConfig
from ctclip.data import TrainingData, num_channels, to_train_batch
from ctclip.method_rows import anatomies_of, anatomy_of
from ctclip.models.dual import DualEncoder, build_dual_encoder
from ctclip.models.initial_weights import InitialWeights
from ctclip.models.text import TextTokenizer
from ctclip.texts.text_units import FULL
from ctclip.training.checkpoint import Checkpoint, load_average, load_last_weights, load_momentum, load_optimizer
from ctclip.training.checkpoint_writer import CheckpointWriter, take_snapshot
from ctclip.training.compilation import compile_towers, is_compile_wanted
from ctclip.training.distributed import World, gather_studies, is_any, wait_for_all
from ctclip.training.flops import training_flops
from ctclip.training.loss_watch import LossWatch
from ctclip.training.meter import Meter
from ctclip.training.optim import learning_rate
from ctclip.training.profiling import StepProfiler
from ctclip.training.quarantine_log import QuarantineLog
from ctclip.training.resume import environment_of
from ctclip.training.runlog import RunLog
from ctclip.training.shape_fitting import describe_shape, fitted_shape
from ctclip.training.step import TrainingStep
from ctclip.training.stop_signal import StopSignal
from ctload.loading.batch import Batch
from ctload.loading.loader import Loader

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


class Session:
    """Builds the model, loads what was saved, opens the log where it was, and runs.

    Args:
        config: Of the run.
        world: This rank among all.
        data: The training split.
        loader: Of this rank; put where the checkpoint was.
        checkpoint: To go on from; None for a new run.
        initial: Weights that a new run begins with; None for random ones.
        ceiling: Operations per second that this device reaches at most.
        is_talking: Whether to print.
    """

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        data: TrainingData,
        loader: Loader,
        checkpoint: Checkpoint | None,
        *,
        initial: InitialWeights | None,
        ceiling: float,
        is_talking: bool,
    ) -> None:
        self._config, self._world, self._data, self._loader = config, world, data, loader
        self._path = Path(config.out)
        is_compiled = is_compile_wanted(config.compile, world.device)
        model = self._build(initial, is_pretrained=checkpoint is None)
        length = config.model.text.max_length
        self._tokenizer = TextTokenizer(self._path / "text", max_length=length, is_padded_to_max=is_compiled)
        volume_shape = (num_channels(config.data), *loader.plan(0, 0).crop_shape)
        num_texts = max(1, len(anatomies_of(config)))
        flops = training_flops(model, volume_shape=volume_shape, num_tokens=length, num_texts=num_texts)
        model.to(world.device).train()
        shape = fitted_shape(config, world, checkpoint, model, volume_shape=volume_shape, num_texts=num_texts)
        self._environment = environment_of(world, shape, is_compiled=is_compiled, pipeline=data.pipeline)
        if is_compiled:
            compile_towers(model, activation_budget=config.activation_budget)
        normal_rate = data.rows.normal_rate() if data.rows else 0.0
        self._step = TrainingStep(model, config, world, shape, normal_rate=normal_rate, num_studies=len(data.studies))
        self._restore(checkpoint)
        if is_talking:
            print(describe_shape(shape, world))
            self._say_what_is_cut()
        self._losses = LossWatch(
            on_nonfinite=config.on_nonfinite,
            gather=partial(gather_studies, world=world),
            num_skipped=checkpoint.num_skipped if checkpoint else 0,
        )
        self._quarantine = QuarantineLog(self._path, world)
        self._log = RunLog(self._path, first_step=self._done) if world.is_first else None
        self._writer = CheckpointWriter(self._path)
        self._profiler = StepProfiler(self._path / "profile", config.profile_steps if world.is_first else 0)
        self._meter = Meter(
            steps=config.steps,
            first_step=self._done,
            batch_size=config.data.batch_size,
            is_shown=is_talking,
            flops_per_step=flops and flops * shape.rank_batch,
            ceiling=ceiling,
        )

    def run(self, stop: StopSignal, stop_at: int | None) -> TrainResult:
        """Steps until config.steps, a stop signal, or stop_at."""
        last = min(self._config.steps, stop_at or self._config.steps)
        is_over = self._done >= last
        while not is_over:
            for batch in self._batches():
                self._do(batch)
                is_over = self._done >= last or self._heed(stop)
                if is_over:
                    break
        if self._checkpoint is None or self._saved < self._done:
            self._save()
        self._checkpoint = self._writer.wait() or self._checkpoint
        wait_for_all(self._world)
        was_stopped = self._done < self._config.steps
        return TrainResult(self._path, self._done, self._losses.last, self._checkpoint or self._path, was_stopped)

    def close(self) -> None:
        """End the log, the profile and the writing of a checkpoint.

        Raises:
            CheckpointError: The last checkpoint could not be written.
        """
        self._meter.close()
        self._profiler.close()
        if self._log is not None:
            self._log.close()
        self._writer.wait()

    def _build(self, initial: InitialWeights | None, *, is_pretrained: bool) -> DualEncoder:
        config = self._config
        return build_dual_encoder(
            config.model,
            self._path / "text",
            num_channels=num_channels(config.data),
            seed=config.seed,
            is_pretrained=is_pretrained,
            initial=initial,
            anatomy=anatomy_of(config),
            num_anatomies=len(anatomies_of(config)),
        )

    def _restore(self, checkpoint: Checkpoint | None) -> None:
        self._done = self._saved = checkpoint.step if checkpoint else 0
        self._checkpoint = checkpoint.path if checkpoint else None
        if checkpoint is None:
            return
        load_last_weights(checkpoint, self._step.model)
        load_optimizer(checkpoint, self._step.optimizer)
        if self._step.average is not None and checkpoint.has_average:
            self._step.average.load_state_dict(load_average(checkpoint))
        if self._step.momentum is not None:
            load_momentum(checkpoint, self._step.momentum)
        allowed = ANY_MISMATCH if self._config.allow_inexact_resume else ()
        self._loader.load_state_dict(checkpoint.loader_state, allow_mismatch=allowed)

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
        ready = to_train_batch(batch, self._data.texts, self._tokenizer, self._world.device, self._data.rows)
        loss, norm = self._step.run(self._done, ready)
        self._done += 1
        self._losses.add(self._done, ready.unit, ready.study, loss, norm)
        self._meter.count_step()
        self._profiler.step()
        is_logged = self._done % self._config.log_every == 0 or self._done == self._config.steps
        # Reading a loss waits for the device: on CUDA only where it is logged or saved.
        if is_logged or self._world.device.type == "cpu":
            self._look()
        if is_logged:
            self._write_metrics()
        if self._done % self._config.checkpoint_every == 0:
            self._save()

    def _look(self) -> None:
        """Read the losses; steps that were skipped are written down even where that ends the run."""
        try:
            self._losses.look()
        finally:
            for skipped in self._losses.take_skipped():
                if self._log is not None:
                    self._log.write_skipped(skipped)

    def _write_metrics(self) -> None:
        self._writer.check()
        losses, rates = self._losses.take(), self._meter.take()
        self._meter.show(losses.get("loss"), rates)
        if self._log is None:
            return
        config = self._config
        skipped = {"num_skipped": self._losses.num_skipped} if self._losses.num_skipped else {}
        self._log.write(
            self._done,
            {
                **losses,
                "learning_rate": learning_rate(self._done - 1, steps=config.steps, config=config.optim),
                "logit_scale": self._step.model.logit_scale.exp().item(),
                "epoch": self._loader.epoch,
                **{name: value.item() for name, value in self._step.logs.items()},
                **rates,
                **skipped,
                **self._quarantine.metrics(self._loader.state_dict()),
            },
        )

    def _heed(self, stop: StopSignal) -> bool:
        """Save where a signal asks for it; whether one asks to stop. Several ranks ask each other where they log."""
        if self._world.size > 1 and self._done % self._config.log_every:
            return False
        if is_any(stop.take_save(), self._world):
            self._save()
        return is_any(stop.is_set, self._world)

    def _save(self) -> None:
        """A checkpoint; it is written while training goes on. Not where a loss since the last one ends the run."""
        self._look()
        loader_state = self._quarantine.merged(self._loader.state_dict())
        if self._world.is_first and self._saved < self._done:
            self._writer.save(self._snapshot(loader_state))
        self._saved = self._done

    def _snapshot(self, loader_state: dict[str, Any]) -> Any:
        average, momentum = self._step.average, self._step.momentum
        return take_snapshot(
            step=self._done,
            model=self._step.model,
            optimizer=self._step.optimizer,
            average=average.state_dict() if average else None,
            momentum=momentum.state_dict() if momentum else None,
            config=self._config,
            num_channels=num_channels(self._config.data),
            environment=self._environment,
            loader_state=loader_state,
            num_skipped=self._losses.num_skipped,
        )
