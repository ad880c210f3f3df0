"""The momentum branch of a run: slow copies of encoders, the keys they give, and the queues of past keys.

It stands beside the model, not inside: it has no gradient, is no part of what is evaluated, and fills a file of its
own in a checkpoint. Every rank holds the same queues.

Axes: B studies, M momentum dimension.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ctclip.models.dual import DualEncoder
from ctclip.models.text import Tokens
from ctclip.objectives.facts import Facts, Momentum
from ctclip.objectives.parameters import MococlipParameters
from ctclip.training.distributed import World, gather_rows
from ctclip.training.feature_queue import FeatureQueue, queue_length
from ctclip.training.key_statistics import KeyStatistics
from ctclip.training.momentum import momentum_copy, update_momentum
from ctclip.training.precision import Precision, mixed_precision


class Keys(NamedTuple):
    """Of the global batch, not normalised, without gradient.

    Attributes:
        image: (B, M).
        text: (B, M); None but for "cross_modal".
    """

    image: Tensor
    text: Tensor | None


class MomentumBranch(nn.Module):
    """Momentum copies of the image tower (and its projection), and of the text tower for "cross_modal".

    Args:
        model: With its learned projection; copied before anything wraps or shares its batch norms.
        choice: Of the objective.
        num_studies: Of the training split.
        seed: Of random first keys.
        precision: Of the copies' passes.

    Raises:
        ConfigError: A queue larger than the data, or data too few for one.
    """

    def __init__(
        self,
        model: DualEncoder,
        choice: MococlipParameters,
        *,
        num_studies: int,
        seed: int,
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        self._precision: Precision = precision
        self._momentum = choice.image.momentum
        self.image = momentum_copy(model.encode_image)
        self._statistics = KeyStatistics(self.image) if choice.image.norm == "own" else None
        self._may_be_new = True
        head = model.objective.query_head if model.objective is not None else None
        self.head = None if head is None else momentum_copy(head)
        is_both = choice.mode == "cross_modal"
        self.text = momentum_copy(model.encode_text) if is_both else None
        length = queue_length(choice.image.queue, num_studies)
        joint = model.encode_image.i3_resnet.contrastive_head.out_channels
        dim = joint if head is None else choice.image.dim
        place = model.logit_scale.device
        init = choice.image.queue_init
        self.image_queue = FeatureQueue(length, dim, init=init, seed=seed).to(place)
        self.text_queue = FeatureQueue(length, joint, init=init, seed=seed + 1).to(place) if is_both else None

    def follow(self, model: DualEncoder) -> None:
        """Move the copies towards the trained encoders; once per optimizer step, before its keys."""
        has_own_norms = self._statistics is not None
        update_momentum(self.image, model.encode_image, momentum=self._momentum, has_own_norms=has_own_norms)
        if self.head is not None:
            assert model.objective is not None
            assert model.objective.query_head is not None
            update_momentum(self.head, model.objective.query_head, momentum=self._momentum)
        if self.text is not None:
            update_momentum(self.text, model.encode_text, momentum=self._momentum)

    @torch.no_grad()
    def keys(self, volume_BCDHW: Tensor, tokens: Tokens, *, size: int, world: World, group: int | None = None) -> Keys:
        """Keys of the global batch from this rank's part of it.

        Args:
            volume_BCDHW: The key view of this rank's studies.
            tokens: Of their texts.
            size: Studies of one forward pass.
            world: Whose keys are gathered.
            group: Studies that share batch statistics while the copy's first ones are measured; `size` if not given.
        """
        parts, texts = [], []
        with mixed_precision(world.device, self._precision):
            if self._statistics is not None:
                if self._may_be_new and self._statistics.is_new:
                    pieces = volume_BCDHW.split(group or size)
                    self._statistics.measure([partial(self._image_keys, piece) for piece in pieces], world)
                self._may_be_new = False
                self._statistics.begin()
            for first in range(0, len(volume_BCDHW), size):
                rows = slice(first, first + size)
                parts.append(self._image_keys(volume_BCDHW[rows]))
                if self.text is not None:
                    texts.append(self.text(tokens.ids[rows], tokens.mask[rows]))
        if self._statistics is not None:
            self._statistics.finish(world)
        text = gather_rows(torch.cat(texts).float(), world) if texts else None
        return Keys(gather_rows(torch.cat(parts).float(), world), text)

    def facts(self, rows: Facts, keys: Keys, *, query: Tensor, text: Tensor) -> tuple[Momentum, Momentum | None]:
        """What an objective sees of the images, and of the texts for "cross_modal".

        Args:
            rows: Of the global batch.
            keys: Of it.
            query: (B, M) with gradient: of the images.
            text: (B, M) with gradient: of the texts.
        """
        image = Momentum(query, keys.image, self.image_queue.negatives())
        if self.text_queue is None or keys.text is None:
            return image, None
        return image, Momentum(text, keys.text, self.text_queue.negatives())

    def remember(self, keys: Keys, rows: Facts, is_bad: Tensor) -> None:
        """Put the keys into the queues, after the backward pass; those of a step that was skipped are no negatives.

        Args:
            keys: Of the global batch.
            rows: Its facts.
            is_bad: Scalar bool.
        """
        valid = rows.valid_rows & ~is_bad
        self.image_queue.enqueue(keys.image, rows.study, rows.patient, valid)
        if self.text_queue is not None and keys.text is not None:
            self.text_queue.enqueue(keys.text, rows.study, rows.patient, valid)

    def _image_keys(self, volume_BCDHW: Tensor) -> Tensor:
        if self.head is None:
            return self.image(volume_BCDHW)
        return self.head(self.image(volume_BCDHW, "pooled").flatten(1))
