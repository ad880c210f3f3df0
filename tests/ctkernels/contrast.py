"""Batches, options and tolerances that the tests of the contrastive operations share."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ctkernels.pairing import DIRECTIONS, REDUCTIONS, Pairing, SigmoidTerm

SIZES = (1, 2, 3, 17, 64, 65, 129)
# Relative to the largest entry, against the float64 reference on the very same values.
LOSS_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-6}
GRADIENT_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-3}


def pairs(batch: int, *, seed: int = 0, dim: int = 48, scale: float = 1.0, dtype=torch.float64) -> list[torch.Tensor]:
    """Correlated features, so that the positive is the row's maximum in most rows and not in all."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    image = 3 * (shared + torch.randn(batch, dim, generator=generator, dtype=torch.float64))
    text = 0.2 * (shared + torch.randn(batch, dim, generator=generator, dtype=torch.float64))
    log_scale = torch.tensor(scale, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    inputs = [image.to(dtype), text.to(dtype), log_scale]
    return [tensor.requires_grad_() for tensor in inputs]


def pairings(batch: int, *, seed: int = 0) -> Iterator[Pairing]:
    """Every direction x every set of masks x every kind of sigmoid term: 3 x 8 x 7."""
    rng = torch.Generator().manual_seed(seed)
    positive_id = torch.randint(-1, max(2, batch // 3), (batch,), generator=rng)
    ignore_id = torch.randint(-1, max(2, batch // 2), (batch,), generator=rng, dtype=torch.int32)
    is_active = torch.rand(batch, generator=rng) < 0.7
    is_normal = torch.rand(batch, generator=rng) < 0.4
    scale, bias = torch.tensor(1.2, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    terms = [None]
    terms += [
        SigmoidTerm(scale, bias, is_normal, 0.6, reduction, ignores)
        for reduction, ignores in itertools.product(REDUCTIONS, (False, True))
    ]
    masks = [dict(zip(("positive_id", "ignore_id", "is_active"), (positive_id, ignore_id, is_active), strict=True))]
    chosen = [
        {name: column for name, column in masks[0].items() if keep[name]}
        for keep in (dict(zip(masks[0], flags, strict=True)) for flags in itertools.product((False, True), repeat=3))
    ]
    for direction, columns, term in itertools.product(DIRECTIONS, chosen, terms):
        yield Pairing(**columns, direction=direction, weight=0.8, sigmoid=term)


def with_kind(pairing: Pairing, dtype: torch.dtype) -> Pairing:
    """The same pairing whose sigmoid scalars are leaves of a type."""
    if pairing.sigmoid is None:
        return pairing
    term = pairing.sigmoid
    scale, bias = (scalar.detach().to(dtype).requires_grad_() for scalar in (term.log_scale, term.bias))
    return replace(pairing, sigmoid=replace(term, log_scale=scale, bias=bias))


def options(pairing: Pairing) -> dict:
    """The keyword arguments of `infonce`."""
    return {name: getattr(pairing, name) for name in pairing.__dataclass_fields__}


def leaves(inputs: Sequence[torch.Tensor], pairing: Pairing) -> list[torch.Tensor]:
    """Everything that can learn."""
    term = pairing.sigmoid
    return [*inputs] if term is None else [*inputs, term.log_scale, term.bias]


def gradients(function: Callable, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    loss = function(*inputs)
    return loss.detach(), torch.autograd.grad(3.0 * loss, inputs)


def worst(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((ours.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def relative(ours: torch.Tensor, wanted: torch.Tensor, floor: float) -> float:
    """Largest error over the largest entry wanted, the latter at least `floor`; NaN never passes a comparison."""
    return float((ours.double() - wanted).abs().max() / wanted.abs().max().clamp_min(floor))
