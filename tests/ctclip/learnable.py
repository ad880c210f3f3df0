"""A made-up cohort that can be learned in seconds: three findings, each a bright or dark block in its place.

Nothing in it comes from a patient.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.config import DataConfig, ImageConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig
from ctclip.phantom.organs import LIVER, SPLEEN
from ctclip.training.checkpoint import read_checkpoint
from ctload.packing.writer import StoreWriter
from ctload.storage.preset import Preset
from ctload.storage.store import Store, open_store
from ctload.testing import synthetic_prepared

SHAPE = (8, 16, 16)
# Section, where the block is (z, y, x), its HU, and the words with and without it.
BLOCKS = {
    "liver": ((slice(2, 6), slice(2, 7), slice(1, 7)), 900, "Liver: Dense mass.", "Liver: Normal."),
    "spleen": ((slice(2, 6), slice(2, 7), slice(9, 15)), -900, "Spleen: Dark cyst.", "Spleen: Normal."),
    "kidneys": ((slice(2, 6), slice(10, 15), slice(4, 12)), 900, "Kidneys: Large stone.", "Kidneys: Normal."),
}
SECTIONS = tuple(BLOCKS)


def write_learnable(
    folder: Path, num_studies: int = 24, *, num_test: int = 0, has_organs: bool = False
) -> tuple[Store, Cohort]:
    """The store and the cohort; study i has finding k when bit k of i is set. Where asked for with a label map "organs"
    of liver and spleen, in every study; of every fourth the liver reaches a face.
    """
    rows: list[dict[str, object]] = []
    with StoreWriter(folder / "store", Preset.from_name("native")) as writer:
        for number in range(num_studies + num_test):
            present = {section: bool(number >> bit & 1) for bit, section in enumerate(BLOCKS)}
            study = f"made-up-{number:03d}"
            labels = {"organs": _organs(number)} if has_organs else {}
            writer.write(study, replace(_prepared(number, present), labels=labels))
            rows.append(_row(study, present, "train" if number < num_studies else "test"))
        writer.finish()
    cohort = make_cohort(pa.Table.from_pylist(rows), name="made-up", findings=SECTIONS, synthetic=True)
    return open_store(folder / "store"), cohort


def learnable_config(folder: Path, *, steps: int = 6, name: str = "run", **changes) -> TrainConfig:
    """A run on that store: batches of 8, the smallest towers that learn it."""
    image = ImageConfig((1, 1, 1, 1), (4, 4, 8, 8), stem_width=4)
    text = TextConfig(max_length=48, vocabulary=120, width=16, layers=1, heads=2)
    config = TrainConfig(
        store=str(folder / "store"),
        out=str(folder / name),
        steps=steps,
        data=DataConfig(batch_size=8, sections=SECTIONS, pipeline="reference"),
        model=ModelConfig(image, text, embedding_dim=8),
        optim=OptimConfig(learning_rate=1e-2, warmup_steps=2),
        device="cpu",
        threads=1,
        log_every=2,
    )
    return replace(config, **changes)


def _prepared(number: int, present: dict[str, bool]):
    prepared = synthetic_prepared(SHAPE, 0)
    rng = np.random.default_rng(number)
    voxels = rng.integers(-60, 60, SHAPE).astype(np.int16)
    for section, (place, hu, *_) in BLOCKS.items():
        if present[section]:
            voxels[place] += hu
    return replace(prepared, arrays={"0": voxels})


def _organs(number: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for section, value in (("liver", LIVER), ("spleen", SPLEEN)):
        labels[BLOCKS[section][0]] = value
    if number % 4 == 3:
        labels[0, 3, 3] = LIVER
    return labels


def _row(study: str, present: dict[str, bool], split: str) -> dict[str, object]:
    words = [BLOCKS[section][2 if is_present else 3] for section, is_present in present.items()]
    labels = {section: np.int8(is_present) for section, is_present in present.items()}
    return {"study": study, "patient": study, "path": study, "report": " ".join(words), "split": split, **labels}


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    """What the run's newest checkpoint holds."""
    return load_file(read_checkpoint(config.out).path / "model.safetensors")


def metrics(config: TrainConfig) -> list[dict]:
    """The lines of the run's metrics.jsonl."""
    return [json.loads(line) for line in (Path(config.out) / "metrics.jsonl").read_text().splitlines()]
