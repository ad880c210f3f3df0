"""A checkpoint file as Merlin's, one bottleneck per stage, made without merlin-vlm; its values are those of the
recorded model (merlin_reference.py), and so are its names, or the recorded outputs would not come out."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LongformerConfig, LongformerModel, PreTrainedTokenizerFast

from ctclip.config import ImageConfig, ModelConfig, TextConfig
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.merlin_checkpoint import CLASSIFIER, IMAGE, TEXT
from tests.ctclip.models.merlin_reference import LONGFORMER, fill_by_name

IMAGE_CONFIG = ImageConfig((1, 1, 1, 1), (64, 128, 256, 512), stem_width=64, stem_planes=3)


def merlin_names(
    image: ImageConfig = IMAGE_CONFIG, longformer: dict[str, Any] = LONGFORMER, *, num_phenotypes: int = 1692
) -> dict[str, Tensor]:
    """Merlin's state_dict of these sizes on the meta device: names and shapes."""
    with torch.device("meta"):
        tower = InflatedResNet(image, num_channels=1, embedding_dim=512).state_dict()
        encoder = LongformerModel(LongformerConfig(**longformer)).state_dict()
        pooled = 4 * image.widths[3]
        return {
            "logit_scale": torch.empty(()),
            **{IMAGE + name: tensor for name, tensor in tower.items()},
            CLASSIFIER + "weight": torch.empty(num_phenotypes, pooled, 1, 1, 1),
            CLASSIFIER + "bias": torch.empty(num_phenotypes),
            **{f"{TEXT}text_encoder.{name}": tensor for name, tensor in encoder.items()},
            TEXT + "linear_layer.weight": torch.empty(512, encoder["embeddings.LayerNorm.weight"].shape[0]),
            TEXT + "linear_layer.bias": torch.empty(512),
        }


def small_merlin(**sizes: Any) -> dict[str, Tensor]:
    """The small state_dict with its values."""
    return fill_by_name(merlin_names(**sizes))


def write_longformer_folder(folder: Path, texts: list[str], **changes: Any) -> TextConfig:
    """Configuration and a tokenizer of words, as a folder for model.text.name; it holds no weights."""
    words = sorted({word for text in texts for word in text.split()})
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    ids = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=60, **names).save_pretrained(folder)
    LongformerConfig(**(LONGFORMER | changes)).save_pretrained(folder)
    return TextConfig(str(folder), max_length=60)


TINY_IMAGE = ImageConfig((1, 1, 1, 1), (4, 4, 8, 8), stem_width=4, stem_planes=3)
TINY_LONGFORMER = LONGFORMER | {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def tiny_merlin() -> dict[str, Tensor]:
    """A state_dict of a few thousand numbers."""
    return small_merlin(image=TINY_IMAGE, longformer=TINY_LONGFORMER, num_phenotypes=5)


def tiny_model_config(folder: Path, texts: list[str]) -> ModelConfig:
    """The configuration whose DualEncoder takes `tiny_merlin`."""
    text = write_longformer_folder(folder, texts, **{key: TINY_LONGFORMER[key] for key in TINY_LONGFORMER})
    return ModelConfig(TINY_IMAGE, text, embedding_dim=512)
