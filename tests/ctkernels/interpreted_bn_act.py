"""Run in a process of its own with TRITON_INTERPRET=1: the kernels of bn_act against autograd in float64.

Prints one JSON line of the largest relative errors.
"""

import json

import torch

from ctkernels.bn_act_reference import bn_act_reference
from ctkernels.bn_act_triton import launch_backward, launch_forward
from tests.ctkernels.contrast import relative

# Batch, channels, size, residual, ReLU.
CASES = (
    (2, 3, (2, 3, 5), False, True),
    (2, 3, (2, 3, 5), True, False),
    (1, 70, (3, 7, 7), True, True),
    (2, 64, (4, 5, 6), False, False),
)


def compare(shape, has_residual: bool, has_relu: bool) -> dict[str, float]:
    generator = torch.Generator().manual_seed(shape[1])
    layout = {"memory_format": torch.channels_last_3d}
    x, residual, d_y = ((3 + torch.randn(shape, generator=generator)).contiguous(**layout) for _ in range(3))
    weight, bias = torch.rand(shape[1], generator=generator) + 0.5, torch.randn(shape[1], generator=generator)
    running = [torch.zeros(shape[1]), torch.ones(shape[1])]
    given = residual if has_residual else None
    y, mean, inverse = launch_forward(x, given, weight, bias, *running, 0.1, 1e-5, has_relu)
    d_x, d_residual, sums = launch_backward(d_y, x, y, weight, mean, inverse, has_relu, has_residual)

    doubles = [tensor.double().requires_grad_() for tensor in (x, weight, bias, residual)]
    moved = [torch.zeros(shape[1]).double(), torch.ones(shape[1]).double()]
    wanted = bn_act_reference(*doubles[:3], *moved, residual=doubles[3] if has_residual else None, has_relu=has_relu)
    learned = doubles if has_residual else doubles[:3]
    right = torch.autograd.grad(wanted, learned, d_y.double())
    errors = {"y": relative(y, wanted.detach(), 1e-3), "d_x": relative(d_x, right[0], 1e-2)}
    errors |= {"d_weight": relative(sums[1], right[1], 1e-2), "d_bias": relative(sums[0], right[2], 1e-2)}
    if has_residual:
        errors["d_residual"] = relative(d_residual, right[3], 1e-2)
    errors["running"] = max(relative(a, b, 1e-3) for a, b in zip(running, moved, strict=True))
    return errors


def main() -> None:
    worst: dict[str, float] = {}
    for batch, channels, size, has_residual, has_relu in CASES:
        for name, error in compare((batch, channels, *size), has_residual, has_relu).items():
            worst[name] = max(worst.get(name, 0.0), error) if error == error else float("inf")
    print(json.dumps(worst))


if __name__ == "__main__":
    main()
