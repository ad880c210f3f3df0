"""Finished cells of other studies taken over, where this study would train the very same ones.

A cell is the same when its name, its configuration, its rules of scoring and the digests of its data are. What was
copied keeps the commit, date and machine of its own run; anything else is refused with the reason, and trained.
"""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.data import open_training_data
from ctclip.errors import StudyError
from ctclip.evaluation.zeroshot import ScoreTable
from ctclip.study.cell_run import (
    RESULT_FILE,
    cell_folder,
    digest_scores,
    macro_scores,
    read_result,
    read_tables,
    study_prompts,
)
from ctclip.study.exposure import count_exposure
from ctclip.study.grid import Cell, StudyConfig, cells_of, read_study
from ctclip.study.identity import identify_data
from ctload.errors import CtloadError
from ctload.storage.durable import replace_file
from ctload.storage.lock import StoreLock
from ctload.storage.store import open_store

RUN_FILES = ("config.json", "machine.json", "metrics.jsonl")
_SCORING = ("findings", "prompts", "threshold_from", "threshold_rule")


@dataclass(frozen=True)
class Reuse:
    """What became of one cell that another study has finished.

    Attributes:
        cell: Of this study.
        source: The other study's folder.
        refusal: Why it is not the same; "" where it was taken over.
    """

    cell: Cell
    source: Path
    refusal: str = ""

    def __str__(self) -> str:
        what = f"{self.cell.arm.title}, seed {self.cell.seed}"
        return (
            f"refused {what} of {self.source}: {self.refusal}" if self.refusal else f"taken   {what} of {self.source}"
        )


def reuse_cells(study: StudyConfig, folder: Path, others: Sequence[Path], *, cohort: Cohort) -> list[Reuse]:
    """Copy every finished cell of the others that is one of this study's cells without a result.

    Args:
        study: It wants cells.
        folder: Of the study.
        others: Folders of studies; the first that has a cell gives it.
        cohort: The study's, all its splits.

    Raises:
        StudyError: One of the others holds no study, or is this one.
        StoreBusyError: Another process runs a cell that is to be copied.
    """
    if any(other.resolve() == folder.resolve() for other in others):
        raise StudyError("a study cannot reuse its own cells; they are never run again anyway", path=folder)
    found = []
    for other in others:
        theirs = read_study(other)
        finished = {
            cell.name: cell for cell in cells_of(theirs, other) if (cell_folder(other, cell) / RESULT_FILE).exists()
        }
        for cell in cells_of(study, folder):
            if cell.name in finished and read_result(folder, cell) is None:
                refusal = _difference(study, cell, theirs, finished[cell.name], other, cohort)
                if not refusal:
                    _copy(cell, folder, other, theirs.kind)
                found.append(Reuse(cell, other, refusal))
    return found


def _difference(
    study: StudyConfig, cell: Cell, theirs: StudyConfig, their_cell: Cell, other: Path, cohort: Cohort
) -> str:
    """Why the other's cell is not this one; "" where it is."""
    if replace(cell.config, out="") != replace(their_cell.config, out=""):
        return "its configuration differs"
    if any(getattr(study, name) != getattr(theirs, name) for name in _SCORING):
        return "it was scored by other rules"
    try:
        result = read_result(other, their_cell)
        test, validation = read_tables(other, their_cell)
        assert result is not None
        if result["cell"] != cell.name or result["seed"] != cell.seed:
            return f"{RESULT_FILE} is of another cell"
        if digest_scores(test) != result["scores_digest"] or not _is_equal(
            macro_scores(study, test, validation), result["macro"]
        ):
            return f"scores do not have the digest or the means that {RESULT_FILE} states"
        return _other_data(study, cell, result, test, other, cohort)
    except (CtloadError, OSError, KeyError, TypeError, ValueError) as error:
        return f"its files cannot be read ({error})"


def _other_data(
    study: StudyConfig, cell: Cell, result: dict[str, Any], test: ScoreTable, other: Path, cohort: Cohort
) -> str:
    """How the data differ; "" where they are the same."""
    if "data" not in result:
        return _changed_since(study, cell, result, test, other, cohort)
    ours = asdict(identify_data(cell, cohort, study_prompts(study, cohort)))
    wrong = [name for name, digest in ours.items() if result["data"].get(name) != digest]
    return f"its {' and '.join(wrong)} had other contents (digests differ)" if wrong else ""


def _changed_since(
    study: StudyConfig, cell: Cell, result: dict[str, Any], test: ScoreTable, other: Path, cohort: Cohort
) -> str:
    """For a result that states no digests: its draws and labels must be today's, and no file newer than its run."""
    chosen = replace(cohort, findings=study.findings or cohort.findings).split("test")
    columns = [chosen.findings.index(name) for name in test.findings]
    if test.studies != tuple(chosen.studies) or not np.array_equal(test.labels, chosen.labels()[:, columns]):
        return "it was scored on other studies or labels"
    drawn = count_exposure(open_training_data(cell.config, cohort), steps=cell.config.steps)
    if _drawn(asdict(drawn), chosen.findings) != _drawn(result["exposure"], chosen.findings):
        return "it drew other studies or findings"
    began = (cell_folder(other, cell) / "run" / "config.json").stat().st_mtime
    newer = [path for path in _data_files(study, cell) if path.stat().st_mtime > began]
    return f"it states no digests of its data, and {newer[0]} was written after it began" if newer else ""


def _drawn(exposure: dict[str, Any], findings: Sequence[str]) -> dict[str, Any]:
    """What was drawn; of findings only those of this study, since a cell may have counted more of them."""
    counts = exposure["finding_draws"]
    return {**exposure, "finding_draws": {name: counts.get(name) for name in findings}}


def _data_files(study: StudyConfig, cell: Cell) -> list[Path]:
    """Files of the cohort and of its prompts, and the folder of every packed study."""
    place = Path(cell.config.cohort.split(":", 1)[-1])
    files = [place, *place.glob("*.*")] if place.is_dir() else [place]
    files += [Path(study.prompts)] if study.prompts else []
    store = open_store(cell.config.store)
    return files + [store.path / path for path in store.studies.table["path"].to_pylist()]


def _is_equal(ours: dict[str, float | None], theirs: dict[str, float | None]) -> bool:
    """To rounding: another machine adds in another order."""
    return ours.keys() == theirs.keys() and all(
        (a is None) == (b is None) and (a is None or b is None or math.isclose(a, b, abs_tol=1e-9))
        for a, b in ((ours[name], theirs[name]) for name in ours)
    )


def _copy(cell: Cell, folder: Path, other: Path, kind: str) -> None:
    """What the tables and the page need, the result last."""
    here, there = cell_folder(folder, cell), cell_folder(other, cell)
    here.mkdir(parents=True, exist_ok=True)
    lock = StoreLock(here / "lock", wait_s=0)
    try:
        shutil.rmtree(here / "run", ignore_errors=True)  # of a run that was interrupted
        (here / "run").mkdir()
        for name in RUN_FILES:
            if (there / "run" / name).exists():
                shutil.copy2(there / "run" / name, here / "run" / name)
        for path in sorted(there.glob("scores_*.npz")):
            shutil.copy2(path, here / path.name)
        result = json.loads((there / RESULT_FILE).read_text(encoding="utf-8"))
        replace_file(here / RESULT_FILE, json.dumps({**result, "taken_from": kind}, indent=1).encode())
    finally:
        lock.release()
