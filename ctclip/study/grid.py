"""The grid of a study: arms x seeds, each cell one run with a configuration of its own.

A study is data, written once into its folder as study.json; every cell follows from it, so a cell can be run here, in
parallel or on another machine.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import xxhash

from ctclip.config import TrainConfig
from ctclip.config_json import differences, from_json, to_json
from ctclip.errors import StudyError
from ctclip.study.arm import FREE_FIELDS, Arm, configure
from ctload.storage.durable import replace_file

STUDY_FILE = "study.json"


@dataclass(frozen=True)
class StudyConfig:
    """One study.

    Attributes:
        kind: Of ctclip.study.arm.KINDS.
        base: What all cells share; its `seed`, `out` and what arms change are replaced.
        arms: The first is the reference.
        seeds: Of weights, order and subsets; every arm runs with each of them.
        findings: Scored; empty for all of the cohort.
        prompts: JSON of prompts; empty for the project's own.
        threshold_from: argmax | val.
        threshold_rule: How val chooses thresholds.
        num_bootstraps: Draws of patients in the analysis.
        min_auroc: Macro AUROC that the reference arm must reach for the study to count.
        cohort_summary: What was found in the cohort, for the page.
    """

    kind: str
    base: TrainConfig
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    findings: tuple[str, ...] = ()
    prompts: str = ""
    threshold_from: str = "val"
    threshold_rule: str = "f1"
    num_bootstraps: int = 1000
    min_auroc: float = 0.80
    cohort_summary: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        arm: Its strategy.
        seed: Of the run.
        config: Of the run, `out` being its folder inside the study's.
        name: Folder name; it ends with a hash of all that can change the result, so another configuration is another
            cell.
    """

    arm: Arm
    seed: int
    config: TrainConfig
    name: str


def cells_of(study: StudyConfig, folder: Path) -> tuple[Cell, ...]:
    """All cells, seed after seed and in each the reference arm first, so that pairs are complete early.

    Raises:
        StudyError: Arms differ in more than their kind allows, or one seed or arm stands twice.
    """
    if len(set(study.seeds)) != len(study.seeds) or not study.seeds:
        raise StudyError(f"seeds {study.seeds} must be different, at least one")
    names = [arm.name for arm in study.arms]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise StudyError(f"two arms have the name {twice[0]!r}; tables could not tell their cells apart")
    check_control(study)
    return tuple(_cell(study, arm, seed, folder) for seed in study.seeds for arm in study.arms)


def check_control(study: StudyConfig) -> None:
    """Refuse arms that differ in anything but what the kind of study is about.

    Raises:
        StudyError: Names the arm and the fields, such as steps or the learning rate.
    """
    free = FREE_FIELDS[study.kind]
    reference = configure(study.arms[0], study.base)
    for arm in study.arms[1:]:
        found = differences(reference, configure(arm, study.base))
        wrong = {name: pair for name, pair in found.items() if name not in free}
        if wrong:
            name, (left, right) = next(iter(wrong.items()))
            raise StudyError(
                f"arm {arm.title!r} differs from {study.arms[0].title!r} in {name} ({right!r} against {left!r}); arms "
                f"of a {study.kind} study may differ in {', '.join(sorted(free))} alone"
            )


def write_study(study: StudyConfig, folder: Path) -> None:
    """Write study.json. More seeds or arms than the folder's study has are taken up; finished cells stay.

    Raises:
        StudyError: The folder holds a study that differs in anything else.
    """
    path = folder / STUDY_FILE
    if path.exists():
        known = read_study(folder)
        is_more = set(known.seeds) <= set(study.seeds) and set(known.arms) <= set(study.arms)
        if not is_more or replace(study, seeds=known.seeds, arms=known.arms) != known:
            changed = ", ".join(sorted(differences(known, study)))
            raise StudyError(
                f"this folder holds a study with another {changed}; give another --out (seeds and arms may be added)",
                path=path,
            )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, to_json(study).encode())


def read_study(folder: Path) -> StudyConfig:
    """The study of a folder.

    Raises:
        StudyError: None is there.
    """
    path = folder / STUDY_FILE
    if not path.is_file():
        raise StudyError(
            "no study here, study.json is missing; name the folder of `ctclip study KIND --out`", path=folder
        )
    return from_json(path.read_text(encoding="utf-8"), StudyConfig, path=path)


def _cell(study: StudyConfig, arm: Arm, seed: int, folder: Path) -> Cell:
    config = replace(configure(arm, study.base), seed=seed, out="")
    what = {
        "config": json.loads(to_json(config)),
        "scoring": [study.findings, study.prompts, study.threshold_from, study.threshold_rule],
    }
    digest = xxhash.xxh3_64_hexdigest(json.dumps(what, sort_keys=True).encode())[:10]
    name = f"{arm.name}_seed{seed}_{digest}"
    return Cell(arm, seed, replace(config, out=str(folder / "cells" / name / "run")), name)
