"""The dual encoder: an image tower, a text tower and the learned logit scale.

Enter: volumes (B, C, D, H, W) in [0, 1] and Tokens. Leave: features of both, not normalised, and the log of the
logit scale; the objective does the rest. Names of modules are those of StanfordMIMI/Merlin's state_dict.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ctclip.config import ModelConfig
from ctclip.models.features import Features
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.initial_weights import InitialWeights, lay_into
from ctclip.models.text import TextEncoder, build_text_encoder
from ctclip.objectives.learned import LearnedScalars


class ImageEncoder(nn.Module):
    """The image tower under the name that Merlin's state_dict gives it."""

    def __init__(self, tower: InflatedResNet) -> None:
        super().__init__()
        self.i3_resnet = tower

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
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
        self.objective: LearnedScalars | None = None  # set by the training step, where an objective learns more

    def forward(self, volume_BCDHW: Tensor, ids_BN: Tensor, mask_BN: Tensor) -> Features:
        return Features(self.encode_image(volume_BCDHW), self.encode_text(ids_BN, mask_BN), self.logit_scale)


def build_dual_encoder(
    config: ModelConfig,
    text_folder: Path,
    *,
    num_channels: int,
    seed: int,
    is_pretrained: bool,
    initial: InitialWeights | None = None,
) -> DualEncoder:
    """The model of a configuration, in channels-last 3D, its random weights drawn from `seed` alone.

    Args:
        config: The two towers.
        text_folder: Configuration and tokenizer of the text tower (ctclip/models/text.py).
        num_channels: C of the volumes.
        seed: Of the random weights.
        is_pretrained: Read the text tower's pretrained weights; False where a checkpoint follows.
        initial: Weights to begin with in place of random ones.

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
    if initial is not None:
        lay_into(initial, model)
    return model.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue] (torch types no such overload)
