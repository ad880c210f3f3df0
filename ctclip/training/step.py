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
from ctclip.objectives.learned import Learned
from ctclip.objectives.total import total_loss
from ctclip.training.batch_shape import BatchShape, shape_batch
from ctclip.training.distributed import World, gather_features
from ctclip.training.gradient_cache import backward_in_chunks
from ctclip.training.grouped_forward import GroupedForward
from ctclip.training.momentum_branch import Keys, MomentumBranch
from ctclip.training.optim import learning_rate, make_optimizer, set_learning_rate
from ctclip.training.precision import mixed_precision
from ctclip.training.running_statistics import RunningStatistics
from ctclip.training.shared_norm import share_batch_norm
from ctclip.training.weight_average import WeightAverage
from ctload.sampling.draw import derive_key


class TrainingStep:
    """Owns what changes from step to step: the weights, the optimizer's moments, the average of the weights, and the
    momentum branch with its queues.

    Args:
        model: On the world's device, in training mode.
        config: Of the run.
        world: This rank among all.
        shape: How the batch is cut; that of the configuration where it is not given.
        normal_rate: Share of normal text units in the training split, for objectives that begin by it.
        num_studies: Of the training split, by which a feature queue is sized.
        is_capturable: Whether `advance` is to go into a CUDA graph; the optimizer then reads its rate on the device.
    """

    def __init__(
        self,
        model: DualEncoder,
        config: TrainConfig,
        world: World,
        shape: BatchShape | None = None,
        *,
        normal_rate: float = 0.0,
        num_studies: int = 0,
        is_capturable: bool = False,
    ) -> None:
        self.model, self._config, self._world = model, config, world
        self.logs: dict[str, Tensor] = {}  # of the last step, by "<objective>/<term>"
        self._methods = config.methods
        self.momentum: MomentumBranch | None = None
        if config.objective != ("clip",):
            model.objective = self._learned(normal_rate).to(world.device)
            choice = config.mococlip
            if "mococlip" in config.objective and choice.mode != "itc":
                self.momentum = MomentumBranch(
                    model, choice, num_studies=num_studies, seed=config.seed, precision=config.precision
                )
        self.optimizer = make_optimizer(model, config.optim, is_capturable=is_capturable)
        self.average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
        self._shape = shape or shape_batch(config, world.size)
        if self._shape.ranks_per_group > 1:
            share_batch_norm(model, world, self._shape.ranks_per_group)
        self._number = 0
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
        self.begin(step)
        found = self.advance(batch)
        if self.average is not None:
            self.average.update(step)
        return found

    def begin(self, step: int) -> None:
        """What of step number `step` is decided on the host: its learning rate, and where its random numbers begin."""
        self._number = step
        rate = learning_rate(step, steps=self._config.steps, config=self._config.optim)
        set_learning_rate(self.optimizer, rate)
        if self._is_one_group:
            torch.manual_seed(self._seed(0))

    def advance(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """What of a step the device does after `begin`: all but the average of the weights, which ramps up by numbers
        of the host.

        With the objective "clip" on one rank, and one group of studies per step, it can be captured in a CUDA graph:
        it reads no value on the host. Several groups cannot: each sets the generator of its dropout anew.
        """
        optim = self._config.optim
        facts = None if batch.facts is None else gather_facts(batch.facts, self._world)
        keys = self._keys(batch)
        self._statistics.begin()
        loss = backward_in_chunks(
            self._chunks(batch),
            partial(self._loss_of, facts=facts, keys=keys),
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
        if self.momentum is not None and keys is not None and facts is not None:
            self.momentum.remember(keys, facts, is_bad)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=optim.max_logit_scale)
        return loss, norm

    def forward_once(self, step: int, batch: TrainBatch) -> None:
        """The forward passes of a step alone, to time them; changes no weight and no statistic."""
        self.begin(step)
        self._statistics.begin()
        with torch.no_grad():
            for chunk in self._chunks(batch):
                chunk()
        self._statistics.finish(torch.tensor(True, device=self._world.device))

    def _learned(self, normal_rate: float) -> Learned:
        config, tower = self._config, self.model.encode_image.i3_resnet
        return Learned(
            config.objective,
            self._methods,
            normal_rate=normal_rate,
            batch_size=config.data.batch_size,
            pooled_dim=tower.contrastive_head.in_channels,
            seed=config.seed,
        )

    def _keys(self, batch: TrainBatch) -> Keys | None:
        """Momentum keys of the global batch, by copies that follow the weights as the last step left them."""
        if self.momentum is None:
            return None
        if batch.key_volume is None:
            raise ConfigError("objective 'mococlip' needs a second view of each study in TrainBatch.key_volume")
        self.momentum.follow(self.model)
        return self.momentum.keys(
            batch.key_volume,
            batch.tokens,
            size=self._shape.micro_batch,
            world=self._world,
            group=self._shape.tower_batch,
        )

    def _loss_of(self, features: Features, *, facts: Facts | None, keys: Keys | None) -> Tensor:
        """The one place where features become a loss: those of this rank, in the order of its batch; facts and keys
        are of the global batch."""
        gathered = gather_features(features, self._world)
        if self.model.objective is None:
            return clip_loss(gathered)
        if facts is None:
            raise ConfigError(
                f"objective {self._config.objective} needs TrainBatch.facts; make the batch with its rows"
            )
        rows = replace(facts, scalars=self.model.objective.scalars())
        if self.momentum is not None and keys is not None:
            query = gathered.image if gathered.query is None else gathered.query
            image, text = self.momentum.facts(rows, keys, query=query, text=gathered.text)
            rows = replace(rows, momentum=image, text_momentum=text)
        loss, self.logs = total_loss(self._config.objective, self._methods, gathered, rows)
        return loss

    def _shared(self) -> list[torch.nn.Parameter]:
        """Trained parameters that the loss reads itself."""
        objective = self.model.objective
        read = [self.model.logit_scale, *(objective.parameters(recurse=False) if objective is not None else ())]
        return [parameter for parameter in read if parameter.requires_grad]

    @property
    def _is_one_group(self) -> bool:
        return self._shape.tower_batch == self._shape.rank_batch

    def _seed(self, row: int) -> int:
        """Of the dropout of the group that begins with this row of the rank's batch."""
        place = self._world.rank * self._shape.rank_batch + row
        return int(derive_key(self._config.seed, "dropout", self._number, place))

    def _chunks(self, batch: TrainBatch) -> list[Callable[[], Features]]:
        """One function per forward pass."""
        size, tower_batch = self._shape.micro_batch, self._shape.tower_batch
        num_texts = len(batch.tokens.ids) // len(batch.study)

        def chunk(start: int) -> Features:
            rows = slice(start, start + size)
            texts = slice(start * num_texts, (start + size) * num_texts)
            numbers = None if batch.numbers is None else batch.numbers[rows]
            # One group alone was seeded by `begin`: the host's part stays out of what a CUDA graph captures.
            groups = range(start, start + size, tower_batch)
            seeds = [None] if self._is_one_group else [self._seed(row) for row in groups]
            with mixed_precision(self._world.device, self._config.precision):
                return (self._ranks or self._forward)(
                    batch.volume[rows], batch.tokens.ids[texts], batch.tokens.mask[texts], seeds, numbers
                )

        return [lambda start=start: chunk(start) for start in range(0, len(batch.study), size)]
