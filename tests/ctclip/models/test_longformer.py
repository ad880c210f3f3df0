"""Banded attention is Hugging Face's Longformer without global tokens: numbers, gradients, names, one graph."""

import pytest
import torch
from transformers import AutoTokenizer, LongformerConfig, LongformerModel

from ctclip.config import TextConfig
from ctclip.models.longformer import Longformer, band_mask, from_hugging_face
from ctclip.models.text import TextTokenizer, build_text_encoder, write_text_folder

LENGTHS = (77, 300, 512, 1024)


def hugging_face(*, width: int = 32, layers: int = 2, window: int | list[int] = 512, **more) -> LongformerModel:
    """A random Longformer in evaluation mode; window 512 is Clinical-Longformer's."""
    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=100, hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=4 * width, attention_window=window, max_position_embeddings=1100, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, type_vocab_size=1, **more,
    )  # fmt: skip
    model = LongformerModel(config).eval()
    for parameter in model.parameters():  # 0.02 as it is drawn makes attention all but uniform
        parameter.data.mul_(3 if parameter.ndim > 1 else 1)
    return model


def tokens(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three texts, two of them padded."""
    ids = torch.randint(3, 100, (3, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    for row, kept in ((1, length // 3), (2, length - 5)):
        ids[row, kept:], mask[row, kept:] = 1, 0
    return ids, mask


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"width": 192, "layers": 6}, {"window": 32}, {"window": [16, 64]}],
    ids=["tiny", "middle", "narrow", "mixed"],
)
def test_equal_to_hugging_face_at_every_token(length, sizes):
    theirs = hugging_face(**sizes)
    ours, _ = from_hugging_face(theirs)
    ids, mask = tokens(length)
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        got = ours.eval()(ids, mask).last_hidden_state
    is_token = mask.bool()
    torch.testing.assert_close(got[is_token], wanted[is_token], rtol=0, atol=1e-5)


def test_gradients_are_hugging_faces_and_none_is_missing():
    ours, _ = from_hugging_face(hugging_face(window=32))
    wanted_model = hugging_face(window=32)  # in float64 its own gradients are NaN
    ids, mask = tokens(77)
    wanted_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].square().sum().backward()
    ours.eval()(ids, mask).last_hidden_state[:, 0].square().sum().backward()
    wanted = {name: parameter.grad for name, parameter in wanted_model.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-5)


def test_names_are_hugging_faces_and_the_rest_is_handed_back():
    theirs = hugging_face()
    ours, unused = from_hugging_face(theirs)
    assert set(ours.state_dict()) | set(unused) == set(theirs.state_dict())
    assert not set(ours.state_dict()) & set(unused)
    # 3 global projections with bias in each of 2 layers, and the pooler's weight and bias.
    assert len(unused) == 2 * 3 * 2 + 2


def test_clinical_longformer_has_126_8_million_parameters_of_its_148_7():
    config = LongformerConfig(
        vocab_size=50265, max_position_embeddings=4098, pad_token_id=1, type_vocab_size=1, attention_window=512
    )
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Longformer(config).parameters())
        whole = sum(parameter.numel() for parameter in LongformerModel(config).parameters())
    assert whole == 148_659_456
    assert whole - count == 12 * 3 * (768 * 768 + 768) + 768 * 768 + 768


def test_the_mask_is_a_band_without_padding_and_no_row_is_empty():
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[1, 30:] = 0
    band = band_mask(mask, 3)[:, 0]
    for text, row, column in ((0, 5, 8), (0, 5, 2), (1, 20, 23), (1, 35, 35)):
        assert band[text, row, column]
    for text, row, column in ((0, 5, 9), (0, 5, 1), (1, 29, 30), (1, 36, 35)):
        assert not band[text, row, column]
    assert band.any(-1).all()


@pytest.mark.parametrize("is_training", [False, True])
def test_compiles_to_one_graph_forward_and_backward(is_training):
    ours, _ = from_hugging_face(hugging_face(window=32))
    ours.train(is_training)
    ids, mask = tokens(77)
    explained = torch._dynamo.explain(ours)(ids, mask)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, dynamic=False, backend="aot_eager")
    compiled(ids, mask).last_hidden_state.sum().backward()
    if not is_training:
        wanted = ours(ids, mask).last_hidden_state
        torch.testing.assert_close(compiled(ids, mask).last_hidden_state, wanted, rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()


def test_dropout_is_that_of_the_configuration():
    ours, _ = from_hugging_face(hugging_face(window=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5))
    ids, mask = tokens(77)
    first, again = ours.train()(ids, mask).last_hidden_state, ours(ids, mask).last_hidden_state
    assert (first - again).abs().max() > 1e-3
    assert torch.equal(ours.eval()(ids, mask).last_hidden_state, ours(ids, mask).last_hidden_state)


def test_a_longformer_on_disk_becomes_the_banded_text_tower(tmp_path):
    texts = ["liver : normal .", "spleen : enlarged , 15 cm ."] * 3
    write_text_folder(tmp_path / "made", TextConfig(max_length=16, vocabulary=60), texts)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    config = LongformerConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        attention_window=8, max_position_embeddings=40, pad_token_id=0, type_vocab_size=1,
    )  # fmt: skip
    theirs = LongformerModel(config).eval()
    theirs.save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    asked = TextConfig(name=str(tmp_path / "source"), max_length=32)
    write_text_folder(tmp_path / "run", asked, [])
    tower = build_text_encoder(tmp_path / "run", asked, embedding_dim=8, is_pretrained=True).eval()
    assert isinstance(tower.text_encoder, Longformer)
    batch = TextTokenizer(tmp_path / "run", max_length=32)(texts[:2])
    wanted = theirs(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state[:, 0]
    torch.testing.assert_close(tower(batch.ids, batch.mask), tower.linear_layer(wanted), rtol=1e-5, atol=1e-6)
    fresh = build_text_encoder(tmp_path / "run", asked, embedding_dim=8, is_pretrained=False)
    assert fresh.load_state_dict(tower.state_dict()).missing_keys == []
