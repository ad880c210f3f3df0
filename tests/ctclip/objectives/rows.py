"""Made-up rows for objectives: features and facts of a batch of studies, or of studies and anatomies."""

from dataclasses import replace

import torch
from torch import Tensor

from ctclip.models.features import Features
from ctclip.objectives.facts import Facts, Momentum, Negatives, Scalars

DIM, QUEUE = 16, 12


def random_features(num: int, *, seed: int = 0, dim: int = DIM, kind: torch.dtype = torch.float64) -> Features:
    """Features that want gradients, with a logit scale of 1.3."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(num, dim, generator=generator, dtype=torch.float64).to(kind) for _ in range(2))
    return Features(*(part.requires_grad_() for part in (image, text, torch.tensor(1.3, dtype=kind))))


def features_of_logits(logits: Tensor, scale: float) -> Features:
    """Features whose scaled cosines are exactly the given (N, N) logits; |logits| rows must be shorter than `scale`."""
    num = len(logits)
    rows = logits / scale
    rest = (1 - (rows**2).sum(1)).sqrt()
    image = torch.cat([rows, torch.diag(rest)], 1)
    text = torch.cat([torch.eye(num, dtype=rows.dtype), torch.zeros(num, num, dtype=rows.dtype)], 1)
    return Features(image, text, torch.tensor(scale, dtype=rows.dtype).log())


def made_facts(num: int, *, seed: int = 0, anatomies: int = 1, valid: bool = False, with_queue: bool = True) -> Facts:
    """`num` rows: mixed normality, some equal texts; row i is anatomy i % anatomies of study i // anatomies."""
    generator = torch.Generator().manual_seed(seed)
    study = torch.arange(num) // anatomies
    abnormal = torch.randint(-1, 2, (num,), generator=generator)
    text = torch.randint(0, max(2, num // 2), (num,), generator=generator) + 100
    facts = Facts(study, study // 2, abnormal, text, torch.arange(num) % anatomies, scalars=made_scalars())
    if valid:
        facts = replace(facts, valid=torch.rand(num, generator=generator) < 0.7)
    if with_queue:
        facts = replace(
            facts,
            momentum=made_momentum(num, seed=seed + 1),
            text_momentum=made_momentum(num, seed=seed + 2),
            teacher=Features(
                *(part if part is None else part.detach() for part in random_features(num, seed=seed + 3))
            ),
            whole=random_features(max(1, num // anatomies), seed=seed + 4),
        )
    return facts


def made_scalars() -> Scalars:
    return Scalars(*(torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (2.0, -1.5, 1.1)))


def made_momentum(num: int, *, seed: int) -> Momentum:
    """Keys and a queue of 12 slots, the last three empty, some of the batch's own studies."""
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(num, DIM, generator=generator, dtype=torch.float64) for _ in range(2))
    older = torch.randn(QUEUE, DIM, generator=generator, dtype=torch.float64)
    study = torch.tensor([0, 1, 50, 51, 52, 2, 53, 54, 3, -1, -1, -1])
    negatives = Negatives(torch.nn.functional.normalize(older, dim=1), study, torch.where(study < 0, -1, study // 2))
    return Momentum(query.requires_grad_(), key, negatives)


def learners(features: Features, facts: Facts) -> list[Tensor]:
    """Everything that an objective may send a gradient to."""
    scalars = facts.scalars
    found = [*features, scalars.off_scale, scalars.off_bias, scalars.across_scale]
    if facts.momentum is not None:
        found.append(facts.momentum.query)
    if facts.whole is not None:
        found.extend(facts.whole)
    return [part for part in found if part is not None]


def reordered(features: Features, facts: Facts, order: Tensor) -> tuple[Features, Facts]:
    """The same batch with its rows in another order."""
    row_names = ("study", "patient", "abnormal", "text", "anatomy")
    changes = {name: getattr(facts, name)[order] for name in row_names}
    if facts.valid is not None:
        changes["valid"] = facts.valid[order]
    for name in ("momentum", "text_momentum"):
        momentum = getattr(facts, name)
        if momentum is not None:
            changes[name] = replace(momentum, query=momentum.query[order], key=momentum.key[order])
    if facts.teacher is not None:
        changes["teacher"] = facts.teacher._replace(image=facts.teacher.image[order], text=facts.teacher.text[order])
    moved = features._replace(image=features.image[order], text=features.text[order])
    return moved, replace(facts, **changes)
