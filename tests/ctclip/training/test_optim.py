"""The learning rate as a function of the step, and which parameters decay."""

from itertools import pairwise

import pytest
import torch

from ctclip.config import OptimConfig
from ctclip.training.optim import learning_rate, make_optimizer

CONFIG = OptimConfig(learning_rate=2.0, warmup_steps=4, final_share=0.1)


def test_the_rate_rises_linearly_then_falls_to_its_final_share():
    rates = [learning_rate(step, steps=24, config=CONFIG) for step in range(24)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert all(later < earlier for earlier, later in pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(0.2)
    assert learning_rate(14, steps=25, config=CONFIG) == pytest.approx(1.1)  # half-way: the mean of both ends


@pytest.mark.parametrize("steps", [1, 2, 4, 5])
def test_a_run_shorter_than_its_warm_up_has_positive_rates(steps):
    assert all(learning_rate(step, steps=steps, config=CONFIG) > 0 for step in range(steps))


def test_biases_norms_and_scalars_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    model.register_parameter("logit_scale", torch.nn.Parameter(torch.tensor(1.0)))
    model[0].weight.requires_grad_(True)
    frozen = torch.nn.Linear(3, 3)
    frozen.requires_grad_(False)
    model.append(frozen)
    decaying, still = make_optimizer(model, OptimConfig(weight_decay=0.3)).param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(3, 3)]
    assert decaying["weight_decay"] == 0.3
    assert len(still["params"]) == 4
    assert still["weight_decay"] == 0.0


def test_fused_steps_equal_the_plain_ones_on_channels_last_weights():
    def weights(fused: bool) -> torch.Tensor:
        torch.manual_seed(0)
        conv = torch.nn.Conv3d(3, 4, 3).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        optimizer = torch.optim.AdamW(conv.parameters(), lr=0.1, fused=fused, foreach=False)
        for step in range(4):
            volume = torch.rand(2, 3, 5, 5, 5, generator=torch.Generator().manual_seed(step))
            conv(volume).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return conv.weight.detach()

    torch.testing.assert_close(weights(True), weights(False), rtol=1e-5, atol=1e-6)
