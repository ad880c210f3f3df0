"""Grids: which pairs of rows belong together, as (N, N) bool, and how much a row weighs. Facts enter; no feature does.

The rules of positives are those of fVLM's released code (blip_pretrain.py): in one anatomy, two normal units are
positives, and two units whose texts are equal. Everything is dense, so that nothing waits for a device to count.
"""

import torch
from torch import Tensor

from ctclip.objectives.facts import Facts


def own_cells(facts: Facts) -> Tensor:
    """The diagonal, without rows that are not valid."""
    return torch.diag(facts.valid_rows)


def valid_cells(facts: Facts) -> Tensor:
    """Pairs of valid rows."""
    valid = facts.valid_rows
    return valid[:, None] & valid


def same_anatomy(facts: Facts) -> Tensor:
    """Pairs of valid rows of one anatomy."""
    return valid_cells(facts) & (facts.anatomy[:, None] == facts.anatomy)


def equal_text(facts: Facts) -> Tensor:
    """Pairs of valid rows with the same known text, whatever their anatomies."""
    return valid_cells(facts) & (facts.text[:, None] == facts.text) & (facts.text >= 0)


def both_normal(facts: Facts) -> Tensor:
    """Pairs of valid rows that are known to be normal, whatever their anatomies."""
    normal = facts.valid_rows & (facts.abnormal == 0)
    return normal[:, None] & normal


def same_finding(facts: Facts, *, normal_positives: bool = True, text_positives: bool = True) -> Tensor:
    """Positives within anatomies: the own pair, normal with normal, and equal texts."""
    alike = own_cells(facts)
    if normal_positives:
        alike = alike | both_normal(facts)
    if text_positives:
        alike = alike | equal_text(facts)
    return alike & same_anatomy(facts)


def group_total(values_NN: Tensor, group_NN: Tensor) -> Tensor:
    """(N,): for each row, the sum of the cells of its whole group; cells outside the group must be 0."""
    return group_NN.to(values_NN.dtype) @ values_NN.sum(1)


def row_shares(rows_N: Tensor, group_NN: Tensor, kind: torch.dtype) -> Tensor:
    """(N,): 1 / how many of its group's rows are in `rows_N`, for those that are; they sum to 1 in every group."""
    rows = rows_N.to(kind)
    return rows / (group_NN.to(kind) @ rows).clamp_min(1)


def num_groups(group_NN: Tensor, kind: torch.dtype) -> Tensor:
    """Scalar: how many groups have a valid row."""
    return row_shares(group_NN.diagonal(), group_NN, kind).sum().round()


def has_negative(candidate_NN: Tensor, positive_NN: Tensor, group_NN: Tensor) -> Tensor:
    """(N,) bool: whether any candidate in the row's group is not a positive. Where none is, there is nothing to learn
    but that all are alike, and the term is left out."""
    negatives = (candidate_NN & ~positive_NN).to(torch.float32)
    return group_total(negatives, group_NN) > 0
