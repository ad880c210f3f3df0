"""The image tower with fused batch norm: on the CPU the same numbers as with torch's, under the same names."""

from dataclasses import replace

import pytest
import torch

from ctclip.config import ImageConfig
from ctclip.errors import ConfigError
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.training.distributed import World
from ctclip.training.loop import check_compiled
from tests.ctclip.learnable import learnable_config

SMALL = ImageConfig((2, 1, 1, 1), (4, 4, 8, 8), stem_width=4)


def tower_of(norm: str) -> InflatedResNet:
    torch.manual_seed(0)
    tower = InflatedResNet(replace(SMALL, norm=norm), num_channels=1, embedding_dim=8)
    return tower.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue, reportReturnType]


@pytest.mark.parametrize("is_training", [True, False])
def test_fused_batch_norm_gives_torchs_numbers(is_training):
    plain, fused = tower_of("torch").train(is_training), tower_of("fused").train(is_training)
    fused.load_state_dict(plain.state_dict())
    volume = torch.rand(2, 1, 8, 16, 16).contiguous(memory_format=torch.channels_last_3d)
    results = []
    for tower in (plain, fused):
        features = tower(volume)
        features.square().sum().backward()
        results.append((features, [p.grad for p in tower.parameters()], dict(tower.named_buffers())))
    (features, gradients, buffers), (ours, our_gradients, our_buffers) = results
    torch.testing.assert_close(ours, features)
    for mine, theirs in zip(our_gradients, gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert our_buffers.keys() == buffers.keys()
    for name, buffer in buffers.items():
        torch.testing.assert_close(our_buffers[name], buffer)
    assert int(our_buffers["bn1.num_batches_tracked"]) == int(is_training)


def test_statistics_over_ranks_are_refused_with_fused_batch_norm(tmp_path):
    config = learnable_config(tmp_path, bn_group=8)
    config = replace(config, model=replace(config.model, image=replace(config.model.image, norm="fused")))
    with pytest.raises(ConfigError, match="norm=fused knows one rank's"):
        check_compiled(config, World(0, 2, torch.device("cpu")))
