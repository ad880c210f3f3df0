"""Checkpoints of StanfordMIMI/Merlin as weights of `DualEncoder`, and back.

Names are shared, so three things remain. Merlin's network sees volumes as (z, x, y), ours as (z, y, x): the last two
axes of every kernel of the image tower are exchanged. The phenotype classifier, Longformer's global projections and
its pooler take no part in contrastive training: they are kept aside under their names and written back on export.
Older files carry `embeddings.position_ids`, a constant: it is dropped.

Two files are known: the published dual encoder (1,208 tensors), and the image tower alone without a prefix, as the
five-year disease checkpoint (merlin/models/load.py).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctclip.config import ImageConfig
from ctclip.errors import CheckpointError
from ctclip.models.inflated_resnet import EXPANSION, InflatedResNet
from ctclip.models.longformer import split_unused
from ctclip.models.weights_file import read_weights

IMAGE, TEXT = "encode_image.i3_resnet.", "encode_text."
CLASSIFIER = IMAGE + "classifier."


@dataclass(frozen=True)
class MerlinWeights:
    """A checkpoint of Merlin in this project's orientation.

    Attributes:
        path: The file.
        model: Tensors by `DualEncoder`'s names; without a text tower where the file has none.
        kept: Tensors that no module here has, by Merlin's names: classifier, global projections, pooler.
    """

    path: Path
    model: dict[str, Tensor]
    kept: dict[str, Tensor]

    @property
    def has_text(self) -> bool:
        return any(name.startswith(TEXT) for name in self.model)

    @property
    def image(self) -> dict[str, Tensor]:
        """Tensors by `InflatedResNet`'s names."""
        return {name.removeprefix(IMAGE): tensor for name, tensor in self.model.items() if name.startswith(IMAGE)}


def is_merlin(state: dict[str, Tensor]) -> bool:
    """Whether names and shapes are those of Merlin, with or without its prefix."""
    stem = state.get(IMAGE + "conv1.weight", state.get("conv1.weight"))
    return stem is not None and stem.ndim == 5


def read_merlin(path: str | Path) -> MerlinWeights:
    """Read a checkpoint of Merlin.

    Raises:
        CheckpointError: Anything `read_weights` refuses, or tensors that are not Merlin's.
    """
    path = Path(path)
    return split_merlin(read_weights(path), path=path)


def split_merlin(state: dict[str, Tensor], *, path: Path) -> MerlinWeights:
    """Merlin's state_dict in this project's orientation, apart from what no module here has.

    Raises:
        CheckpointError: Not a state_dict of Merlin; `path` is named.
    """
    if not is_merlin(state):
        raise CheckpointError(
            f"is no checkpoint of Merlin: it has no {IMAGE}conv1.weight among its {len(state)} tensors, the first is "
            f"{next(iter(state))}. Give Merlin's .pt file, or a run's folder with --run",
            path=path,
        )
    if "conv1.weight" in state:
        state = {IMAGE + name: tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.endswith("embeddings.position_ids")}
    used, kept = split_unused(state)
    kept |= {name: used.pop(name) for name in list(used) if name.startswith(CLASSIFIER)}
    weights = MerlinWeights(path, {name: _turned(name, tensor) for name, tensor in used.items()}, kept)
    _check_image(weights)
    return weights


def join_merlin(model: dict[str, Tensor], kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict that Merlin's own code loads strictly: the inverse of `split_merlin`.

    Args:
        model: Of a `DualEncoder` with Merlin's towers.
        kept: As `split_merlin` gave it.
    """
    return {name: _turned(name, tensor) for name, tensor in model.items()} | kept


def image_config(weights: MerlinWeights) -> tuple[ImageConfig, int]:
    """The image tower's sizes as its tensors state them, and the embedding dimension E."""
    return _config_of(weights.image, weights.path)


def _turned(name: str, tensor: Tensor) -> Tensor:
    """(z, x, y) kernels as (z, y, x) and the other way round."""
    return tensor.transpose(3, 4).contiguous() if name.startswith(IMAGE) and tensor.ndim == 5 else tensor


def _config_of(image: dict[str, Tensor], path: Path) -> tuple[ImageConfig, int]:
    try:
        blocks = tuple(_num_blocks(image, stage) for stage in (1, 2, 3, 4))
        widths = tuple(image[f"layer{stage}.0.conv1.weight"].shape[0] for stage in (1, 2, 3, 4))
        stem_width, planes = image["conv1.weight"].shape[:2]
        embedding_dim, pooled = image["contrastive_head.weight"].shape[:2]
    except KeyError as error:
        missing = f"{IMAGE}{error.args[0]} is missing"
        raise CheckpointError(f"is no whole image tower of Merlin: {missing}", path=path) from error
    if pooled != EXPANSION * widths[3]:
        raise CheckpointError(f"its contrastive head takes {pooled} features of {EXPANSION * widths[3]}", path=path)
    config = ImageConfig(blocks, widths, stem_width=stem_width, stem_planes=planes)  # pyright: ignore[reportArgumentType]
    return config, embedding_dim


def _num_blocks(image: dict[str, Tensor], stage: int) -> int:
    prefix = f"layer{stage}."
    return len({name.split(".")[1] for name in image if name.startswith(prefix)})


def _check_image(weights: MerlinWeights) -> None:
    config, embedding_dim = image_config(weights)
    with torch.device("meta"):
        wanted = InflatedResNet(config, num_channels=1, embedding_dim=embedding_dim).state_dict()
    check_names(weights.image, wanted, path=weights.path)


def check_names(given: dict[str, Tensor], wanted: dict[str, Tensor], *, path: Path) -> None:
    """Refuse tensors whose names or shapes are not those wanted.

    Raises:
        CheckpointError: Counts what is missing, unknown and of another shape, with the first of each.
    """
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    misfit = [
        f"{name} {tuple(given[name].shape)} where {tuple(wanted[name].shape)} is needed"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    wrongs = {"missing": missing, "unknown": unknown, "of another shape": misfit}
    said = [f"{len(names)} {what} (the first: {names[0]})" for what, names in wrongs.items() if names]
    if said:
        raise CheckpointError(f"does not fit the model: of {len(wanted)} tensors {', '.join(said)}", path=path)
