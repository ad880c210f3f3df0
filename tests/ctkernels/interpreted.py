"""Run in a process of its own with TRITON_INTERPRET=1: the Triton kernels against the closed form in float64.

`python -m tests.ctkernels.interpreted PART` prints one JSON line of the largest relative errors; triton decides at
import whether to interpret.
"""

import json
import sys
from dataclasses import replace

import torch

from ctkernels.infonce_closed import Gradients, closed_gradients
from ctkernels.infonce_tiled import infonce_tiled
from ctkernels.infonce_triton import infonce_small
from ctkernels.pairing import Pairing
from ctkernels.queue_closed import queue_gradients
from ctkernels.queue_triton import queue_launch
from tests.ctkernels.contrast import pairings, pairs, relative
from tests.ctkernels.test_queue import drawn


def errors_of(made: Gradients, wanted: Gradients) -> dict[str, float]:
    """The scalars' gradients are sums of signed terms: relative to 0.05 at least."""
    return {
        "loss": relative(made.loss, wanted.loss, 1e-3),
        "features": max(
            [relative(a, b, 1e-4) for a, b in zip(made[1:3], wanted[1:3], strict=True) if b.numel()], default=0.0
        ),
        "scalars": max(relative(a, b, 0.05) for a, b in zip(made[3:], wanted[3:], strict=True)),
    }


def in_double(pairing: Pairing) -> Pairing:
    term = pairing.sigmoid
    if term is None:
        return pairing
    return replace(pairing, sigmoid=replace(term, log_scale=term.log_scale.double(), bias=term.bias.double()))


def compare(launch, image, text, scale, pairing, rows, worst) -> None:
    # The interpreter's bfloat16 products are wrong, so values are bfloat16 and products float32.
    made = launch(image, text, scale, pairing, rows, is_upcast=True)
    wanted = closed_gradients(image.double(), text.double(), scale.double(), in_double(pairing), rows)
    for name, error in errors_of(made, wanted).items():
        worst[name] = max(worst.get(name, 0.0), error) if error == error else float("nan")


def small() -> dict[str, float]:
    worst: dict[str, float] = {}
    kinds = (48, 1.0, torch.float32), (130, 2.6593, torch.bfloat16)
    for number, batch in enumerate((1, 2, 3, 33, 64)):
        dim, scale, dtype = kinds[number % 2]
        image, text, log_scale = (x.detach() for x in pairs(batch, dim=dim, scale=scale, dtype=dtype))
        compare(infonce_small, image, text, log_scale, Pairing(), (0, batch), worst)
    # 3 directions x 8 sets of masks x 7 terms, in steps that meet each of them: 16, 6 and 3 of 168.
    for batch, step in ((17, 11), (3, 31), (1, 67)):
        for number, pairing in enumerate(pairings(batch, seed=batch)):
            if number % step != batch % step:
                continue
            image, text, log_scale = (x.detach() for x in pairs(batch, dim=32, scale=2.0, dtype=torch.float32))
            rows = (0, batch) if number % 3 else (batch // 3, batch)
            compare(infonce_small, image, text, log_scale, pairing, rows, worst)
    return worst


def tiled() -> dict[str, float]:
    worst: dict[str, float] = {}
    for batch, dim, dtype in ((1, 32, torch.float32), (65, 130, torch.bfloat16), (97, 32, torch.float32)):
        image, text, log_scale = (x.detach() for x in pairs(batch, dim=dim, scale=2.0, dtype=dtype))
        for rows in ((0, batch), (0, 0), (batch // 3, batch))[: 3 if batch == 65 else 1]:
            compare(infonce_tiled, image, text, log_scale, Pairing(), rows, worst)
    for number, pairing in enumerate(pairings(65, seed=1)):
        if number % 67 == 20:
            image, text, log_scale = (x.detach() for x in pairs(65, dim=32, scale=2.0, dtype=torch.float32))
            compare(infonce_tiled, image, text, log_scale, pairing, (17, 65), worst)
    return worst


def queue() -> dict[str, float]:
    worst: dict[str, float] = {}
    for batch, slots, dim, dtype in (
        (1, 1, 16, torch.float32),
        (2, 70, 24, torch.bfloat16),
        (33, 300, 64, torch.float32),
    ):
        drawn_ones = [x.detach() for x in drawn(batch, slots, dim=dim, dtype=dtype)]
        made = queue_launch(*drawn_ones, is_upcast=True)
        wanted = queue_gradients(*[x.double() if x.is_floating_point() else x for x in drawn_ones])
        errors = {"loss": relative(made.scalars[0], wanted.scalars[0], 1e-3)}
        errors |= {"features": relative(made.query, wanted.query, 1e-4)}
        errors |= {"scalars": relative(made.scalars[1], wanted.scalars[1], 0.05)}
        worst = {name: max(worst.get(name, 0.0), error) for name, error in errors.items()}
        if any(error != error for error in errors.values()):
            raise AssertionError(errors)
    return worst


PARTS = {"small": small, "tiled": tiled, "queue": queue}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]]()))
