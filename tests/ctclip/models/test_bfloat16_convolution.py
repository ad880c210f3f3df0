"""bfloat16 convolutions on the CPU: gradients like float32's, thin volumes included."""

import pytest
import torch
from torch import nn

from ctclip.models.inflated_resnet import convolve

THIN = [(2, 1, 2), (2, 2, 2), (2, 3, 4), (3, 1, 2), (4, 1, 1)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [*THIN, (3, 3, 3), (3, 4, 4), (5, 8, 8)])
def test_the_gradients_are_those_of_float32_but_for_rounding(shape, stride):
    torch.manual_seed(0)
    conv = nn.Conv3d(16, 16, 3, stride, 1, bias=False).to(memory_format=torch.channels_last_3d)
    volume = torch.randn(8, 16, *shape).contiguous(memory_format=torch.channels_last_3d)
    for _ in range(3):  # what stands in memory differs from time to time
        found = []
        for is_half in (False, True):
            conv.weight.grad, hidden = None, volume.clone().requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_half):
                convolved = convolve(conv, hidden, conv.weight)
            weight = torch.cos(torch.arange(convolved.numel())).view_as(convolved)
            (convolved.float() * weight).sum().backward()
            found.append((conv.weight.grad, hidden.grad))
        for exact, rounded in zip(*found, strict=True):
            assert (exact - rounded).norm() < 0.02 * exact.norm()


def test_volumes_no_thinner_than_the_kernel_stay_in_bfloat16():
    conv = nn.Conv3d(16, 16, 3, 1, 1, bias=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolve(conv, torch.randn(2, 16, 3, 3, 3), conv.weight).dtype == torch.bfloat16
        assert convolve(conv, torch.randn(2, 16, 2, 3, 3), conv.weight).dtype == torch.float32
