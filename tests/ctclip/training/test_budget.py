"""The activation budget on the image tower: less is kept for the backward pass, and no gradient changes."""

import copy

import pytest
import torch
from torch import nn

from ctclip.config import ImageConfig
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.training.compilation import budgeted_backend

# torch 2.13 warns of itself when its partitioner is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
SHAPE = (2, 1, 8, 16, 16)


@pytest.fixture
def tower():
    torch._dynamo.reset()
    torch.manual_seed(0)
    made = InflatedResNet(ImageConfig((1, 1, 1, 1), (4, 4, 8, 8), stem_width=4), num_channels=1, embedding_dim=8)
    return made.to(torch.float64, memory_format=torch.channels_last_3d).train()


def kept_bytes(tower: nn.Module, volume: torch.Tensor) -> tuple[int, list[torch.Tensor]]:
    """Bytes kept for the backward pass beside the weights, and the gradients."""
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in tower.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = tower(volume)
    features.square().sum().backward()
    return sum(kept.values()), [parameter.grad for parameter in tower.parameters() if parameter.grad is not None]


def test_a_budget_keeps_less_and_changes_no_gradient(tower):
    volume = torch.rand(SHAPE, dtype=torch.float64).contiguous(memory_format=torch.channels_last_3d)
    found = {}
    for budget in (1.0, 0.4):
        torch._dynamo.reset()
        compiled = copy.deepcopy(tower)
        # This backend cuts forward from backward as Inductor does, and runs the operations eagerly.
        compiled.compile(dynamic=False, backend=budgeted_backend(budget, "aot_eager_decomp_partition"))
        found[budget] = kept_bytes(compiled, volume)
    _, eager = kept_bytes(tower, volume)
    (all_bytes, plain), (few_bytes, budgeted) = found[1.0], found[0.4]
    assert few_bytes < 0.8 * all_bytes
    for ours, again, theirs in zip(plain, budgeted, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(again, theirs, rtol=1e-9, atol=1e-9)
