"""Facts: what an objective may know of a global batch besides its features.

A row is a text unit of a study with its image: one per study where the unit is a report or a section, one per study
and anatomy where the objective looks at anatomies apart. Row i of everything belongs together. The rows of all ranks
are gathered before an objective sees them; it knows nothing of ranks.

Axes: N rows, E joint dimension, M momentum dimension, K slots of a queue.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctclip.models.features import Features
from ctclip.training.distributed import World, gather_rows

EMPTY = -1  # id of a queue's slot that holds no key; hashes of ids and texts are never negative


@dataclass(frozen=True)
class Negatives:
    """Keys of past batches, as a feature queue gives them.

    Attributes:
        key: (K, M) unit vectors.
        study: (K,) int64 hash of the study each is of, EMPTY where the slot is empty.
        patient: (K,) int64 hash.
    """

    key: Tensor
    study: Tensor
    patient: Tensor


@dataclass(frozen=True)
class Momentum:
    """Queries of the trained encoder, keys of its momentum copy, and the queue as it was before these keys.

    Attributes:
        query: (N, M) with gradient, not normalised.
        key: (N, M), not normalised; no gradient flows into it.
        negatives: Older keys.
    """

    query: Tensor
    key: Tensor
    negatives: Negatives


@dataclass(frozen=True)
class Scalars:
    """Learned scalars that only some objectives have; None where the objective has none.

    Attributes:
        off_scale: Log of the factor of OFF-CLIP's off-diagonal logits.
        off_bias: Their bias.
        across_scale: Log of the factor of CA-GCL's global logits, where they have their own.
    """

    off_scale: Tensor | None = None
    off_bias: Tensor | None = None
    across_scale: Tensor | None = None


@dataclass(frozen=True)
class Facts:
    """Of N rows. All tensors are on the features' device.

    Attributes:
        study: (N,) int64 hash of the study id.
        patient: (N,) int64 hash of the patient id.
        abnormal: (N,) int64: 1 abnormal, 0 normal, -1 unknown, in the row's unit.
        text: (N,) int64 hash of the unit's original text; a negative number equals no other row's text.
        anatomy: (N,) int64 number of the row's anatomy; 0 for all where rows are studies.
        valid: (N,) bool: rows that count. None: all do, which spares work.
        scalars: Learned scalars.
        momentum: Of the image tower, for `mococlip`.
        text_momentum: Of the text tower, for the mode "cross_modal".
        teacher: Features of the momentum copy for the same rows, for soft targets.
        whole: Of whole volumes and whole reports, one row per study, for CA-GCL's term of that name.
    """

    study: Tensor
    patient: Tensor
    abnormal: Tensor
    text: Tensor
    anatomy: Tensor
    valid: Tensor | None = None
    scalars: Scalars = Scalars()
    momentum: Momentum | None = None
    text_momentum: Momentum | None = None
    teacher: Features | None = None
    whole: Features | None = None

    @property
    def valid_rows(self) -> Tensor:
        """(N,) bool."""
        return torch.ones_like(self.study, dtype=torch.bool) if self.valid is None else self.valid

    def only(self, rows: Tensor) -> "Facts":
        """The same facts with fewer valid rows: those that were and are in `rows` (N,) bool."""
        return replace(self, valid=self.valid_rows & rows)


def gather_facts(facts: Facts, world: World) -> Facts:
    """The ids, flags and `valid` of the global batch, in its order, on every rank.

    Features, momentum and teacher are gathered by `ctclip.training.distributed`; here they stay as they are.
    """
    if world.size == 1:
        return facts
    columns = [facts.study, facts.patient, facts.abnormal, facts.text, facts.anatomy, facts.valid_rows.long()]
    study, patient, abnormal, text, anatomy, valid = gather_rows(torch.stack(columns, 1), world).unbind(1)
    rows = replace(facts, study=study, patient=patient, abnormal=abnormal, text=text, anatomy=anatomy)
    return rows if facts.valid is None else replace(rows, valid=valid.bool())
