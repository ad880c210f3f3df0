"""What a run begins with: a 2D network's response, Merlin's towers, another run; the rest refused before it starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from ctclip.config import ImageConfig, ModelConfig, TextConfig
from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.dual import build_dual_encoder
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.inflation import inflate_resnet2d
from ctclip.models.initial_weights import begin_text_folder, read_initial, read_kept
from ctclip.models.longformer import Longformer
from ctclip.models.merlin_checkpoint import CLASSIFIER, IMAGE, TEXT, join_merlin
from tests.ctclip.models.small_merlin import TINY_IMAGE, tiny_merlin, tiny_model_config

TEXTS = ["liver : normal .", "spleen : enlarged ."]
BLOCKS = (1, 1, 1, 1)
CONFIG = ImageConfig((1, 2, 1, 1), (4, 4, 8, 8), stem_width=4, stem_planes=3)


class Bottleneck2d(nn.Module):
    """torchvision.models.resnet.Bottleneck, its names and its stride (v1.5)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        shortcut = [nn.Conv2d(width_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)]
        self.downsample = nn.Sequential(*shortcut) if stride > 1 or width_in != 4 * width else None

    def forward(self, hidden: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(hidden)))
        inner = self.bn3(self.conv3(functional.relu(self.bn2(self.conv2(inner)))))
        return functional.relu(inner + (hidden if self.downsample is None else self.downsample(hidden)))


