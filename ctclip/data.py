"""From a cohort and a store to batches of volumes and tokens.

A cohort has reports, splits and labels; a store has voxels; studies carry the same ids in both. This file joins
them, names the sampler, and turns a loader's batch into a TrainBatch.
"""

import importlib.util
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctclip.anatomy_rows import AnatomyRows
from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.source import read_cohort
from ctclip.config import DataConfig, TrainConfig
from ctclip.drawing import drawable_sections, join_columns, make_sampler, take_fraction
from ctclip.errors import CohortError, ConfigError
from ctclip.method_rows import label_maps, num_views, training_rows
from ctclip.models.text import TextTokenizer, Tokens
from ctclip.objectives.facts import Facts
from ctclip.study_rows import StudyRows
from ctclip.texts.text_units import FULL, TextUnits, make_text_units, text_columns
from ctclip.training.distributed import World, choose_device
from ctload.loading.batch import Batch
from ctload.loading.loader import Loader
from ctload.planning.crop import CenterCrop, Crop, RandomCrop, WholeVolume
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import Sampler
from ctload.storage.manifest import Studies
from ctload.storage.store import Store, open_store


@dataclass(frozen=True)
class TrainBatch:
    """One rank's batch, ready for the dual encoder.

    Attributes:
        volume: (B, C, D, H, W) float32 in [0, 1], channels-last 3D, on the training device.
        tokens: Of the studies' texts in `unit`, or of the texts of all their anatomies.
        unit: "report" or a section.
        study: B study ids.
        facts: What objectives other than CLIP know of the studies; None for CLIP alone.
        key_volume: As `volume`, a second view, where the objective compares two.
        numbers: (B, D, H, W) anatomy number + 1 of every voxel, where the objective looks at anatomies by masks.
    """

    volume: Tensor
    tokens: Tokens
    unit: str
    study: tuple[str, ...]
    facts: Facts | None = None
    key_volume: Tensor | None = None
    numbers: Tensor | None = None


@dataclass(frozen=True)
class TrainingData:
    """Everything a loader and a tokenizer need of the training split.

    Attributes:
        cohort: The training split.
        studies: Its studies in the store, with the columns the sampler reads.
        texts: Their texts.
        sampler: Not yet bound.
        pipeline: "numba", "dali" or "reference".
        left_out: Sections that cannot fill a batch, with the reason.
        rows: What objectives other than CLIP know of the studies; None for CLIP alone.
    """

    cohort: Cohort
    studies: Studies
    texts: TextUnits
    sampler: Sampler
    pipeline: str
    left_out: dict[str, str]
    rows: StudyRows | AnatomyRows | None = None

    def training_texts(self) -> list[str]:
        """Every text of the training split, for a vocabulary."""
        further = self.rows.all_texts() if isinstance(self.rows, AnatomyRows) else []
        return [*self.texts.all_texts(), *further]

    def summary(self) -> str:
        """What will be trained on, for the terminal."""
        lines = [
            f"{len(self.studies)} training studies of cohort {self.cohort.name}"
            + (" (synthetic, not from patients)" if self.cohort.synthetic else ""),
            f"  text units: {', '.join(self.texts.units)}; volumes through the {self.pipeline} pipeline",
        ]
        lines += [f"  section {section} is left out: {reason}" for section, reason in self.left_out.items()]
        return "\n".join(lines)


def open_training_data(config: TrainConfig, cohort: Cohort | None = None) -> TrainingData:
    """Join the training split of a cohort with its store.

    Args:
        config: Of the run.
        cohort: In place of opening config.cohort; all its splits.

    Raises:
        ConfigError: No store is named.
        CohortError: No cohort is named, there is no training split, or its studies are not in the store.
        ReportError: Normality is needed and rules know too few of these sentences.
    """
    data = config.data
    whole = config_cohort(config) if cohort is None else cohort
    cache_bytes = round(data.cache_gib * 2**30)
    store = open_store(check_store(config.store), num_threads=threads_per_rank(), cache_bytes=cache_bytes)
    split = whole.split("train")
    studies = join_cohort(store, split, unpacked=data.unpacked)
    asked = () if data.schedule == "full" else data.sections
    texts = make_text_units(split, asked)
    needed = data.sampler != "shuffle" or data.eligible == "normality" or config.objective != ("clip",)
    studies = join_columns(studies, text_columns(split, texts, is_normality_needed=needed))
    studies = take_fraction(studies, split, data, seed=config.seed)
    sections, left_out = drawable_sections(studies, data)
    sampler = make_sampler(data, sections, seed=config.seed)
    texts = TextUnits((FULL, *sections), {unit: texts.texts[unit] for unit in (FULL, *sections)})
    rows = training_rows(config, split, studies, texts)
    pipeline = choose_pipeline(data.pipeline, choose_device(config.device))
    return TrainingData(split, studies, texts, sampler, pipeline, left_out, rows)


def config_cohort(config: TrainConfig) -> Cohort:
    """The cohort that a configuration names.

    Raises:
        CohortError: None is named, or what its reader refuses.
    """
    return read_cohort(config.cohort, is_partial=config.data.unpacked == "leave_out", findings=config.findings)


