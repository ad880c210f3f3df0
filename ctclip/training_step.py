"""One optimizer step: a TrainBatch in, the loss and the gradient's norm out, the weights changed."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from ctclip.config import TrainConfig
from ctclip.data import TrainBatch
from ctclip.distributed import World, gather_features
from ctclip.models.dual import DualEncoder
from ctclip.models.features import Features
from ctclip.objectives.clip import clip_loss
from ctclip.optim import learning_rate, make_optimizer, set_learning_rate
from ctload.draw import derive_key


class TrainingStep:
    """Owns what changes from step to step: the weights and the optimizer's moments.

    Args:
        model: On the world's device, in training mode.
        config: Of the run.
        world: This rank among all.
    """

    def __init__(self, model: DualEncoder, config: TrainConfig, world: World) -> None:
        self.model = model
        self.optimizer = make_optimizer(model, config.optim)
        self._config = config
        self._world = world
        self._forward: nn.Module = model
        if world.size > 1:
            self._forward = DistributedDataParallel(
                model,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                static_graph=True,
            )

    def run(self, step: int, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Do step number `step` (from 0). Nothing waits for the device.

        The random numbers of dropout are a function of (seed, step, rank), so that a resumed run needs no state of
        a generator.

        Returns:
            Loss of the global batch and norm of its gradient before clipping, scalars on the device.
        """
        optim = self._config.optim
        torch.manual_seed(int(derive_key(self._config.seed, "dropout", step, self._world.rank)))
        set_learning_rate(self.optimizer, learning_rate(step, steps=self._config.steps, config=optim))
        device = self._world.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            features = Features(*self._forward(batch.volume, batch.tokens.ids, batch.tokens.mask))
        loss = clip_loss(gather_features(features, self._world))
        loss.backward()
        norm = clip_grad_norm_(self.model.parameters(), optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=optim.max_logit_scale)
        return loss.detach(), norm.detach()
