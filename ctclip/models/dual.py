"""The dual encoder: an image tower, a text tower and the learned logit scale.

Enter: volumes (B, C, D, H, W) in [0, 1] and Tokens. Leave: features of both, not normalised, and the log of the
logit scale; the objective does the rest. Names of modules are those of StanfordMIMI/Merlin's state_dict.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ctclip.config import ModelConfig
from ctclip.models.anatomy_pool import AnatomyPool
from ctclip.models.features import Features
from ctclip.models.inflated_resnet import EXPANSION, InflatedResNet
from ctclip.models.initial_weights import InitialWeights, lay_into
from ctclip.models.text import TextEncoder, build_text_encoder
from ctclip.objectives.learned import Learned
from ctclip.objectives.parameters import AnatomyParameters


class ImageEncoder(nn.Module):
    """The image tower under the name that Merlin's state_dict gives it."""

    def __init__(self, tower: InflatedResNet) -> None:
        super().__init__()
        self.i3_resnet = tower

    def forward(self, volume_BCDHW: Tensor, output: str = "image") -> Tensor | list[Tensor]:
        """Features (B, E); or what "pooled" or "maps" of the tower's stages are made from them. One door for all, since
        it is what gets compiled."""
        if output == "pooled":
            return self.i3_resnet.pooled(volume_BCDHW)
        if output == "maps":
            return self.i3_resnet.stage_maps(volume_BCDHW)
        return self.i3_resnet(volume_BCDHW)


class DualEncoder(nn.Module):
    """Two towers and a scale.

    Args:
        image: Gives (B, E) of a volume.
        text: Gives (B, E) of tokens.
        logit_scale: First value of the log of the logit scale.
    """

    def __init__(self, image: InflatedResNet, text: TextEncoder, *, logit_scale: float) -> None:
        super().__init__()
        self.encode_image = ImageEncoder(image)
        self.encode_text = text
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))
        self.anatomy: AnatomyPool | None = None  # set where the run's objective looks at anatomies apart
        self.objective: Learned | None = None  # set by the training step, where an objective learns more

    def forward(
        self, volume_BCDHW: Tensor, ids_BN: Tensor, mask_BN: Tensor, numbers_BDHW: Tensor | None = None
    ) -> Features:
        """Features of B studies, or of their B x A anatomies.

        Args:
            volume_BCDHW: In [0, 1].
            ids_BN: Tokens of as many texts.
            mask_BN: 1 where there is a token.
            numbers_BDHW: Of `anatomy_numbers`, with a pool of anatomies. None: no anatomy is anywhere, as where a pass
                is only measured.
        """
        text = self.encode_text(ids_BN, mask_BN)
        if self.anatomy is not None:
            if numbers_BDHW is None:
                numbers_BDHW = torch.zeros_like(volume_BCDHW[:, 0], dtype=torch.int64)
            return Features(self.embed_anatomies(volume_BCDHW, numbers_BDHW).flatten(0, 1), text, self.logit_scale)
        head = None if self.objective is None else self.objective.query_head
        if head is None:
            return Features(self.encode_image(volume_BCDHW), text, self.logit_scale)
        pooled = self.encode_image(volume_BCDHW, "pooled")
        image = self.encode_image.i3_resnet.project(pooled)
        return Features(image, text, self.logit_scale, head(pooled.flatten(1)))

    def embed_anatomies(self, volume_BCDHW: Tensor, numbers_BDHW: Tensor | None) -> Tensor:
        """(B, A, E), not normalised; an anatomy that is not there has a row without meaning."""
        assert self.anatomy is not None
        return self.anatomy(self.encode_image(volume_BCDHW, "maps"), numbers_BDHW)[0]


def build_dual_encoder(
    config: ModelConfig,
    text_folder: Path,
    *,
    num_channels: int,
    seed: int,
    is_pretrained: bool,
    initial: InitialWeights | None = None,
    anatomy: AnatomyParameters | None = None,
    num_anatomies: int = 0,
) -> DualEncoder:
    """The model of a configuration, in channels-last 3D, its random weights drawn from `seed` alone.

    Args:
        config: The two towers.
        text_folder: Configuration and tokenizer of the text tower (ctclip/models/text.py).
        num_channels: C of the volumes.
        seed: Of the random weights.
        is_pretrained: Read the text tower's pretrained weights; False where a checkpoint follows.
        initial: Weights to begin with in place of random ones.
        anatomy: How anatomies are pooled, where the objective looks at them apart. The towers begin as without it.
        num_anatomies: A.

    Raises:
        CheckpointError: The initial weights are of another architecture.
    """
    is_text_read = is_pretrained and not (initial is not None and initial.has_text(text_folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = InflatedResNet(config.image, num_channels=num_channels, embedding_dim=config.embedding_dim)
        text = build_text_encoder(
            text_folder, config.text, embedding_dim=config.embedding_dim, is_pretrained=is_text_read
        )
        model = DualEncoder(image, text, logit_scale=config.logit_scale)
        if anatomy is not None:
            widths = [EXPANSION * width for width in config.image.widths]
            model.anatomy = AnatomyPool(
                widths, num_anatomies=num_anatomies, embedding_dim=config.embedding_dim, parameters=anatomy
            )
            image.contrastive_head.requires_grad_(False)  # anatomies have linear maps of their own
    if initial is not None:
        lay_into(initial, model)
    return model.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue] (torch types no such overload)
