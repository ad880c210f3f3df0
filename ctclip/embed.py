"""Embeddings of a checkpoint: volumes of a split, and any texts. Written without pickle.

Enter a checkpoint (a run's folder or one step of it), a store and studies; leave L2-normalised float32 rows. Volumes
go through the same Loader as in training, in order, without augmentation, cropped in the middle.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from ctclip.anatomy_rows import batch_numbers
from ctclip.cohorts.cohort import Cohort
from ctclip.config import DataConfig, TrainConfig
from ctclip.data import choose_pipeline, join_cohort, loader_device, still_crop, threads_per_rank, to_volume, windows
from ctclip.errors import CheckpointError, EvaluationError
from ctclip.method_rows import anatomies_of, anatomy_of, label_maps
from ctclip.models.dual import DualEncoder, build_dual_encoder
from ctclip.models.text import TextEncoder, TextTokenizer
from ctclip.reports.sections import clean_text
from ctclip.training.checkpoint import Checkpoint, load_model, read_checkpoint
from ctclip.training.distributed import choose_device
from ctclip.training.precision import mixed_precision
from ctload.loading.batch import Batch
from ctload.loading.loader import Loader
from ctload.sampling.sampler import SequentialSampler
from ctload.storage.durable import replace_file
from ctload.storage.manifest import Studies
from ctload.storage.store import open_store

TEXT_BATCH = 32


@dataclass(frozen=True)
class Embeddings:
    """Image embeddings of studies.

    Attributes:
        study: N ids.
        image: (N, E) float32, L2-normalised, row i of study i.
        checkpoint: Digest of the weights they were made with.
        split: Of the cohort; "" where there is none.
        pooled: (N, P) float32, the averaged features before the head, where they were asked for. Merlin's code calls
            these the image embedding.
        anatomy: (N, A, E) float32, L2-normalised, of the run's anatomies, where its model looks at them apart; `image`
            is then their mean.
    """

    study: tuple[str, ...]
    image: np.ndarray
    checkpoint: str
    split: str = ""
    pooled: np.ndarray | None = None
    anatomy: np.ndarray | None = None


def embed_split(
    checkpoint: str | Path,
    *,
    cohort: Cohort,
    store: str | Path,
    split: str,
    device: str = "auto",
    batch_size: int | None = None,
    pipeline: str = "auto",
    is_quiet: bool = False,
) -> Embeddings:
    """Embed the volumes of one split of a cohort.

    Args:
        checkpoint: A run's folder, or one of its checkpoints.
        cohort: Names the studies; all its splits.
        store: Holds their volumes.
        split: train | val | test.
        device: auto | cpu | cuda.
        batch_size: Studies at once; the training's when not given. It changes results in the last bits at most.
        pipeline: auto | numba | dali | reference.
        is_quiet: Show no progress.

    Raises:
        CheckpointError: The checkpoint is broken.
        CohortError: No such split, or its studies are not in the store.
    """
    opened = open_store(store, num_threads=threads_per_rank())
    config = read_checkpoint(checkpoint).config.data
    studies = join_cohort(opened, cohort.split(split), unpacked=config.unpacked)
    return embed_studies(
        checkpoint, studies, split=split, device=device, batch_size=batch_size, pipeline=pipeline, is_quiet=is_quiet
    )


def embed_studies(
    checkpoint: str | Path,
    studies: Studies,
    *,
    split: str = "",
    device: str = "auto",
    batch_size: int | None = None,
    pipeline: str = "auto",
    is_quiet: bool = False,
) -> Embeddings:
    """Embed studies of a store, in their order. Arguments as in `embed_split`."""
    loaded, model, place = open_model(checkpoint, device)
    data, masks = loaded.config.data, label_maps(loaded.config)
    rows: list[np.ndarray] = []
    names: list[str] = []
    with (
        still_loader(studies, data, pipeline, place, batch_size or data.batch_size, labels=masks) as loader,
        tqdm(total=len(studies), desc="embed", unit="study", disable=is_quiet) as bar,
        torch.inference_mode(),
        mixed_precision(place, "auto"),
    ):
        for batch in loader:
            rows.append(_unit_features(model, batch, loaded.config, place))
            names.extend(batch.study)
            bar.update(len(batch.study))
    found = np.concatenate(rows)  # (N, E), or (N, A, E)
    image = found if found.ndim == 2 else found.mean(1) / np.linalg.norm(found.mean(1), axis=1, keepdims=True)
    _check_finite(names, image)
    return Embeddings(tuple(names), image, loaded.digest, split, anatomy=found if found.ndim == 3 else None)


class TextEmbedder:
    """The text tower of a checkpoint as a function: texts in, (N, E) float32, L2-normalised, out.

    Texts are brought into the form of training by `clean_text`. Those longer than the tower's max_length are cut off,
    with a warning.

    Args:
        checkpoint: A run's folder, or one of its checkpoints.
        device: auto | cpu | cuda.

    Example:
        >>> embed = TextEmbedder("runs/first")                      # doctest: +SKIP
        >>> embed(["Spleen: Normal.", "Spleen: Enlarged."]).shape   # doctest: +SKIP
        (2, 512)
    """

    def __init__(self, checkpoint: str | Path, *, device: str = "auto") -> None:
        loaded, model, _ = open_model(checkpoint, device)
        self._tower = model.encode_text
        self._tokenizer = TextTokenizer(loaded.text_folder, max_length=loaded.config.model.text.max_length)
        self.checkpoint = loaded.digest

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(N, E) float32 of N texts."""
        return embed_texts(self._tower, self._tokenizer, texts)


