"""The text tower: any Hugging Face encoder, its last hidden state's first token or mean, and a linear map.

Enter: token ids (B, N). Leaves: features (B, E), not normalised. What makes the tower besides weights (the
encoder's configuration, the tokenizer) is a folder of text files, written once per run by `write_text_folder` and
kept in every checkpoint, so that a checkpoint needs no network and no name that may change. Weights are read from
safetensors, or by torch.load(weights_only=True) inside transformers where a model has no other; no code of a
model's repository is run. A Longformer runs as banded attention (ctclip/models/longformer.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    LongformerConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ctclip.config import TextConfig
from ctclip.errors import ConfigError
from ctclip.models.longformer import UNUSED_PARTS, Longformer, from_hugging_face, split_unused

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Tokens:
    """Texts as token ids.

    Attributes:
        ids: (B, N) int64, padded on the right.
        mask: (B, N) int64, 1 where there is a token.
    """

    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device | str) -> "Tokens":
        return Tokens(self.ids.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))


class TextTokenizer:
    """Turns cleaned texts into Tokens, by the tokenizer of a text folder.

    Args:
        folder: As `write_text_folder` made it.
        max_length: Longest text in tokens.
        is_padded_to_max: Pad every batch to max_length, so that compiled code sees one shape.
    """

    def __init__(self, folder: Path, *, max_length: int, is_padded_to_max: bool = False) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.max_length = max_length
        self._padding = "max_length" if is_padded_to_max else "longest"

    def __call__(self, texts: Sequence[str]) -> Tokens:
        encoded = self._tokenizer(
            list(texts), padding=self._padding, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return Tokens(encoded["input_ids"], encoded["attention_mask"])

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before anything is cut off."""
        return [len(ids) for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]]


class TextEncoder(nn.Module):
    """A Hugging Face encoder and a linear map to the joint space.

    Args:
        encoder: Gives last_hidden_state (B, N, width).
        embedding_dim: E.
        pooling: "first" token or "mean" over the tokens that are there.
    """

    def __init__(self, encoder: PreTrainedModel | Longformer, *, embedding_dim: int, pooling: str) -> None:
        super().__init__()
        self.is_mean = pooling == "mean"
        self.text_encoder = encoder
        self.linear_layer = nn.Linear(encoder.config.hidden_size, embedding_dim)
        for name, parameter in encoder.named_parameters():  # what features do not depend on gets no gradient
            if any(part in name for part in UNUSED_PARTS):
                parameter.requires_grad_(False)

    def forward(self, ids_BN: Tensor, mask_BN: Tensor) -> Tensor:
        """Features (B, E) of token ids and mask (B, N)."""
        hidden_BNW = self.text_encoder(input_ids=ids_BN, attention_mask=mask_BN).last_hidden_state
        if not self.is_mean:
            return self.linear_layer(hidden_BNW[:, 0])
        weight_BN1 = mask_BN.to(hidden_BNW.dtype).unsqueeze(2)
        return self.linear_layer((hidden_BNW * weight_BN1).sum(1) / weight_BN1.sum(1))


def write_text_folder(folder: Path, config: TextConfig, texts: Iterable[str]) -> None:
    """Write the encoder's configuration and tokenizer of a new run.

    Args:
        folder: Is made.
        config: With a name, that encoder's; without, a small BERT's.
        texts: Cleaned texts of the training split, from which the vocabulary is trained where there is no name.

    Raises:
        ConfigError: The name cannot be read, or its encoder is shorter than max_length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.name:
        encoder_config = _from_name(AutoConfig, config.name)
        _check_length(encoder_config, config)
        encoder_config.save_pretrained(folder)
        _from_name(AutoTokenizer, config.name).save_pretrained(folder)
        return
    vocabulary = train_vocabulary(texts, size=config.vocabulary)
    _word_piece(vocabulary, config.max_length).save_pretrained(folder)
    _small_bert(config, vocabulary).save_pretrained(folder)


def build_text_encoder(folder: Path, config: TextConfig, *, embedding_dim: int, is_pretrained: bool) -> TextEncoder:
    """The text tower of a text folder.

    Args:
        folder: As `write_text_folder` made it.
        config: Its name is where pretrained weights come from.
        embedding_dim: E.
        is_pretrained: Read the weights of `config.name`; without, or without a name, they are random, to be trained
            or to be overwritten by a checkpoint's.

    Raises:
        ConfigError: The name cannot be read.
    """
    if is_pretrained and config.name:
        encoder = _from_name(AutoModel, config.name)
    else:
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    encoder = encoder.float()  # whatever the file holds: autocast casts where it should
    if isinstance(encoder.config, LongformerConfig):
        encoder, _ = from_hugging_face(encoder)
    return TextEncoder(encoder, embedding_dim=embedding_dim, pooling=config.pooling)


def is_longformer(folder: Path) -> bool:
    """Whether the encoder of a text folder is a Longformer."""
    return isinstance(AutoConfig.from_pretrained(folder, local_files_only=True), LongformerConfig)


def unused_of_pretrained(config: TextConfig) -> dict[str, Tensor]:
    """Tensors of a named Longformer that its banded form has no use for, by Hugging Face's names; else none.

    Raises:
        ConfigError: The name cannot be read.
    """
    if not config.name or not isinstance(_from_name(AutoConfig, config.name), LongformerConfig):
        return {}
    return split_unused(_from_name(AutoModel, config.name).state_dict())[1]


def train_vocabulary(texts: Iterable[str], *, size: int) -> list[str]:
    """WordPiece tokens learned from texts, in the order of their ids; the same for the same texts in any process.

    Every "##c" is given to the trainer beforehand: it would otherwise number them in the order of a hash table
    that differs between processes.
    """
    texts = list(texts)
    characters = sorted({character for text in texts for character in text if not character.isspace()})
    reserved = [*SPECIAL_TOKENS, *(f"##{character}" for character in characters)]
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=max(size, len(reserved) + len(characters)), special_tokens=reserved, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=lambda token: vocabulary[token])


def _word_piece(vocabulary: list[str], max_length: int) -> PreTrainedTokenizerFast:
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **names)


def _small_bert(config: TextConfig, vocabulary: list[str]) -> BertConfig:
    return BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        max_position_embeddings=config.max_length,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        pad_token_id=0,
    )


def _from_name(kind, name: str):
    try:
        return kind.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.text.name={name!r} cannot be read: {error}. Give a folder with config.json, tokenizer and "
            "weights, a name that can be downloaded, or leave it empty for a small BERT trained from nothing"
        ) from error


def _check_length(encoder_config, config: TextConfig) -> None:
    # RoBERTa and Longformer number positions from pad_token_id + 1.
    is_offset = encoder_config.model_type in ("roberta", "longformer", "xlm-roberta", "camembert")
    positions = getattr(encoder_config, "max_position_embeddings", None)
    if positions is None:
        return
    longest = positions - (encoder_config.pad_token_id + 1 if is_offset else 0)
    if config.max_length > longest:
        raise ConfigError(
            f"model.text.max_length={config.max_length} is beyond the {longest} tokens of {config.name!r}; lower it"
        )
