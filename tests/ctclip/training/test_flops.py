"""Operations of a training step: counted, three times those of a forward pass, and at most what the machine does."""

import pytest
import torch

from ctclip.models.dual import build_dual_encoder
from ctclip.models.inflated_resnet import forward_flops
from ctclip.models.text import write_text_folder
from ctclip.presets import PRESETS
from ctclip.training.flops import measured_ceiling, training_flops
from tests.ctclip.learnable import learnable_config


def test_a_step_costs_about_three_forward_passes_and_the_model_is_left_as_it_was(tmp_path):
    config = PRESETS["tiny"].model
    write_text_folder(tmp_path, config.text, ["liver : normal ."])
    model = build_dual_encoder(config, tmp_path, num_channels=1, seed=0, is_pretrained=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shape = (32, 64, 64)
    counts = [training_flops(model, volume_shape=(1, *shape), num_tokens=n) for n in (16, 32)]
    assert counts[0] is not None
    assert counts[1] is not None
    image = forward_flops(config.image, shape)
    stem = 2 * 16 * (3 * 7 * 7) * (32 * 32 * 32)  # it needs no gradient of its input
    wanted = 3 * image - stem  # and 16 tokens of text are little beside the volume
    assert wanted < counts[0] < 1.06 * wanted
    assert counts[1] > counts[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_encoder_that_reads_values_is_not_counted(tmp_path):
    config = learnable_config(tmp_path).model
    write_text_folder(tmp_path, config.text, ["liver : normal ."])
    model = build_dual_encoder(config, tmp_path, num_channels=1, seed=0, is_pretrained=True)
    forward = model.encode_text.forward
    model.encode_text.forward = lambda ids, mask: forward(ids[:, : int(mask.sum().item())], mask)
    assert training_flops(model, volume_shape=(1, 8, 16, 16), num_tokens=16) is None


def test_the_ceiling_is_the_best_of_some_rounds():
    ceiling = measured_ceiling(torch.device("cpu"), num_rounds=2)
    assert 1e8 < ceiling < 1e14


@pytest.mark.gpu
def test_the_ceiling_of_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert 1e12 < measured_ceiling(torch.device("cuda")) < 1e16