def embed_texts(tower: TextEncoder, tokenizer: TextTokenizer, texts: Sequence[str]) -> np.ndarray:
    """(N, E) float32, L2-normalised, of N texts by a text tower; cleaned and cut as `TextEmbedder` says."""
    cleaned = [clean_text(text) for text in texts]
    limit = tokenizer.max_length
    num_long = sum(length > limit for length in tokenizer.lengths(cleaned)) if cleaned else 0
    if num_long:
        warnings.warn(f"{num_long} of {len(cleaned)} texts have more than {limit} tokens and are cut", stacklevel=3)
    device = tower.linear_layer.weight.device
    rows = [np.zeros((0, tower.linear_layer.out_features), np.float32)]
    for first in range(0, len(cleaned), TEXT_BATCH):
        tokens = tokenizer(cleaned[first : first + TEXT_BATCH]).to(device)
        with torch.inference_mode(), mixed_precision(device, "auto"):
            features = tower(tokens.ids, tokens.mask)
        rows.append(functional.normalize(features.float(), dim=1).cpu().numpy())
    return np.concatenate(rows)


def write_embeddings(embeddings: Embeddings, path: str | Path) -> Path:
    """Write FILE.npz (arrays study, image, checkpoint, split, pooled if any; no pickle), whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "study": np.array(embeddings.study, dtype=np.str_),
        "image": embeddings.image,
        "checkpoint": np.array(embeddings.checkpoint),
        "split": np.array(embeddings.split),
    }
    if embeddings.pooled is not None:
        arrays["pooled"] = embeddings.pooled
    if embeddings.anatomy is not None:
        arrays["anatomy"] = embeddings.anatomy
    content = io.BytesIO()
    np.savez(content, **arrays)
    replace_file(path, content.getvalue())
    return path


def read_embeddings(path: str | Path) -> Embeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        EvaluationError: No such file, another kind of file, or arrays that do not fit together.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            study, image = file["study"], file["image"]
            checkpoint, split = str(file["checkpoint"]), str(file["split"])
            pooled, anatomy = (file[name] if name in file.files else None for name in ("pooled", "anatomy"))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise EvaluationError(f"holds no embeddings: {error}; write them with `ctclip embed`", path=path) from error
    if image.ndim != 2 or image.dtype != np.float32 or study.shape != image.shape[:1]:
        raise EvaluationError(
            f"study {study.shape} and image {image.shape} {image.dtype} do not fit; write them with `ctclip embed`",
            path=path,
        )
    return Embeddings(tuple(study.tolist()), image, checkpoint, split, pooled, anatomy)


def open_model(checkpoint: str | Path, device: str) -> tuple[Checkpoint, DualEncoder, torch.device]:
    """The checkpoint's model in evaluation mode."""
    loaded, place = read_checkpoint(checkpoint), choose_device(device)
    model = build_dual_encoder(
        loaded.config.model,
        loaded.text_folder,
        num_channels=loaded.num_channels,
        seed=0,
        is_pretrained=False,
        anatomy=anatomy_of(loaded.config),
        num_anatomies=len(anatomies_of(loaded.config)),
    )
    load_model(loaded, model)
    return loaded, model.to(place).eval(), place


def still_loader(
    studies: Studies,
    data: DataConfig,
    pipeline: str,
    device: torch.device,
    batch_size: int,
    *,
    labels: tuple[str, ...] = (),
) -> Loader:
    """Volumes of studies in their order, unaugmented, cropped in the middle; with these label maps."""
    chosen = choose_pipeline(pipeline, device)
    return Loader(
        studies,
        sampler=SequentialSampler(min(batch_size, len(studies)), drop_last=False),
        crop=still_crop(data),
        window=windows(data),
        pipeline=chosen,
        device=loader_device(chosen, device),
        to="torch",
        prefetch=data.prefetch,
        channels=data.channels,
        labels=labels,
    )


def _unit_features(model: DualEncoder, batch: Batch, config: TrainConfig, place: torch.device) -> np.ndarray:
    """(B, E), or (B, A, E) of a model that looks at anatomies apart; float32, L2-normalised."""
    volume = to_volume(batch, place)
    if model.anatomy is None:
        features = model.encode_image(volume)
    else:
        numbers = None
        for name in label_maps(config):
            numbers = batch_numbers(batch, name, anatomies_of(config), place)
        features = model.embed_anatomies(volume, numbers)
    return functional.normalize(features.float(), dim=-1).cpu().numpy()


def _check_finite(names: list[str], image: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(image).all(axis=1))
    if len(wrong):
        raise CheckpointError(
            f"{len(wrong)} of {len(names)} embeddings are not finite; take an earlier checkpoint",
            study=names[int(wrong[0])],
        )
