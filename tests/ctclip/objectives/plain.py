"""The objectives' formulas once more, as loops over pairs of rows in float64: the slow twins that autograd
differentiates. Nothing of ctclip.objectives but its dataclasses is used."""

import torch
from torch import Tensor

from ctclip.models.features import Features
from ctclip.objectives.facts import Facts, Momentum
from ctclip.objectives.parameters import (
    CagclParameters,
    ClipParameters,
    FvlmParameters,
    GlobalParameters,
    LocalParameters,
    MococlipParameters,
    OffclipParameters,
)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.norm() * b.norm())


def rows_of(facts: Facts) -> list[int]:
    valid = facts.valid if facts.valid is not None else torch.ones(len(facts.study), dtype=torch.bool)
    return [row for row in range(len(valid)) if valid[row]]


def zero(features: Features) -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def mean_cross_entropy(rows: list[int], logit, positives, candidates) -> Tensor:
    """1/2 mean over rows and columns of log-sum over candidates less the mean over positives."""
    losses = []
    for i in rows:
        for swap in (False, True):
            z = (lambda j, i=i: logit(j, i)) if swap else (lambda j, i=i: logit(i, j))
            total = torch.stack([z(j) for j in rows if candidates(i, j)]).logsumexp(0)
            aims = [z(j) for j in rows if positives(i, j)]
            losses.append(total - torch.stack(aims).mean())
    return torch.stack(losses).mean()


def plain_clip(features: Features, facts: Facts, parameters: ClipParameters) -> Tensor:
    rows = rows_of(facts)
    if not rows:
        return zero(features)
    scale = features.logit_scale.exp()
    return parameters.weight * mean_cross_entropy(
        rows,
        lambda i, j: scale * cosine(features.image[i], features.text[j]),
        lambda i, j: i == j,
        lambda i, j: True,
    )


def plain_offclip(features: Features, facts: Facts, parameters: OffclipParameters) -> Tensor:
    rows = [r for r in rows_of(facts) if parameters.unknown == "abnormal" or facts.abnormal[r] >= 0]
    groups = sorted({int(facts.anatomy[r]) for r in rows})
    total = zero(features)
    for group in groups:
        members = [r for r in rows if facts.anatomy[r] == group]
        off, abnormal = _off_group(features, facts, parameters, members)
        total = total + parameters.weight_off_diagonal * off + parameters.weight_abnormal * abnormal
    return total / max(1, len(groups))


def _off_group(features, facts, parameters, members) -> tuple[Tensor, Tensor]:
    assert facts.scalars.off_scale is not None
    scale, bias = facts.scalars.off_scale.exp(), facts.scalars.off_bias
    normal = {r: bool(facts.abnormal[r] == 0) for r in members}
    cells: dict[bool, list[Tensor]] = {True: [], False: []}
    for i in members:
        for j in members:
            y = i == j or (normal[i] and normal[j])
            if not y and not normal[i] and not normal[j] and parameters.abnormal_pairs == "ignore":
                continue
            logit = scale * cosine(features.image[i], features.text[j]) + bias
            cells[y].append(-torch.log(torch.sigmoid(logit if y else -logit)))
    every = torch.stack(cells[True] + cells[False])
    if parameters.reduction == "mean":
        off = every.mean()
    elif parameters.reduction == "siglip":
        off = every.sum() / len(members)
    else:
        off = torch.stack([torch.stack(part).mean() / 2 for part in cells.values() if part]).sum()
    sick = [r for r in members if not normal[r]]
    if not sick:
        return off, zero(features)
    tau = features.logit_scale.exp()
    abnormal = mean_cross_entropy(
        sick,
        lambda i, j: tau * cosine(features.image[i], features.text[j]),
        lambda i, j: i == j,
        lambda i, j: True,
    )
    return off, abnormal


def plain_mococlip(features: Features, facts: Facts, parameters: MococlipParameters) -> Tensor:
    total = zero(features)
    if parameters.mode in ("itc", "moco+itc"):
        total = total + parameters.weight_itc * plain_clip(features, facts, ClipParameters())
    if parameters.mode in ("moco", "moco+itc"):
        assert facts.momentum is not None
        total = total + parameters.weight_moco * _plain_moco(facts.momentum, facts, parameters.image)
    if parameters.mode == "cross_modal":
        assert facts.momentum is not None
        assert facts.text_momentum is not None
        there = _plain_against(features.image, facts.text_momentum, features, facts, parameters.image.exclude)
        back = _plain_against(features.text, facts.momentum, features, facts, parameters.image.exclude)
        total = total + parameters.weight_moco * (there + back) / 2
    return total


def _is_own(facts: Facts, row: int, study: int, patient: int, exclude: str) -> bool:
    return int(facts.study[row]) == study if exclude == "study" else int(facts.patient[row]) == patient


def _older(momentum: Momentum, facts: Facts, row: int, exclude: str) -> list[Tensor]:
    old = momentum.negatives
    return [
        old.key[r]
        for r in range(len(old.study))
        if old.study[r] != -1 and not _is_own(facts, row, int(old.study[r]), int(old.patient[r]), exclude)
    ]


def _plain_moco(momentum: Momentum, facts: Facts, parameters) -> Tensor:
    losses = []
    for i in rows_of(facts):
        others = _older(momentum, facts, i, parameters.exclude)
        logits = [cosine(momentum.query[i], u) / parameters.temperature for u in (momentum.key[i], *others)]
        losses.append(-torch.log_softmax(torch.stack(logits), 0)[0])
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=torch.float64)


