"""What the kernels compute on a GPU, against float64 on the same values: errors, repeated bits, captured graphs.

Outputs are poisoned: torch fills fresh memory with NaN here, so an element that no program wrote is seen.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.device_clock import captured
from benchmarks.gpu_case import Case, Ledger, device
from benchmarks.rows import row_of
from ctkernels import bn_act, infonce, infonce_queue
from ctkernels.bn_act_reference import bn_act_reference
from ctkernels.infonce_closed import closed_gradients
from ctkernels.infonce_library import compute_gradients
from ctkernels.pairing import DIRECTIONS, REDUCTIONS, Pairing, SigmoidTerm
from ctkernels.queue_closed import queue_gradients
from ctkernels.queue_library import compute_queue

WORK = "kernel correctness"
SIZES = (1, 2, 3, 17, 64, 65, 129, 1000)
WHOLE_SIZES = (17, 129)  # of the kernel for few pairs, and of the one for many
KINDS = (torch.float32, torch.bfloat16)


def correctness(ledger: Ledger) -> None:
    """Rows of the largest relative error of each kernel; a NaN stands as it is. What has a row is not done again."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS, in the float64 twins, refuses
    torch.use_deterministic_algorithms(True, warn_only=True)  # fresh memory becomes NaN
    checks: dict[tuple[str, str], Callable[[], list[float]]] = {}
    for kind in KINDS:
        config = f"{str(kind).removeprefix('torch.')}, against float64"
        for name, errors in (("infonce", _infonce), ("infonce_queue", _queue), ("bn_act", _norm)):
            checks[name, config] = lambda errors=errors, kind=kind: list(errors(kind))
    checks["infonce", "elements that differ: two runs"] = lambda: [float(_repeats())]
    checks["infonce", "elements that differ: captured graph"] = lambda: [float(_replays())]
    try:
        for (name, config), errors in checks.items():
            if not ledger.has(Case(WORK, f"ctkernels.{name}", config, make=lambda: print)):
                _add(ledger, name, config, errors())
    finally:
        torch.use_deterministic_algorithms(False)


def _add(ledger: Ledger, name: str, config: str, errors: list[float]) -> None:
    worst = max((error if error == error else float("inf") for error in errors), default=float("inf"))
    row = row_of(WORK, f"ctkernels.{name}", config, "largest relative error", "1", [worst])
    ledger.add_row(replace(row, n=len(errors)))