class ResNet2d(nn.Module):
    """torchvision.models.ResNet of a configuration, with random statistics; its averaged features."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.stem_width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem_width)
        width_in = config.stem_width
        for stage, (blocks, width) in enumerate(zip(config.blocks, config.widths, strict=True), start=1):
            layers = [Bottleneck2d(width_in, width, 2 if stage > 1 else 1)]
            layers += [Bottleneck2d(4 * width, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            width_in = 4 * width
        self.fc = nn.Linear(width_in, 10)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_var, module.weight, module.bias):
                    assert tensor is not None
                    nn.init.uniform_(tensor, 0.5, 1.5)

    def forward(self, slice_BCHW: Tensor) -> Tensor:
        hidden = functional.max_pool2d(functional.relu(self.bn1(self.conv1(slice_BCHW))), 3, 2, 1)
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        return hidden.mean((2, 3))


def random_resnet2d(config: ImageConfig = CONFIG) -> ResNet2d:
    torch.manual_seed(0)
    return ResNet2d(config).double().eval()


@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_volume_of_equal_slices_gets_the_2d_networks_features(num_channels):
    flat = random_resnet2d()
    tower = InflatedResNet(CONFIG, num_channels=num_channels, embedding_dim=8).double().eval()
    tower.load_state_dict(inflate_resnet2d(flat.state_dict(), tower, path=Path("resnet.pth")))
    image = torch.rand(2, 1, 64, 96, dtype=torch.float64)
    wanted = flat(image.expand(-1, 3, -1, -1))
    got = tower.pooled(image[:, :, None].expand(-1, num_channels, 11, -1, -1)).flatten(1)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    assert wanted.std() > 1e-3
    turned = tower.pooled(image.transpose(2, 3)[:, :, None].expand(-1, num_channels, 11, -1, -1)).flatten(1)
    assert (turned - wanted).abs().max() > 1e-3  # height and width are not exchanged


def test_init_by_a_torchvision_file_leaves_head_and_text_as_drawn(tmp_path):
    config = tiny_model_config(tmp_path / "encoder", TEXTS)
    flat = random_resnet2d(TINY_IMAGE).float().state_dict()
    torch.save(flat, tmp_path / "resnet.pth")
    initial = read_initial(str(tmp_path / "resnet.pth"), blocks=BLOCKS)
    assert initial is not None
    begun = build_dual_encoder(
        config, tmp_path / "encoder", num_channels=1, seed=3, is_pretrained=False, initial=initial
    )
    drawn = build_dual_encoder(config, tmp_path / "encoder", num_channels=1, seed=3, is_pretrained=False)
    changed = {name for name, tensor in begun.state_dict().items() if not torch.equal(tensor, drawn.state_dict()[name])}
    assert changed
    assert all(name.startswith(IMAGE) and "contrastive_head" not in name for name in changed)
    assert torch.equal(begun.encode_image.i3_resnet.conv1.weight[:, :, 1], flat["conv1.weight"])


def test_imagenet_is_the_file_in_torchs_download_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"ResNet-14 .* has none.*pass --init FILE"):
        read_initial("imagenet", blocks=BLOCKS)
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "resnet14-0000.pth"
    torch.save(random_resnet2d(TINY_IMAGE).state_dict(), file)
    found = read_initial("imagenet", blocks=BLOCKS)
    assert found is not None
    assert found.path == file
    torch.save({}, file.with_name("resnet14-1111.pth"))
    with pytest.raises(ConfigError, match=r"has several: resnet14-0000.pth, resnet14-1111.pth"):
        read_initial("imagenet", blocks=BLOCKS)


def test_init_by_merlin_takes_both_towers_and_the_scale_and_exports_every_bit(tmp_path):
    config = tiny_model_config(tmp_path / "encoder", TEXTS)
    state = tiny_merlin()
    torch.save(state, tmp_path / "merlin.pt")
    initial = read_initial(str(tmp_path / "merlin.pt"), blocks=BLOCKS)
    begin_text_folder(tmp_path / "text", config.text, TEXTS, initial)
    # The encoder's folder has no weights: they are Merlin's.
    model = build_dual_encoder(config, tmp_path / "text", num_channels=1, seed=0, is_pretrained=True, initial=initial)
    assert torch.equal(model.logit_scale, state["logit_scale"])
    back = join_merlin(model.state_dict(), read_kept(tmp_path / "text"))
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_beside_another_text_tower_merlin_gives_its_image_tower_with_a_warning(tmp_path):
    text = TextConfig(max_length=16, vocabulary=60, width=16, layers=1, heads=2)
    torch.save(tiny_merlin(), tmp_path / "merlin.pt")
    initial = read_initial(str(tmp_path / "merlin.pt"), blocks=BLOCKS)
    begin_text_folder(tmp_path / "text", text, TEXTS, initial)
    config = ModelConfig(TINY_IMAGE, text, embedding_dim=512)
    with pytest.warns(
        UserWarning, match=r"only the image tower is taken, since the model's text tower is no Longformer"
    ):
        model = build_dual_encoder(
            config, tmp_path / "text", num_channels=1, seed=0, is_pretrained=True, initial=initial
        )
    assert initial is not None
    assert initial.merlin is not None
    assert torch.equal(
        model.state_dict()[IMAGE + "layer1.0.conv2.weight"], initial.merlin.image["layer1.0.conv2.weight"]
    )
    assert CLASSIFIER + "weight" in read_kept(tmp_path / "text")


def test_merlins_stem_is_spread_over_several_windows(tmp_path):
    config = tiny_model_config(tmp_path / "encoder", TEXTS)
    torch.save(tiny_merlin(), tmp_path / "merlin.pt")
    initial = read_initial(str(tmp_path / "merlin.pt"), blocks=BLOCKS)

    def features(num_channels: int) -> Tensor:
        model = build_dual_encoder(
            config, tmp_path / "encoder", num_channels=num_channels, seed=0, is_pretrained=True, initial=initial
        )
        volume = torch.rand(1, 1, 16, 32, 48, generator=torch.Generator().manual_seed(0))
        return model.eval().encode_image(volume.expand(-1, num_channels, -1, -1, -1))

    torch.testing.assert_close(features(2), features(1), rtol=1e-4, atol=1e-5)


def test_a_pretrained_longformers_unused_parts_are_kept_for_the_export(tmp_path):
    config = tiny_model_config(tmp_path / "encoder", TEXTS).text
    theirs = AutoModel.from_config(AutoConfig.from_pretrained(tmp_path / "encoder"))
    theirs.save_pretrained(tmp_path / "encoder")
    begin_text_folder(tmp_path / "text", config, TEXTS, None)
    kept = read_kept(tmp_path / "text")
    wanted = {TEXT + "text_encoder." + name: x for name, x in theirs.state_dict().items()}
    assert kept
    assert all(torch.equal(kept[name], wanted[name]) for name in kept)
    assert not any(name.removeprefix(TEXT + "text_encoder.") in Longformer(theirs.config).state_dict() for name in kept)


def test_an_encoder_of_another_kind_has_nothing_to_keep(tmp_path):
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = tmp_path / "bert"
    tiny_model_config(folder, TEXTS)  # its tokenizer
    BertModel(BertConfig(vocab_size=20, max_position_embeddings=64, **sizes)).save_pretrained(folder)
    begin_text_folder(tmp_path / "text", TextConfig(str(folder), max_length=32), TEXTS, None)
    assert read_kept(tmp_path / "text") == {}


def test_random_is_nothing_to_read():
    assert read_initial("random", blocks=BLOCKS) is None


def test_what_does_not_fit_is_refused_with_what_it_is(tmp_path):
    config = tiny_model_config(tmp_path / "encoder", TEXTS)
    torch.save(tiny_merlin(), tmp_path / "merlin.pt")
    torch.save(random_resnet2d().state_dict(), tmp_path / "resnet.pth")
    torch.save({"visual.proj": torch.zeros(2, 2)}, tmp_path / "clip.pt")

    def build(file: str, model: ModelConfig) -> None:
        initial = read_initial(str(tmp_path / file), blocks=BLOCKS)
        build_dual_encoder(model, tmp_path / "encoder", num_channels=1, seed=0, is_pretrained=False, initial=initial)

    wider = replace(config, image=replace(TINY_IMAGE, widths=(4, 8, 8, 8)))
    with pytest.raises(CheckpointError, match=r"of another shape.*widths=\(4, 4, 8, 8\).*take --preset merlin"):
        build("merlin.pt", wider)
    with pytest.raises(CheckpointError, match=r"contrastive_head.*E=512"):
        build("merlin.pt", replace(config, embedding_dim=64))
    with pytest.raises(CheckpointError, match=r"unknown \(the first: layer2.1.conv1.weight\)"):
        build("resnet.pth", config)
    with pytest.raises(CheckpointError, match=r"neither a checkpoint of Merlin nor a torchvision ResNet"):
        build("clip.pt", config)
    with pytest.raises(ConfigError, match="neither random, imagenet, a file of weights nor the folder of a run"):
        build("absent.pt", config)
