"""What a run begins with: `--init random | imagenet | FILE | RUN`.

FILE is a checkpoint of Merlin (both towers, or its image tower alone) or a torchvision ResNet, told apart by the
names and shapes in it; "imagenet" is the torchvision file that lies in torch's download folder; RUN is the folder of
another run of this program. Nothing is downloaded. The pretrained text tower of `model.text.name` is a matter of
ctclip/models/text.py; where a checkpoint of Merlin is given it brings its own.
"""

import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctclip.config import TextConfig
from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.inflation import cached_imagenet, inflate_resnet2d, is_resnet2d, spread_planes
from ctclip.models.longformer import Longformer
from ctclip.models.merlin_checkpoint import (
    IMAGE,
    TEXT,
    MerlinWeights,
    check_names,
    image_config,
    is_merlin,
    split_merlin,
)
from ctclip.models.text import is_longformer, unused_of_pretrained, write_text_folder
from ctclip.models.weights_file import read_weights
from ctclip.training.checkpoint import Checkpoint, load_model, read_checkpoint

RANDOM, IMAGENET = "random", "imagenet"
KEPT = "unused.safetensors"


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a run begins with, read but not yet laid into a model.

    Attributes:
        path: Where they come from.
        merlin: A checkpoint of Merlin, or None.
        resnet2d: A torchvision ResNet's state_dict, or None.
        run: A checkpoint of another run, or None.
    """

    path: Path
    merlin: MerlinWeights | None = None
    resnet2d: dict[str, Tensor] | None = None
    run: Checkpoint | None = None

    def has_text(self, text_folder: Path) -> bool:
        """Whether they hold the weights of the text tower whose folder this is."""
        return self.run is not None or (self.merlin is not None and self.merlin.has_text and is_longformer(text_folder))


def read_initial(init: str, *, blocks: tuple[int, ...]) -> InitialWeights | None:
    """Read what `--init` names; None for "random".

    Args:
        init: random | imagenet | path of a file or of a run's folder.
        blocks: Of the image tower, which name the ResNet that "imagenet" means.

    Raises:
        ConfigError: No such file, or none in torch's download folder.
        CheckpointError: A damaged or pickled file, or one of another kind.
    """
    if init == RANDOM:
        return None
    path = _imagenet_file(blocks) if init == IMAGENET else Path(init)
    if path.is_dir():
        return InitialWeights(path, run=read_checkpoint(path))
    if not path.is_file():
        raise ConfigError(
            f"init={init!r} is neither {RANDOM}, {IMAGENET}, a file of weights nor the folder of a run", path=path
        )
    state = read_weights(path)
    if is_merlin(state):
        return InitialWeights(path, merlin=split_merlin(state, path=path))
    if is_resnet2d(state):
        return InitialWeights(path, resnet2d=state)
    raise CheckpointError(
        "is neither a checkpoint of Merlin nor a torchvision ResNet with bottlenecks; the first of its "
        f"{len(state)} tensors is {next(iter(state))}",
        path=path,
    )


def lay_into(weights: InitialWeights, model: nn.Module) -> None:
    """Copy initial weights into a DualEncoder of the same architecture.

    A checkpoint of Merlin gives both towers and the logit scale; where the model's text tower is no Longformer, or
    the file has none, the image tower alone, with a warning. A 2D ResNet gives the image tower without its head.

    Raises:
        CheckpointError: Names or shapes do not fit; what is missing or another is named.
    """
    if weights.run is not None:
        load_model(weights.run, model)
    elif weights.resnet2d is not None:
        tower = model.get_submodule(IMAGE.removesuffix("."))
        assert isinstance(tower, InflatedResNet)
        tower.load_state_dict(inflate_resnet2d(weights.resnet2d, tower, path=weights.path))
    elif weights.merlin is not None:
        _lay_merlin(weights.merlin, model)


def begin_text_folder(folder: Path, config: TextConfig, texts: Iterable[str], weights: InitialWeights | None) -> None:
    """The text folder of a new run, and in it what its export will need again.

    Args:
        folder: Is made.
        config: Of the text tower.
        texts: Cleaned texts of the training split.
        weights: What the run begins with. Another run's tokenizer comes with its weights.

    Raises:
        ConfigError: The encoder's name cannot be read.
    """
    if weights is not None and weights.run is not None:
        shutil.copytree(weights.run.text_folder, folder, dirs_exist_ok=True)
        return
    write_text_folder(folder, config, texts)
    kept = dict(weights.merlin.kept) if weights is not None and weights.merlin is not None else {}
    if not any(name.startswith(TEXT) for name in kept):
        prefix = TEXT + "text_encoder."
        kept |= {prefix + name: tensor for name, tensor in unused_of_pretrained(config).items()}
    if kept:
        save_file({name: tensor.contiguous() for name, tensor in kept.items()}, folder / KEPT)


def read_kept(text_folder: Path) -> dict[str, Tensor]:
    """Tensors that a run began with and has no use for, by Merlin's names; empty where there were none."""
    path = text_folder / KEPT
    return load_file(path) if path.is_file() else {}


def _lay_merlin(weights: MerlinWeights, model: nn.Module) -> None:
    wanted = model.state_dict()
    given = dict(weights.model)
    stem = IMAGE + "conv1.weight"
    if not isinstance(model.get_submodule(TEXT + "text_encoder"), Longformer):
        given = {name: tensor for name, tensor in given.items() if not name.startswith(TEXT)}
    if not any(name.startswith(TEXT) for name in given):
        warnings.warn(
            f"{weights.path.name}: only the image tower is taken, since the "
            + ("model's text tower is no Longformer" if weights.has_text else "file has no text tower"),
            stacklevel=4,
        )
        given |= {name: tensor for name, tensor in wanted.items() if name.startswith(TEXT)}
    given.setdefault("logit_scale", wanted["logit_scale"])
    given[stem] = spread_planes(given[stem], wanted[stem].shape[1])
    try:
        check_names(given, wanted, path=weights.path)
    except CheckpointError as error:
        config, embedding_dim = image_config(weights)
        raise CheckpointError(
            f"{error.message}. Its image tower has {config}, E={embedding_dim}; take --preset merlin, or set these, "
            "and let model.text.name be the encoder it was trained with",
            path=weights.path,
        ) from error
    model.load_state_dict(given)


def _imagenet_file(blocks: tuple[int, ...]) -> Path:
    found = cached_imagenet(blocks)
    if len(found) == 1:
        return found[0]
    said = "has several: " + ", ".join(path.name for path in found) if found else "has none"
    raise ConfigError(
        f"init=imagenet looks for torchvision's ResNet-{2 + 3 * sum(blocks)} in torch's download folder, which {said}. "
        "Download it from download.pytorch.org/models (Merlin began with resnet152-394f9c45.pth) and pass --init FILE"
    )