def open_loader(config: TrainConfig, data: TrainingData, world: World) -> Loader:
    """The training loader of this rank."""
    return Loader(
        data.studies,
        sampler=data.sampler,
        crop=training_crop(config.data),
        window=windows(config.data),
        augment=config.data.augment,
        pipeline=data.pipeline,
        device=loader_device(data.pipeline, world.device),
        to="torch",
        rank=world.rank,
        world_size=world.size,
        prefetch=config.data.prefetch,
        channels=config.data.channels,
        labels=label_maps(config),
        num_views=num_views(config),
        on_corrupt=config.data.on_corrupt,
        num_threads=threads_per_rank(),
    )


def loader_device(pipeline: str, device: torch.device) -> str:
    """Where batches are made: on the same GPU where DALI and CuPy can, else on the CPU."""
    if device.type != "cuda" or pipeline != "dali" or not _is_installed("cupy"):
        return "cpu"
    return f"cuda:{device.index or 0}"


def threads_per_rank() -> int:
    """Cores that one of this machine's ranks may use for decoding, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def join_cohort(store: Store, cohort: Cohort, *, unpacked: str) -> Studies:
    """The store's rows of a cohort's studies, in the cohort's order.

    Args:
        store: Made by `ctload pack` from the cohort's volumes.
        cohort: Or one split of it.
        unpacked: "error", or "leave_out" with a warning, for studies that the store does not hold.

    Raises:
        CohortError: Studies are missing in the store, or all are.
    """
    packed = set(store.studies.ids)
    found = [study for study in cohort.studies if study in packed]
    absent = [study for study in cohort.studies if study not in packed]
    if absent and (unpacked == "error" or not found):
        raise CohortError(
            f"{len(absent)} of {len(cohort)} studies are not in the store {store.path}; pack them (`ctload pack` tells "
            "which it refused), or leave them out with data.unpacked=leave_out",
            study=absent[0],
        )
    if absent:
        warnings.warn(f"{len(absent)} of {len(cohort)} studies are not in the store and are left out", stacklevel=2)
    return store.studies.take([store.studies.row_of(study) for study in found])


def training_crop(config: DataConfig) -> Crop:
    """The crop of training volumes."""
    if config.crop is None:
        return WholeVolume()
    return (RandomCrop if config.crop_at == "random" else CenterCrop)(config.crop, pad=config.pad)


def still_crop(config: DataConfig) -> Crop:
    """The crop of volumes that are embedded."""
    return WholeVolume() if config.crop is None else CenterCrop(config.crop, pad=config.pad)


def windows(config: DataConfig) -> tuple[HuWindow, ...]:
    return tuple(HuWindow(low, high) for low, high in config.windows_hu)


def num_channels(config: DataConfig) -> int:
    """C: stored channels x windows."""
    return len(config.channels) * len(config.windows_hu)


def choose_pipeline(pipeline: str, device: torch.device) -> str:
    """ "auto" as ctload has it: "numba" on the CPU, "dali" on a GPU, "numba" there too, with a warning, where DALI and
    CuPy are not installed. Others as they are.
    """
    if pipeline != "auto":
        return pipeline
    if device.type != "cuda":
        return "numba"
    if has_dali() and _is_installed("cupy"):
        return "dali"
    warnings.warn(
        "NVIDIA DALI or CuPy is not installed: batches are made on the CPU by the numba pipeline. Install them with "
        "pip install 'ctload[dali,cuda]', or ask for data.pipeline=numba",
        stacklevel=2,
    )
    return "numba"


def has_dali() -> bool:
    """Whether NVIDIA DALI is installed."""
    return _is_installed("nvidia.dali")


def to_train_batch(
    batch: Batch,
    texts: TextUnits,
    tokenizer: TextTokenizer,
    device: torch.device,
    rows: StudyRows | AnatomyRows | None = None,
) -> TrainBatch:
    """A loader's batch with the tokens of its studies' texts, on the training device."""
    read = texts.of(batch.study, batch.unit) if rows is None else rows.read(batch)
    facts = numbers = None
    if isinstance(rows, AnatomyRows):
        numbers = rows.numbers(batch, device)
        facts = rows.facts(batch, numbers, device)
    elif rows is not None:
        facts = rows.facts(batch, device)
    key_volume = _on_device(batch.views[1].volume, device) if len(batch.views) > 1 else None
    tokens = tokenizer(read).to(device)
    return TrainBatch(to_volume(batch, device), tokens, batch.unit, batch.study, facts, key_volume, numbers)


def to_volume(batch: Batch, device: torch.device) -> Tensor:
    """(B, C, D, H, W) float32 of a loader's batch, channels-last 3D, on a device."""
    return _on_device(batch.volume, device)


def check_store(path: str) -> Path:
    """The path of a store.

    Raises:
        ConfigError: None was given.
    """
    if not path:
        raise ConfigError("no store was given; make one with `ctload pack TABLE --out STORE` and pass --store STORE")
    return Path(path)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _on_device(volume: Tensor, device: torch.device) -> Tensor:
    return volume.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last_3d)
