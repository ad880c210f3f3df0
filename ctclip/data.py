"""From a cohort and a store to batches of volumes and tokens.

A cohort has reports, splits and labels; a store has voxels; studies carry the same ids in both. This file joins
them, names the sampler, and turns a loader's batch into a TrainBatch.
"""

import importlib.util
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.source import read_cohort
from ctclip.config import DataConfig, TrainConfig
from ctclip.errors import CohortError, ConfigError
from ctclip.models.text import TextTokenizer, Tokens
from ctclip.objectives.facts import Facts
from ctclip.objectives.parameters import Methods
from ctclip.objectives.requirements import RunFacts, check_objectives, check_run
from ctclip.study_rows import StudyRows, make_study_rows
from ctclip.texts.text_units import ABNORMAL, FULL, TEXT, TextUnits, make_text_units, text_columns
from ctclip.training.distributed import World, choose_device
from ctload.batch import Batch
from ctload.crop import CenterCrop, Crop, RandomCrop, WholeVolume
from ctload.errors import SamplerError
from ctload.loader import Loader
from ctload.manifest import Studies
from ctload.sampler import Sampler, ShuffleSampler, StratifiedSampler
from ctload.store import Store, open_store
from ctload.subset import nested_subsets
from ctload.twin import ShuffledTwin
from ctload.units import AlternatingUnits
from ctload.window import HuWindow


@dataclass(frozen=True)
class TrainBatch:
    """One rank's batch, ready for the dual encoder.

    Attributes:
        volume: (B, C, D, H, W) float32 in [0, 1], channels-last 3D, on the training device.
        tokens: Of the studies' texts in `unit`.
        unit: "report" or a section.
        study: B study ids.
        facts: What objectives other than CLIP know of the studies; None for CLIP alone.
    """

    volume: Tensor
    tokens: Tokens
    unit: str
    study: tuple[str, ...]
    facts: Facts | None = None


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
    rows: StudyRows | None = None

    def training_texts(self) -> list[str]:
        """Every text of the training split, for a vocabulary."""
        return self.texts.all_texts()

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
    store = open_store(check_store(config.store), num_threads=threads_per_rank())
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


def training_rows(config: TrainConfig, cohort: Cohort, studies: Studies, texts: TextUnits) -> StudyRows | None:
    """What the run's objectives know of the studies; None for CLIP alone.

    Raises:
        ConfigError: Objectives that count a term twice, or a unit without a pair of normals.
    """
    if config.objective == ("clip",):
        return None
    methods = Methods(offclip=config.offclip)
    check_objectives(config.objective, methods)
    if config.offclip.pair_unit == "anatomy":
        raise ConfigError(
            "offclip.pair_unit='anatomy' needs an image embedding per anatomy, and a run has one per study; take "
            "'section' or 'study'"
        )
    is_filtered = config.offclip.filter_text
    rows = make_study_rows(cohort, studies, texts, config.offclip, is_filtered=is_filtered, seed=config.seed)
    facts = RunFacts(len(studies), config.steps, rows.counts(), has_masks=False, num_views=1)
    check_run(config.objective, methods, facts)
    return rows


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


def take_fraction(studies: Studies, cohort: Cohort, config: DataConfig, *, seed: int) -> Studies:
    """The nested share `config.fraction` of a split's studies (ctload/subset.py).

    Args:
        studies: Of the split, in the store.
        cohort: The split; its patients are whole, its findings are balanced.
        config: fraction and fractions.
        seed: Of the choice.

    Raises:
        SamplerError: A finding of the split would have no positive study left.
    """
    if config.fraction == 1:
        return studies
    found = [name for name in cohort.findings if (cohort.labels()[:, cohort.findings.index(name)] == 1).any()]
    joined = join_columns(studies, cohort.table.select(["study", "patient", *found]))
    shares = sorted({*config.fractions, config.fraction})
    rows = nested_subsets(joined, shares, labels=found, patient="patient", seed=seed)[config.fraction]
    return studies.take(rows)


def join_columns(studies: Studies, columns) -> Studies:
    """Studies.join, where columns of the same name that were carried from the packing table give way."""
    names = [name for name in columns.column_names if name != "study" and name in studies.table.column_names]
    return Studies(studies.table.drop_columns(names), studies.store).join(columns)


def make_sampler(config: DataConfig, sections: tuple[str, ...], *, seed: int) -> Sampler:
    """The sampler of a configuration, its alternation over these sections."""
    schedule = config.schedule if sections or config.schedule != "alternate" else "full"
    units = AlternatingUnits(sections, full=FULL, schedule=schedule)
    if config.sampler == "shuffle":
        by = ABNORMAL if config.eligible == "normality" else TEXT
        return ShuffleSampler(config.batch_size, seed, by=by, units=units)
    arm = StratifiedSampler(
        ABNORMAL, config.quotas, config.batch_size, seed, units=units, small_stratum=config.small_stratum
    )
    return ShuffledTwin(arm, config.twin_epochs) if config.sampler == "twin" else arm


def drawable_sections(studies: Studies, config: DataConfig) -> tuple[tuple[str, ...], dict[str, str]]:
    """Sections of the configuration that can fill a batch, and the others with the reason.

    With config.small_section == "error" all are returned, and binding the sampler will refuse the first that cannot.
    """
    if config.schedule == "full":
        return (), {}
    if config.small_section == "error":
        return config.sections, {}
    left_out = {}
    for section in config.sections:
        try:
            make_sampler(replace(config, schedule="sections"), (section,), seed=0).bind(studies)
        except SamplerError as error:
            left_out[section] = error.message
    return tuple(section for section in config.sections if section not in left_out), left_out


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
    batch: Batch, texts: TextUnits, tokenizer: TextTokenizer, device: torch.device, rows: StudyRows | None = None
) -> TrainBatch:
    """A loader's batch with the tokens of its studies' texts, on the training device."""
    read = texts.of(batch.study, batch.unit) if rows is None else rows.read(batch)
    facts = None if rows is None else rows.facts(batch, device)
    return TrainBatch(to_volume(batch, device), tokenizer(read).to(device), batch.unit, batch.study, facts)


def to_volume(batch: Batch, device: torch.device) -> Tensor:
    """(B, C, D, H, W) float32 of a loader's batch, channels-last 3D, on a device."""
    volume = batch.volume.to(device, non_blocking=True)
    return volume.contiguous(memory_format=torch.channels_last_3d)


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
