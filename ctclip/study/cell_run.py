"""One cell of a study: trained, embedded, scored, its result written last and at once.

A cell whose result is there is never run again; a cell that was killed goes on from its newest checkpoint.
"""

import json
import shutil
import time
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import xxhash

from ctclip.cohorts.cohort import Cohort
from ctclip.data import config_cohort, open_training_data
from ctclip.embed import TextEmbedder, embed_split, write_embeddings
from ctclip.errors import StudyError
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.scoring import embeddings_path, score_split
from ctclip.evaluation.zeroshot import ScoreTable, load_scores, save_scores
from ctclip.study.exposure import count_exposure
from ctclip.study.grid import Cell, StudyConfig
from ctclip.study.identity import identify_data
from ctclip.texts.prompts import PromptSet, default_prompts, load_prompts
from ctclip.training.distributed import choose_device
from ctclip.training.loop import train
from ctclip.training.runlog import commit, machine_facts
from ctload.storage.durable import replace_file
from ctload.storage.lock import StoreLock

RESULT_FILE = "result.json"
METRICS = ("auroc", "f1", "f1_balanced", "average_precision")


def cell_folder(folder: Path, cell: Cell) -> Path:
    """Where a study keeps a cell."""
    return folder / "cells" / cell.name


def read_result(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """The result of a finished cell, else None."""
    path = cell_folder(folder, cell) / RESULT_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_tables(folder: Path, cell: Cell) -> tuple[ScoreTable, ScoreTable | None]:
    """Score tables of a finished cell: test, and val where thresholds come from it."""
    here = cell_folder(folder, cell)
    validation = here / "scores_val.npz"
    return load_scores(here / "scores_test.npz"), load_scores(validation) if validation.exists() else None


def macro_scores(study: StudyConfig, test: ScoreTable, validation: ScoreTable | None) -> dict[str, float | None]:
    """The means over findings that a result keeps."""
    options = EvaluateOptions(
        threshold_from=study.threshold_from, threshold_rule=study.threshold_rule, num_bootstraps=20
    )
    macro = report_scores(test, options=options, validation=validation)["macro"]
    return {metric: macro[metric]["value"] for metric in METRICS}


def digest_scores(table: ScoreTable) -> str:
    """xxh3_64, hex, of every score."""
    return xxhash.xxh3_64_hexdigest(table.scores.tobytes())


def study_prompts(study: StudyConfig, cohort: Cohort) -> PromptSet:
    """The prompts that score a study's findings."""
    return load_prompts(Path(study.prompts)) if study.prompts else default_prompts(study.findings or cohort.findings)


def run_cell(
    study: StudyConfig, cell: Cell, folder: Path, *, cohort: Cohort | None = None, wait_s: float = 0
) -> dict[str, Any]:
    """Run a cell, or find its result.

    Args:
        study: It belongs to.
        cell: To run.
        folder: Of the study.
        cohort: In place of opening the configuration's; all its splits.
        wait_s: How long to wait for another process that runs this cell, such as one that a killed grid left.

    Raises:
        StudyError: Training was stopped by a signal; the same call goes on.
        StoreBusyError: Another process still runs this cell.
    """
    here = cell_folder(folder, cell)
    here.mkdir(parents=True, exist_ok=True)
    lock = StoreLock(here / "lock", wait_s=wait_s)
    try:
        done = read_result(folder, cell)
        return done if done is not None else _run(study, cell, here, cohort)
    finally:
        lock.release()


def _run(study: StudyConfig, cell: Cell, here: Path, cohort: Cohort | None) -> dict[str, Any]:
    started = time.time()
    cohort = config_cohort(cell.config) if cohort is None else cohort
    data = identify_data(cell, cohort, study_prompts(study, cohort))
    trained = train(cell.config, cohort=cohort, is_quiet=True)
    if trained.was_stopped:
        raise StudyError(f"cell {cell.name} was stopped at step {trained.steps}; the same command goes on", path=here)
    tables = _score(study, cell, cohort)
    for split, table in tables.items():
        save_scores(table, here / f"scores_{split}.npz")
    exposure = count_exposure(open_training_data(cell.config, cohort), steps=cell.config.steps)
    result = {
        "cell": cell.name,
        "arm": asdict(cell.arm),
        "seed": cell.seed,
        "macro": macro_scores(study, tables["test"], tables.get("val")),
        "scores_digest": digest_scores(tables["test"]),
        "data": asdict(data),
        "last_loss": trained.loss,
        "exposure": asdict(exposure),
        "seconds": time.time() - started,
        "commit": commit(),
        "date": date.today().isoformat(),
        "machine": machine_facts(choose_device(cell.config.device)),
    }
    replace_file(here / RESULT_FILE, json.dumps(result, indent=1).encode())
    shutil.rmtree(Path(cell.config.out) / "checkpoints", ignore_errors=True)  # scores and log are what a study keeps
    return result


def _score(study: StudyConfig, cell: Cell, cohort: Cohort) -> dict[str, ScoreTable]:
    """Score tables by split: "test", and "val" where thresholds come from it."""
    run = Path(cell.config.out)
    prompts = study_prompts(study, cohort)
    chosen = replace(cohort, findings=study.findings or cohort.findings)
    embedder = TextEmbedder(run)
    tables = {}
    for split in ("test", "val") if study.threshold_from == "val" else ("test",):
        embeddings = embed_split(run, cohort=cohort, store=cell.config.store, split=split)
        write_embeddings(embeddings, embeddings_path(run, split))
        tables[split] = score_split(run, chosen, split, prompts=prompts, embed_texts=embedder, aggregate="similarities")
    return tables
