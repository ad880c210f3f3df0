"""One optimizer step: a TrainBatch in, the loss and the gradient's norm out, the weights changed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from ctclip.config import TrainConfig
from ctclip.data import TrainBatch
from ctclip.errors import ConfigError
from ctclip.models.dual import DualEncoder
from ctclip.models.features import Features
from ctclip.objectives.clip import clip_loss
from ctclip.objectives.facts import Facts, gather_facts
from ctclip.objectives.learned import LearnedScalars
from ctclip.objectives.parameters import Methods
from ctclip.objectives.total import total_loss
from ctclip.training.batch_shape import BatchShape, shape_batch
from ctclip.training.distributed import World, gather_features
from ctclip.training.gradient_cache import backward_in_chunks
from ctclip.training.grouped_forward import GroupedForward
from ctclip.training.optim import learning_rate, make_optimizer, set_learning_rate
from ctclip.training.running_statistics import RunningStatistics
from ctclip.training.shared_norm import share_batch_norm
from ctclip.training.weight_average import WeightAverage
from ctload.draw import derive_key


class TrainingStep:
    """Owns what changes from step to step: the weights, the optimizer's moments, the average of the weights.

    Args:
        model: On the world's device, in training mode.
        config: Of the run.
        world: This rank among all.
        shape: How the batch is cut; that of the configuration where it is not given.
        normal_rate: Share of normal text units in the training split, for objectives that begin by it.
    """

    def __init__(
        self,
        model: DualEncoder,
        config: TrainConfig,
        world: World,
        shape: BatchShape | None = None,
        *,
        normal_rate: float = 0.0,
    ) -> None:
        self.model = model
        self.logs: dict[str, Tensor] = {}  # of the last step, by "<objective>/<term>"
        self._methods = Methods(offclip=config.offclip)
        if config.objective != ("clip",):
            batch_size = config.data.batch_size
            learned = LearnedScalars(config.objective, self._methods, normal_rate=normal_rate, batch_size=batch_size)
            model.objective = learned.to(world.device)
        self.optimizer = make_optimizer(model, config.optim)
        self.average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
        self._config = config
        self._world = world
        self._shape = shape or shape_batch(config, world.size)
        if self._shape.ranks_per_group > 1:
            share_batch_norm(model, world, self._shape.ranks_per_group)
        self._statistics = RunningStatistics(model, world)
        self._forward = GroupedForward(model, self._shape.tower_batch, self._statistics)
        self._ranks: DistributedDataParallel | None = None
        if world.size > 1:
            self._ranks = DistributedDataParallel(
                self._forward,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,  # RunningStatistics keeps them equal
            )

    def run(self, step: int, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Do step number `step` (from 0). Nothing waits for the device.

        The random numbers of dropout are a function of (seed, step, place in the global batch), so that a resumed run
        needs no state of a generator. A step whose loss or gradient is not finite leaves weights, moments and running
        statistics as they were.

        Returns:
            Loss of the global batch and norm of its gradient before clipping, scalars on the device.
        """
        optim = self._config.optim
        set_learning_rate(self.optimizer, learning_rate(step, steps=self._config.steps, config=optim))
        self._statistics.begin()
        loss = backward_in_chunks(
            self._chunks(step, batch),
            partial(self._loss_of, facts=batch.facts),
            shared=self._shared(),
            between_passes=self._statistics.stop_collecting,
            **({"no_sync": self._ranks.no_sync} if self._ranks else {}),
        )
        norm = clip_grad_norm_(self.model.parameters(), optim.clip_norm)
        is_bad = ~(loss.isfinite() & norm.isfinite())
        # The fused optimizer reads this on the device and then changes nothing, as it does for a gradient scaler.
        self.optimizer.found_inf = is_bad.float()  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._statistics.finish(is_bad)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=optim.max_logit_scale)
        if self.average is not None:
            self.average.update(step)
        return loss, norm

    def forward_once(self, step: int, batch: TrainBatch) -> None:
        """The forward passes of a step alone, to time them; changes nothing."""
        self._statistics.begin()
        with torch.no_grad():
            for chunk in self._chunks(step, batch):
                chunk()
        self._statistics.finish(torch.tensor(True, device=self._world.device))

    def _loss_of(self, features: Features, *, facts: Facts | None) -> Tensor:
        """The one place where features become a loss: those of this rank, in the order of its batch."""
        gathered = gather_features(features, self._world)
        if self.model.objective is None:
            return clip_loss(gathered)
        if facts is None:
            raise ConfigError(
                f"objective {self._config.objective} needs TrainBatch.facts; make the batch with its rows"
            )
        rows = replace(gather_facts(facts, self._world), scalars=self.model.objective.scalars())
        loss, self.logs = total_loss(self._config.objective, self._methods, gathered, rows)
        return loss

    def _shared(self) -> list[torch.nn.Parameter]:
        """Trained parameters that the loss reads itself."""
        towers = {id(p) for tower in (self.model.encode_image, self.model.encode_text) for p in tower.parameters()}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) not in towers]

    def _chunks(self, step: int, batch: TrainBatch) -> list[Callable[[], Features]]:
        """One function per forward pass."""
        size, tower_batch = self._shape.micro_batch, self._shape.tower_batch
        first = self._world.rank * self._shape.rank_batch
        device = self._world.device.type

        def chunk(start: int) -> Features:
            rows = slice(start, start + size)
            seeds = [
                int(derive_key(self._config.seed, "dropout", step, first + row))
                for row in range(start, start + size, tower_batch)
            ]
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                return (self._ranks or self._forward)(
                    batch.volume[rows], batch.tokens.ids[rows], batch.tokens.mask[rows], seeds
                )

        return [lambda start=start: chunk(start) for start in range(0, len(batch.study), size)]