def _plain_against(queries, other: Momentum, features: Features, facts: Facts, exclude: str) -> Tensor:
    losses = []
    rows = rows_of(facts)
    for i in rows:
        batch = [
            other.key[j]
            for j in rows
            if j != i and not _is_own(facts, i, int(facts.study[j]), int(facts.patient[j]), exclude)
        ]
        keys = (other.key[i], *batch, *_older(other, facts, i, exclude))
        logits = [features.logit_scale.exp() * cosine(queries[i], key) for key in keys]
        losses.append(-torch.log_softmax(torch.stack(logits), 0)[0])
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=torch.float64)


def is_alike(facts: Facts, parameters: LocalParameters, i: int, j: int) -> bool:
    if facts.anatomy[i] != facts.anatomy[j]:
        return False
    normal = parameters.normal_positives and facts.abnormal[i] == 0 and facts.abnormal[j] == 0
    return i == j or bool(normal) or (parameters.text_positives and bool(facts.text[i] == facts.text[j]))


def plain_local(features: Features, facts: Facts, parameters: LocalParameters) -> Tensor:
    used = []
    for group in sorted(set(facts.anatomy.tolist())):
        rows = [r for r in rows_of(facts) if facts.anatomy[r] == group]
        if parameters.needs_abnormal and not any(facts.abnormal[r] != 0 for r in rows):
            continue
        if all(is_alike(facts, parameters, i, j) for i in rows for j in rows):
            continue
        used.append(_plain_local_group(features, facts, parameters, rows))
    if not used:
        return zero(features)
    return torch.stack(used).sum() if parameters.reduction == "sum" else torch.stack(used).mean()


def _plain_local_group(features: Features, facts: Facts, parameters: LocalParameters, rows: list[int]) -> Tensor:
    def grid(source: Features) -> Tensor:
        cells = [[cosine(source.image[i], source.text[j]) for j in rows] for i in rows]
        return source.logit_scale.exp() * torch.stack([torch.stack(row) for row in cells])

    target = torch.tensor([[float(is_alike(facts, parameters, i, j)) for j in rows] for i in rows]).double()
    target = target / target.sum(1, keepdim=True)
    by_row = by_column = target
    if parameters.soft_alpha:
        assert facts.teacher is not None
        other, alpha = grid(facts.teacher), parameters.soft_alpha
        by_row = (1 - alpha) * target + alpha * other.softmax(1)
        by_column = (1 - alpha) * target + alpha * other.T.softmax(1)
    logits = grid(features)
    there = -(by_row * logits.log_softmax(1)).sum(1).mean()
    return (there - (by_column * logits.T.log_softmax(1)).sum(1).mean()) / 2


def plain_fvlm(features: Features, facts: Facts, parameters: FvlmParameters) -> Tensor:
    return plain_local(features, facts, parameters.local)


def across_scale(features: Features, facts: Facts, parameters: GlobalParameters) -> Tensor:
    if not parameters.own_temperature:
        return features.logit_scale.exp()
    assert facts.scalars.across_scale is not None
    return facts.scalars.across_scale.exp()


def plain_global(features: Features, facts: Facts, parameters: GlobalParameters) -> Tensor:
    rows, rule = rows_of(facts), LocalParameters()
    scale = across_scale(features, facts, parameters)

    def positive(i: int, j: int) -> bool:
        if parameters.form == "category":
            return bool(facts.anatomy[i] == facts.anatomy[j])
        return is_alike(facts, rule, i, j)

    def candidate(i: int, j: int) -> bool:
        if positive(i, j):
            return True
        is_same = bool(facts.anatomy[i] == facts.anatomy[j])
        if is_same and parameters.form == "cross_only":
            return False
        return is_same or not (parameters.mask_equal_text and facts.text[i] == facts.text[j])

    if not any(candidate(i, j) and not positive(i, j) for i in rows for j in rows):
        return zero(features)
    return mean_cross_entropy(
        rows, lambda i, j: scale * cosine(features.image[i], features.text[j]), positive, candidate
    )


def plain_cagcl(features: Features, facts: Facts, parameters: CagclParameters) -> Tensor:
    across = parameters.across
    total = plain_local(features, facts, parameters.local) + across.weight * plain_global(features, facts, across)
    if across.weight_text:
        total = total + across.weight_text * _plain_texts(features, facts, across)
    if parameters.weight_volume:
        assert facts.whole is not None
        ids = torch.arange(len(facts.whole.image))
        every = Facts(ids, ids, ids, ids, ids)
        total = total + parameters.weight_volume * plain_clip(facts.whole, every, ClipParameters())
    return total


def _plain_texts(features: Features, facts: Facts, parameters: GlobalParameters) -> Tensor:
    scale = across_scale(features, facts, parameters)
    rows, losses = rows_of(facts), []
    for i in rows:
        others = [j for j in rows if j != i]
        friends = [place for place, j in enumerate(others) if facts.anatomy[j] == facts.anatomy[i]]
        if friends:
            logits = torch.stack([scale * cosine(features.text[i], features.text[j]) for j in others])
            losses.append(-logits.log_softmax(0)[friends].mean())
    return torch.stack(losses).mean() if losses else zero(features)