def _tried(batch: int) -> list[Pairing]:
    """What is checked at a size: every pair of two options at one size of each kernel, a few at the others.

    All 42 at all sizes are some 560 kernels to compile, a quarter of an hour on one core; these are under 200.
    """
    every = list(pairings(batch, batch))
    if batch in WHOLE_SIZES:  # masks on and off in turn: each direction and each sigmoid term meets both
        return [pairing for number, pairing in enumerate(every) if (number // 7) % 2 == (number // 14 + number % 7) % 2]
    return every[batch % 11 :: 11]


def pairings(batch: int, seed: int) -> Iterator[Pairing]:
    """Every direction x masks on and off x every sigmoid term: 3 x 2 x 7."""
    rng = torch.Generator().manual_seed(seed)
    groups, patients = (torch.randint(-1, max(2, batch // 2), (batch,), generator=rng).to(device()) for _ in range(2))
    active, normal = ((torch.rand(batch, generator=rng) < 0.6).to(device()) for _ in range(2))
    scalars = torch.tensor(1.2, device=device()), torch.tensor(-0.7, device=device())
    terms = [SigmoidTerm(*scalars, normal, 0.6, *kind) for kind in itertools.product(REDUCTIONS, (False, True))]
    for direction, has_masks, term in itertools.product(DIRECTIONS, (False, True), (None, *terms)):
        masks = (groups, patients, active) if has_masks else (None, None, None)
        yield Pairing(*masks, direction, 0.8, term)


def relative(ours: Tensor, wanted: Tensor, floor: float) -> float:
    if ours.numel() == 0:
        return 0.0
    return float((ours.double() - wanted.double()).abs().max() / wanted.double().abs().max().clamp_min(floor))


def _features(batch: int, dim: int, kind: torch.dtype, seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shared = torch.randn(batch, dim, generator=rng)
    return [(shared + torch.randn(batch, dim, generator=rng)).to(device(), kind) for _ in range(2)]


def _infonce(kind: torch.dtype) -> Iterator[float]:
    scale = torch.tensor(2.6593, device=device())
    for batch in SIZES:
        for number, pairing in enumerate(_tried(batch)):
            image, text = _features(batch, 512 if number % 2 else 130, kind, number)
            rows = (0, batch) if number % 3 else (batch // 3, batch)
            made = compute_gradients(image, text, scale, pairing, rows)
            term = pairing.sigmoid
            if term is not None:
                term = replace(term, log_scale=term.log_scale.double(), bias=term.bias.double())
            oracle = replace(pairing, sigmoid=term)
            wanted = closed_gradients(image.double(), text.double(), scale.double(), oracle, rows)
            yield relative(made.loss, wanted.loss, 1e-2)
            yield from (relative(a, b, 1e-3) for a, b in zip(made[1:3], wanted[1:3], strict=True))
            yield from (relative(a, b, 0.05) for a, b in zip(made[3:], wanted[3:], strict=True))


def _queue(kind: torch.dtype) -> Iterator[float]:
    for batch, slots, dim in ((1, 1, 16), (3, 65, 128), (33, 5000, 128), (32, 4096, 512)):
        query, key = _features(batch, dim, kind, slots)
        queue = nn.functional.normalize(torch.randn(slots, dim, device=device()), dim=1).to(kind)
        scale = torch.tensor(2.6593, device=device())
        ids = torch.arange(batch, device=device()), torch.arange(slots, device=device()) - slots // 4
        made = compute_queue(query, key, queue, scale, *ids)
        wanted = queue_gradients(query.double(), key.double(), queue.double(), scale.double(), *ids)
        yield relative(made.scalars, wanted.scalars, 0.05)
        yield relative(made.query, wanted.query, 1e-3)


def _norm(kind: torch.dtype) -> Iterator[float]:
    """Errors over norms: near 0 ReLU may fall either way, and one element of a gradient with it."""
    layout = {"memory_format": torch.channels_last_3d}
    for shape in ((2, 3, 2, 3, 5), (2, 64, 8, 9, 10), (1, 1024, 5, 7, 7)):
        x, residual, slope = (3 + torch.randn(shape, device=device()) for _ in range(3))
        x, residual, slope = (tensor.to(kind).contiguous(**layout) for tensor in (x, residual, slope))
        norm, twin = nn.BatchNorm3d(shape[1]).to(device()), nn.BatchNorm3d(shape[1]).to(device()).double()
        results = []
        for call, module, cast in ((bn_act, norm, kind), (bn_act_reference, twin, torch.float64)):
            inputs = [x.to(cast).requires_grad_(), residual.to(cast).requires_grad_()]
            assert module.running_mean is not None
            assert module.running_var is not None
            statistics = (module.running_mean, module.running_var)
            y = call(inputs[0], module.weight, module.bias, *statistics, residual=inputs[1])
            learned = (*inputs, module.weight, module.bias)
            results.append([y.detach(), *torch.autograd.grad(y, learned, slope.to(cast)), *statistics])
        yield from (float((a.double() - b).norm() / b.norm()) for a, b in zip(*results, strict=True))


def _step(batch: int) -> Callable[[], list[Tensor]]:
    image, text = (x.requires_grad_() for x in _features(batch, 512, torch.bfloat16, 7))
    scale = torch.tensor(2.6593, device=device(), requires_grad=True)
    query_id, queue_id = torch.arange(batch, device=device()), torch.arange(999, device=device())
    queue = torch.nn.functional.normalize(torch.randn(999, 512, device=device()), dim=1).bfloat16()

    def step() -> list[Tensor]:
        loss = infonce(image, text, scale)
        loss = loss + infonce_queue(image, text, queue, scale, query_id=query_id, queue_id=queue_id)
        return [loss, *torch.autograd.grad(loss, (image, text, scale))]

    return step


def _differing(left: list[Tensor], right: list[Tensor]) -> int:
    return sum(int((~torch.eq(a, b)).sum()) for a, b in zip(left, right, strict=True))


def _repeats() -> int:
    return sum(_differing(step(), step()) for step in (_step(18), _step(129)))


def _replays() -> int:
    if device().type == "cpu":
        return 0
    total = 0
    for step in (_step(18), _step(129)):
        eager = step()
        kept: list[Tensor] = []

        def work(step=step, kept=kept) -> None:
            kept[:] = step()

        replay = captured(work)
        for tensor in kept:
            tensor.detach().fill_(float("nan"))
        replay()
        torch.cuda.synchronize()
        total += _differing(eager, kept)
    return total
