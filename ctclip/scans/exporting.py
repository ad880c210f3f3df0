"""A run's weights as a checkpoint that StanfordMIMI/Merlin's own code loads strictly.

What the run began with and never trained (phenotype classifier, Longformer's global projections, pooler) is written
back from its text folder. What it never had is made up in the only way that changes no output of the two towers, and
named: a global projection is a copy of its local one, as Longformer begins (Beltagy et al. 2020, section 3.1); the
pooler and the classifier are zero.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctclip.embed import open_model
from ctclip.errors import CheckpointError
from ctclip.models.initial_weights import read_kept
from ctclip.models.longformer import Longformer
from ctclip.models.merlin_checkpoint import CLASSIFIER, TEXT, join_merlin
from ctclip.models.weights_file import write_weights

NUM_PHENOTYPES = 1692  # of the published classifier, without which Merlin's code loads no file


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        num_tensors: In it.
        made_up: Parts that the run never had.
    """

    path: Path
    num_tensors: int
    made_up: tuple[str, ...]


def export_run(run: str | Path, out: str | Path) -> Exported:
    """Write a run's newest checkpoint in Merlin's form.

    Args:
        run: A run's folder, or one of its checkpoints.
        out: A .pt, or a .safetensors.

    Raises:
        CheckpointError: The checkpoint is broken, its text tower is no Longformer, its volumes have several
            channels, or the file cannot be written.
    """
    loaded, model, _ = open_model(run, "cpu")
    encoder = model.encode_text.text_encoder
    if not isinstance(encoder, Longformer):
        raise CheckpointError(
            f"its text tower is {type(encoder).__name__}, Merlin's is a Longformer; only runs with such a tower "
            "(model.text.name=yikuan8/Clinical-Longformer, as in --preset merlin) can be exported",
            path=loaded.path,
        )
    tower = model.encode_image.i3_resnet
    if not tower.is_stem_summed:
        raise CheckpointError(
            f"its stem takes {tower.conv1.in_channels} channels; Merlin's takes one window in three equal channels "
            "(model.image.stem_planes=3 and one window)",
            path=loaded.path,
        )
    state = model.state_dict()
    kept = read_kept(loaded.text_folder)
    made_up = _missing(state, kept, num_pooled=tower.contrastive_head.in_channels)
    whole = join_merlin(state, kept | {name: tensor for part in made_up.values() for name, tensor in part.items()})
    write_weights(whole, out)
    return Exported(Path(out), len(whole), tuple(made_up))


def _missing(state: dict[str, Tensor], kept: dict[str, Tensor], *, num_pooled: int) -> dict[str, dict[str, Tensor]]:
    """Parts of Merlin's file that a run never had, by what they are called."""
    local = ("self.query.", "self.key.", "self.value.")
    projections = {
        name.replace(part, part[:-1] + "_global."): tensor.clone()
        for name, tensor in state.items()
        for part in local
        if name.startswith(TEXT) and part in name
    }
    width = state[TEXT + "linear_layer.weight"].shape[1]
    pooler = TEXT + "text_encoder.pooler.dense."
    parts = {
        "global projections of the text tower": projections,
        "pooler of the text tower": {pooler + "weight": torch.zeros(width, width), pooler + "bias": torch.zeros(width)},
        "phenotype classifier": {
            CLASSIFIER + "weight": torch.zeros(NUM_PHENOTYPES, num_pooled, 1, 1, 1),
            CLASSIFIER + "bias": torch.zeros(NUM_PHENOTYPES),
        },
    }
    return {what: part for what, part in parts.items() if not set(part) <= set(kept)}
