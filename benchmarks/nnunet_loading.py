"""`python -m benchmarks.nnunet_loading --data FOLDER --scratch FOLDER`: nnU-Net's own loader over a store and over
its own blosc2 files, the same work: patches of 40x96x96 with their segmentation, a third of them with foreground, one
process as each of nnU-Net's workers is, no transforms. Ours decodes in a thread beside it, so on a busy machine read
the CPU time rather than the rate.

FOLDER holds real CT. The segmentations are made up: air, fat, soft tissue and bone by their HU.
"""

import argparse
import dataclasses
import importlib
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import ctload
from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from benchmarks.usage import cpu_seconds
from ctload.adapters.nnunet import StoreDataset
from ctload.packing.resample import prepare
from ctload.packing.writer import StoreWriter
from ctload.readers import read_source
from ctload.storage.preset import Preset

PATCH, BATCH, FOREGROUND, BATCHES = (40, 96, 96), 2, 0.33, 30
INTENSITIES = {"mean": 40.0, "std": 150.0, "percentile_00_5": -900.0, "percentile_99_5": 400.0}
CLASSES = (1, 2, 3)
EDGES_HU = (-200, -20, 200)
WORK = "nnUNetDataLoader, patches of 40x96x96 with segmentation"


def packed(data: Path, out: Path) -> Path:
    """A store of every source below `data` with a made-up segmentation, at native resolution."""
    if not out.exists():
        preset = Preset.from_name("native")
        with StoreWriter(out, preset) as writer:
            for source in sorted([*data.rglob("*.nii.gz"), *data.rglob("*.zip")]):
                prepared = prepare(read_source(source), preset)
                labels = {"tissue": np.digitize(prepared.arrays["0"], EDGES_HU).astype(np.uint8)}
                writer.write(source.parent.name, dataclasses.replace(prepared, labels=labels))
            writer.finish()
    return out


def own_files(store: Path, folder: Path) -> Any:
    """The same studies as nnU-Net 2.8 stores them: float32, blosc2, its own chunks for this patch."""
    rival = importlib.import_module("nnunetv2.training.dataloading.nnunet_dataset")
    schemes = importlib.import_module("nnunetv2.preprocessing.normalization.default_normalization_schemes")
    normalise = schemes.CTNormalization(intensityproperties=INTENSITIES)
    folder.mkdir(parents=True, exist_ok=True)
    opened, ours = ctload.open_store(store), over(store)
    for study in opened.studies.ids:
        if not (folder / f"{study}.b2nd").exists():
            voxels = normalise.run(opened.read(study))[None]
            labels = opened.read(study, array="labels/tissue").astype(np.int8)[None]
            blocks, chunks = rival.comp_blosc2_params(voxels.shape, PATCH)
            properties = ours.load_case(study)[3]
            stem = str(folder / study)
            rival.nnUNetDatasetBlosc2.save_case(voxels, labels, properties, stem, chunks=chunks, blocks=blocks)
    return rival.nnUNetDatasetBlosc2(str(folder))


def over(store: Path) -> StoreDataset:
    return StoreDataset(str(store), label="tissue", intensities=INTENSITIES, classes=CLASSES)


def timed(dataset: Any, cpu_ms: list[float]) -> Callable[[], float]:
    """Patches per second of one round; what each costs of CPU is kept."""
    rival = importlib.import_module("nnunetv2.training.dataloading.data_loader")
    labels = SimpleNamespace(all_labels=[0, *CLASSES], has_ignore_label=False)
    loader = rival.nnUNetDataLoader(dataset, BATCH, PATCH, PATCH, labels, FOREGROUND)

    def one_round() -> float:
        np.random.seed(0)  # the same patches for both
        cpu, started = cpu_seconds(), time.perf_counter()
        for _ in range(BATCHES):
            loader.generate_train_batch()
        wall_s = time.perf_counter() - started
        cpu_ms.append(1e3 * (cpu_seconds() - cpu) / (BATCHES * BATCH))
        return BATCHES * BATCH / wall_s

    return one_round


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nnunet_loading", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, default=Path("runs/bench"))
    parser.add_argument("--rounds", type=int, default=9)
    words = parser.parse_args()
    store = packed(words.data, words.scratch / "nnunet.zarr")
    cpu: dict[str, list[float]] = {"ctload StoreDataset": [], "nnU-Net nnUNetDatasetBlosc2": []}
    datasets = (over(store), own_files(store, words.scratch / "nnunet.b2nd"))
    candidates = {name: timed(dataset, cpu[name]) for name, dataset in zip(cpu, datasets, strict=True)}
    rates = alternate(candidates, num_rounds=words.rounds)
    config = f"batch={BATCH} foreground={FOREGROUND} processes=1 machine=shared nnunetv2={version('nnunetv2')} " + (
        f"blosc2={version('blosc2')}"
    )
    rows = [row_of(WORK, name, config, "rate", "patches/s", values) for name, values in rates.items()]
    rows += [row_of(WORK, name, config, "cpu", "ms/patch", values[1:]) for name, values in cpu.items()]
    ours, theirs = rates.values()
    rows.append(row_of(WORK, " / ".join(rates), config, "ratio", "x", paired_ratios(ours, theirs)))
    append_rows("loading", rows)


if __name__ == "__main__":
    main()
