"""A small study on the made-up cohort, on disk, as a command would find it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.csv

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.study.arm import Arm, arms_of
from ctclip.study.grid import StudyConfig
from tests.ctclip.learnable import BLOCKS, SECTIONS, learnable_config, write_learnable

# Label columns of the table, under names that no list knows.
FINDINGS = {section: f"block_in_{section}" for section in SECTIONS}


def write_study_cohort(folder: Path, num_train: int = 48, num_test: int = 32) -> Cohort:
    """studies.csv, prompts.json and the store in `folder`; half of the test studies are for validation."""
    _, cohort = write_learnable(folder, num_train, num_test=num_test)
    splits = cohort.table["split"].to_pylist()
    tests = [row for row, split in enumerate(splits) if split == "test"]
    for row in tests[::2]:
        splits[row] = "val"
    columns = {FINDINGS.get(name, name): cohort.table[name].to_pylist() for name in cohort.table.column_names}
    numbers = np.arange(len(splits))
    for bit, section in enumerate(BLOCKS):
        columns[f"abnormal:{section}"] = (numbers >> bit & 1).astype(np.int8)
    columns |= {"split": splits, "abnormal:report": (numbers % 8 > 0).astype(np.int8)}
    table = pyarrow.table(columns)
    for path in columns["path"]:
        (folder / path).touch()
    pyarrow.csv.write_csv(table, folder / "studies.csv")
    prompts = {FINDINGS[name]: {"positive": [words[2]], "negative": [words[3]]} for name, words in BLOCKS.items()}
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return make_cohort(table, name="made-up", findings=tuple(FINDINGS.values()), synthetic=True)


def small_study(folder: Path, *, arms: tuple[Arm, ...] = (), seeds: tuple[int, ...] = (0, 1), **changes) -> StudyConfig:
    """Two arms of a ratio study, a few steps."""
    base = learnable_config(folder, steps=6, cohort=f"table:{folder / 'studies.csv'}")
    base = replace(
        base, out="", findings=tuple(FINDINGS.values()), checkpoint_every=4, data=replace(base.data, batch_size=4)
    )
    study = StudyConfig(
        kind="batch-composition",
        base=base,
        arms=arms or arms_of("batch-composition", ratios=("50:50",)),
        seeds=seeds,
        findings=tuple(FINDINGS.values()),
        prompts=str(folder / "prompts.json"),
        num_bootstraps=100,
    )
    return replace(study, **changes)
