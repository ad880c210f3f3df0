"""The published model and volumes, or a tiny stand-in with which a dry run takes the same path."""

from dataclasses import dataclass
from typing import Any

from ctclip.config import ImageConfig
from ctclip.presets import PRESETS


@dataclass(frozen=True)
class Sizes:
    """Of what is run.

    Attributes:
        image: The image tower.
        volume: (D, H, W).
        text: Of a LongformerConfig.
        tokens: Of each text.
        batches: Of whole training steps, those that matter most first.
        merlin_blocks: Of merlin-vlm's tower.
        backend: Of torch.compile.
    """

    image: ImageConfig
    volume: tuple[int, int, int]
    text: dict[str, Any]
    tokens: int
    batches: tuple[int, ...]
    merlin_blocks: tuple[int, ...]
    backend: str


def sizes(is_tiny: bool) -> Sizes:
    """Of a dry run, or the published ones."""
    if is_tiny:
        text = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"intermediate_size": 32, "attention_window": 8, "max_position_embeddings": 66, "pad_token_id": 1}
        image = ImageConfig((1, 1, 1, 1), (4, 4, 8, 8), 4, 3)
        return Sizes(image, (16, 32, 32), text, 16, (2,), (1, 1, 1, 1), "eager")
    text = {"vocab_size": 50265, "num_hidden_layers": 12, "intermediate_size": 3072, "attention_window": 512}
    text |= {"max_position_embeddings": 4098, "pad_token_id": 1, "type_vocab_size": 1}
    image = PRESETS["merlin"].model.image
    return Sizes(image, (160, 224, 224), text, 512, (16, 4, 1, 8, 2, 17), (3, 8, 36, 3), "inductor")
