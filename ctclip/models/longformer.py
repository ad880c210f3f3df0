"""Longformer without global tokens, as banded scaled-dot-product attention.

Enter: token ids and mask (B, N). Leaves: the last hidden state (B, N, W). It computes what Hugging Face's
`LongformerModel` gives without a `global_attention_mask`, which is how StanfordMIMI/Merlin calls it
(merlin/models/build.py): token i sees token j where |i - j| <= window / 2 and j is no padding (Beltagy et al. 2020,
arXiv 2004.05150, section 3.1). The original slides chunks over the sequence and asks the device whether any token is
global; this one hands a band mask to torch's fused attention, so that it compiles to one graph.

Modules carry the names of Hugging Face's state_dict. The projections of global tokens and the pooler, which nothing
here uses, are no part of this module: `from_hugging_face` hands them back, so that an export can write them again.

Axes: B texts, N tokens, H heads, K width of a head, W hidden width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LongformerConfig, PreTrainedModel
from transformers.activations import ACT2FN

from ctclip.errors import ConfigError

# Parts of a Longformer that the last hidden state does not depend on where no token is global.
UNUSED_PARTS = ("pooler.", "_global.")


class Encoded(NamedTuple):
    """What an encoder says of B texts.

    Attributes:
        last_hidden_state: (B, N, W); rows of padding hold no meaning.
    """

    last_hidden_state: Tensor


class Longformer(nn.Module):
    """Token embeddings and a stack of layers of banded attention.

    Args:
        config: Of a Hugging Face Longformer; `attention_window` is one even number or one per layer.

    Raises:
        ConfigError: The configuration names no padding token.
    """

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self._reach = _reach_of_layers(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        """The last hidden state of token ids and mask (B, N); 1 in the mask is a token, 0 is padding."""
        bands = {reach: band_mask(attention_mask, reach) for reach in sorted(set(self._reach))}
        hidden_BNW = self.embeddings(input_ids)
        for layer, reach in zip(self.encoder.get_submodule("layer").children(), self._reach, strict=True):
            hidden_BNW = layer(hidden_BNW, bands[reach])
        return Encoded(hidden_BNW)


class Embeddings(nn.Module):
    """Word, position and the one token type, summed and normalised. Positions count from pad_token_id + 1."""

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__()
        if config.pad_token_id is None:
            raise ConfigError("the Longformer has no pad_token_id, from which positions count; set it in config.json")
        self.padding_id = config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size, self.padding_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids_BN: Tensor) -> Tensor:
        is_token_BN = (ids_BN != self.padding_id).long()
        positions_BN = is_token_BN.cumsum(1) * is_token_BN + self.padding_id
        summed = self.word_embeddings(ids_BN) + self.position_embeddings(positions_BN)
        return self.dropout(self.LayerNorm(summed + self.token_type_embeddings.weight[0]))


class Layer(nn.Module):
    """Attention and two dense maps, each with its shortcut and a layer norm after it."""

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = Shortcut(config.intermediate_size, config)
        self._activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_BNW: Tensor, mask_B1NN: Tensor) -> Tensor:
        attended = self.attention(hidden_BNW, mask_B1NN)
        inner = self._activation(self.intermediate.get_submodule("dense")(attended))
        return self.output(inner, attended)


class Attention(nn.Module):
    """Banded self-attention with its shortcut."""

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__()
        self.self = BandedAttention(config)
        self.output = Shortcut(config.hidden_size, config)

    def forward(self, hidden_BNW: Tensor, mask_B1NN: Tensor) -> Tensor:
        return self.output(self.self(hidden_BNW, mask_B1NN), hidden_BNW)


class BandedAttention(nn.Module):
    """Scaled-dot-product attention of every head under one mask."""

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden_BNW: Tensor, mask_B1NN: Tensor) -> Tensor:
        query_BHNK, key_BHNK, value_BHNK = (
            projection(hidden_BNW).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        attended_BHNK = functional.scaled_dot_product_attention(
            query_BHNK, key_BHNK, value_BHNK, attn_mask=mask_B1NN, dropout_p=dropout
        )
        return attended_BHNK.transpose(1, 2).flatten(2)


class Shortcut(nn.Module):
    """A dense map, added to what went in and normalised."""

    def __init__(self, width_in: int, config: LongformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inner: Tensor, shortcut_BNW: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(inner)) + shortcut_BNW)


def band_mask(mask_BN: Tensor, reach: int) -> Tensor:
    """Which token sees which: (B, 1, N, N) bool, True at |i - j| <= reach where j is a token, and at i = j.

    A padded row sees itself, so that no row is empty; nothing that is a token sees it.

    Args:
        mask_BN: 1 where there is a token.
        reach: Tokens to either side.

    Example:
        >>> band_mask(torch.tensor([[1, 1, 1, 0]]), 1).int()[0, 0].tolist()
        [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    """
    place_N = torch.arange(mask_BN.shape[1], device=mask_BN.device)
    distance_NN = (place_N[:, None] - place_N[None, :]).abs()
    return (((distance_NN <= reach) & mask_BN.bool()[:, None, :]) | (distance_NN == 0))[:, None]


def from_hugging_face(encoder: PreTrainedModel) -> tuple[Longformer, dict[str, Tensor]]:
    """A Longformer with the weights of Hugging Face's, and the tensors that it has no use for, by their names.

    Args:
        encoder: A `LongformerModel`; its configuration is kept as it is.
    """
    assert isinstance(encoder.config, LongformerConfig)
    used, unused = split_unused(encoder.state_dict())
    with torch.device("meta"):
        ours = Longformer(encoder.config)
    ours.load_state_dict(used, assign=True)
    for parameter in ours.parameters():
        parameter.requires_grad_(True)
    return ours, unused


def split_unused(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a Longformer's state_dict that `Longformer` has, and the others."""
    unused = {name: tensor for name, tensor in state.items() if any(part in name for part in UNUSED_PARTS)}
    return {name: tensor for name, tensor in state.items() if name not in unused}, unused


def _reach_of_layers(config: LongformerConfig) -> tuple[int, ...]:
    windows = config.attention_window
    if isinstance(windows, int):
        windows = [windows] * config.num_hidden_layers
    return tuple(window // 2 for window in windows)
