"""A trained model ready for single scans: Merlin's own checkpoint, or a run of this program.

Enter a file of weights or a run's folder; leave a `ScanModel`, which knows the grid its volumes need, and what it says
of a scan. Scores and tables are made elsewhere.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, LongformerConfig

from ctclip.config import TextConfig
from ctclip.data import still_crop, windows
from ctclip.embed import embed_texts, open_model
from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.longformer import Longformer
from ctclip.models.merlin_checkpoint import CLASSIFIER, TEXT, MerlinWeights, check_names, image_config, read_merlin
from ctclip.models.text import TextEncoder, TextTokenizer, write_text_folder
from ctclip.scans.scan import Scan, scan_tensor
from ctclip.training.distributed import choose_device
from ctclip.training.precision import mixed_precision
from ctload.errors import CtloadError
from ctload.planning.crop import CenterCrop
from ctload.planning.window import HuWindow
from ctload.storage.digests import digest_source
from ctload.storage.preset import PRESETS, Preset
from ctload.storage.store import open_store

MERLIN_WINDOW = HuWindow(-1000, 1000)
MERLIN_TEXT = "yikuan8/Clinical-Longformer"
MERLIN_TOKENS = 1024  # merlin/models/build.py


@dataclass(frozen=True)
class ScanModel:
    """An image tower in evaluation mode, and what a scan must be for it.

    Attributes:
        path: Where its weights come from.
        digest: Identity of the weights.
        tower: On its device.
        preset: Grid of the volumes.
        is_rounded: Whether voxels are whole HU, as in a store.
        windows: Channels of the volumes.
        crop: The middle it was trained on; None for all.
        classifier: Weight (K, P) and bias (K) of a phenotype classifier on the averaged features, or None.
        logit_scale: What multiplies cosines, already exponentiated.
        texts: Texts -> (N, E) float32, L2-normalised; None where no text tower was asked for.
    """

    path: Path
    digest: str
    tower: InflatedResNet
    preset: Preset
    is_rounded: bool
    windows: tuple[HuWindow, ...]
    crop: CenterCrop | None
    classifier: tuple[Tensor, Tensor] | None
    logit_scale: float
    texts: Callable[[Sequence[str]], np.ndarray] | None


@dataclass(frozen=True)
class ScanFeatures:
    """What a model says of one scan.

    Attributes:
        image: (E,) float32, L2-normalised.
        pooled: (P,) float32, the averaged features before the heads; Merlin's code calls these the image embedding.
        phenotypes: (K,) float32 probabilities, or None where the model has no classifier.
    """

    image: np.ndarray
    pooled: np.ndarray
    phenotypes: np.ndarray | None


def embed_scan(model: ScanModel, scan: Scan) -> ScanFeatures:
    """Features of one scan.

    Raises:
        IngestError: The volume is smaller than the model's crop.
        CheckpointError: The features are not finite.
    """
    device = model.tower.conv1.weight.device
    volume = scan_tensor(scan, windows=model.windows, crop=model.crop).to(device)
    with torch.inference_mode(), mixed_precision(device, "auto"):
        pooled = model.tower.pooled(volume).float()
        image = functional.normalize(model.tower.project(pooled).float(), dim=1)
        logits = None if model.classifier is None else functional.linear(pooled.flatten(1), *model.classifier)
    if not image.isfinite().all():
        raise CheckpointError(f"gives values that are not finite for study {scan.study}", path=model.path)
    phenotypes = None if logits is None else logits.float().sigmoid()[0].cpu().numpy()
    return ScanFeatures(image[0].cpu().numpy(), pooled.flatten().cpu().numpy(), phenotypes)


def open_merlin(path: str | Path, *, text: str | None = None, device: str = "auto") -> ScanModel:
    """Merlin's checkpoint (the published one, or its image tower alone) for single scans.

    Args:
        path: .pt or .safetensors.
        text: Hugging Face name or folder of the text tower's tokenizer and configuration; None leaves texts out.
        device: auto | cpu | cuda.

    Raises:
        CheckpointError: Not a whole checkpoint of Merlin.
        ConfigError: `text` cannot be read, or is of another encoder.
    """
    weights = read_merlin(path)
    place = choose_device(device)
    config, embedding_dim = image_config(weights)
    with torch.device("meta"):
        tower = InflatedResNet(config, num_channels=1, embedding_dim=embedding_dim)
    tower.load_state_dict(weights.image, assign=True)
    kept = {name.removeprefix(CLASSIFIER): tensor for name, tensor in weights.kept.items() if CLASSIFIER in name}
    tower = tower.to(place, memory_format=torch.channels_last_3d).eval()  # pyright: ignore[reportCallIssue]
    return ScanModel(
        path=weights.path,
        digest=digest_source(weights.path),
        tower=tower,
        preset=PRESETS["merlin"],
        is_rounded=False,
        windows=(MERLIN_WINDOW,),
        crop=None,
        classifier=(kept["weight"].flatten(1).to(place), kept["bias"].to(place)) if kept else None,
        logit_scale=float(weights.model.get("logit_scale", torch.tensor(1.0)).exp()),
        texts=None if text is None else _merlin_texts(weights, text, embedding_dim, place),
    )


def open_run_model(run: str | Path, *, preset: str | None = None, device: str = "auto") -> ScanModel:
    """A run of this program for single scans.

    Args:
        run: A run's folder, or one of its checkpoints.
        preset: Of `ctload pack`, with which its store was made; read from the store where that is still there.
        device: auto | cpu | cuda.

    Raises:
        CheckpointError: The checkpoint is broken.
        ConfigError: The store is gone and no preset was given, or the run was trained on several stored channels.
    """
    loaded, model, _ = open_model(run, device)
    data = loaded.config.data
    if data.channels != ("0",):
        raise ConfigError(f"the run was trained on the stored channels {data.channels}; a scan has one image", path=run)
    crop = still_crop(data)
    tokenizer = TextTokenizer(loaded.text_folder, max_length=loaded.config.model.text.max_length)
    return ScanModel(
        path=loaded.path,
        digest=loaded.digest,
        tower=model.encode_image.i3_resnet,
        preset=_preset_of_run(loaded.config.store, preset, Path(run)),
        is_rounded=True,
        windows=windows(data),
        crop=crop if isinstance(crop, CenterCrop) else None,
        classifier=None,
        logit_scale=float(model.logit_scale.detach().exp()),
        texts=partial(embed_texts, model.encode_text, tokenizer),
    )


def _merlin_texts(
    weights: MerlinWeights, name: str, embedding_dim: int, device: torch.device
) -> Callable[[Sequence[str]], np.ndarray]:
    state = {key.removeprefix(TEXT): tensor for key, tensor in weights.model.items() if key.startswith(TEXT)}
    if not state:
        raise CheckpointError("has no text tower, so no finding can be scored by prompts", path=weights.path)
    positions = state["text_encoder.embeddings.position_embeddings.weight"].shape[0]
    with tempfile.TemporaryDirectory() as folder:
        asked = TextConfig(name, max_length=min(MERLIN_TOKENS, positions - 2))
        write_text_folder(Path(folder), asked, ())
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = TextTokenizer(Path(folder), max_length=asked.max_length)
    if not isinstance(config, LongformerConfig):
        raise ConfigError(f"{name!r} is a {config.model_type}; Merlin's text tower is {MERLIN_TEXT}, a Longformer")
    with torch.device("meta"):
        tower = TextEncoder(Longformer(config), embedding_dim=embedding_dim, pooling="first")
    check_names(state, tower.state_dict(), path=weights.path)
    tower.load_state_dict(state, assign=True)
    return partial(embed_texts, tower.to(device).eval(), tokenizer)


def _preset_of_run(store: str, preset: str | None, run: Path) -> Preset:
    if preset is not None:
        return Preset.from_name(preset)
    try:
        fields: dict[str, Any] = open_store(store).preset["fields"]
        plain: dict[str, Any] = {key: tuple(x) if isinstance(x, list) else x for key, x in fields.items()}
        return Preset(**plain)
    except (CtloadError, TypeError) as error:
        raise ConfigError(
            f"the run's store {store!r} cannot tell how its volumes were made ({error}); give the preset that "
            "`ctload pack` was given, as --preset merlin",
            path=run,
        ) from error
