"""A planted effect is found with its sign: the real arms, samplers and statistics around a learner in closed form.

Texts of abnormal sections are flipped as `planted:75:25` does (ctclip/phantom/planting.py), so batches with few
abnormal studies must win. The learner is the contrast of that file's formula: the mean image of the texts that name a
finding less that of the texts that do not.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.config import DataConfig, TrainConfig
from ctclip.data import TrainingData
from ctclip.drawing import make_sampler
from ctclip.evaluation.zeroshot import ScoreTable, save_scores
from ctclip.phantom.planting import FLIPS, efficiency
from ctclip.study.arm import arms_of
from ctclip.study.cell_run import RESULT_FILE, cell_folder
from ctclip.study.comparison import OPPOSITE, SAME
from ctclip.study.exposure import count_exposure
from ctclip.study.grid import Cell, StudyConfig, cells_of
from ctclip.study.summary import summarise
from ctclip.texts.text_units import TextUnits
from ctload.storage.manifest import Studies

SECTIONS = ("liver", "spleen", "kidneys")
NUM_TRAIN, NUM_VAL, NUM_TEST, NUM_DIMS = 900, 150, 450, 40
SHIFT = 2.0  # of an abnormal image along its finding's direction, in standard deviations


def made_up_data(planted: str, seed: int = 0) -> tuple[Cohort, np.ndarray, np.ndarray]:
    """The cohort (train, then test), images (N, F, D), and what the texts say (N, F)."""
    rng = np.random.default_rng((seed, 11))
    num = NUM_TRAIN + NUM_VAL + NUM_TEST
    truth = rng.random((num, len(SECTIONS))) < 0.5
    flip_abnormal, flip_normal = FLIPS[planted]
    told = truth ^ (rng.random(truth.shape) < np.where(truth, flip_abnormal, flip_normal))
    images = rng.normal(size=(*truth.shape, NUM_DIMS))
    images[..., 0] += SHIFT * truth
    splits = ["train"] * NUM_TRAIN + ["val"] * NUM_VAL + ["test"] * NUM_TEST
    names = [f"s{row}" for row in range(num)]
    columns = {"study": names, "patient": names, "path": names, "report": ["Liver: x."] * num, "split": splits}
    columns |= {f"finding_{name}": truth[:, column].astype(np.int8) for column, name in enumerate(SECTIONS)}
    columns |= {f"abnormal:{name}": truth[:, column].astype(np.int8) for column, name in enumerate(SECTIONS)}
    columns["abnormal:report"] = (truth.sum(axis=1) > 1).astype(np.int8)
    findings = tuple(f"finding_{name}" for name in SECTIONS)
    cohort = make_cohort(pa.table(columns), name="made-up", findings=findings, synthetic=True)
    return cohort, images, told


def learn(data: TrainingData, steps: int, images: np.ndarray, told: np.ndarray) -> np.ndarray:
    """(F, D) contrasts of length 1 from every draw of a run in a section's step."""
    bound = data.sampler.bind(data.studies)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in ("report", *SECTIONS)}
    for number in range(steps):
        batch = bound.draw(*divmod(number, bound.num_batches))
        drawn[batch.unit].append(batch.rows)
    contrasts = []
    for column, name in enumerate(SECTIONS):
        rows = np.concatenate(drawn[name])
        names_it = told[rows, column]
        contrast = images[rows[names_it], column].mean(0) - images[rows[~names_it], column].mean(0)
        contrasts.append(contrast / np.linalg.norm(contrast))
    return np.stack(contrasts)


def run_in_closed_form(study: StudyConfig, cell: Cell, folder: Path, planted: str) -> None:
    """What `run_cell` leaves, without training."""
    cohort, images, told = made_up_data(planted)
    train = cohort.split("train")
    sampler = make_sampler(cell.config.data, SECTIONS, seed=cell.seed)
    columns = [name for name in train.table.column_names if name not in ("path", "patient", "report", "split")]
    data = TrainingData(train, Studies(train.table.select(columns)), TextUnits((), {}), sampler, "reference", {})
    contrasts = learn(data, cell.config.steps, images, told)
    here = cell_folder(folder, cell)
    here.mkdir(parents=True)
    for split, start in (("val", NUM_TRAIN), ("test", NUM_TRAIN + NUM_VAL)):
        part = cohort.split(split)
        scores = np.einsum("nfd,fd->nf", images[start : start + len(part)], contrasts) / 10
        table = ScoreTable(
            tuple(part.studies), tuple(part.patients), cohort.findings, part.labels(), scores,
            np.full(len(part), np.nan), (part.labels().sum(1) == 0).astype(np.int8),
        )  # fmt: skip
        save_scores(table, here / f"scores_{split}.npz")
    exposure = count_exposure(data, steps=cell.config.steps)
    (here / RESULT_FILE).write_text(json.dumps({"exposure": asdict(exposure), "seconds": 0.0}))


def summary_of(planted: str, folder: Path) -> dict:
    base = TrainConfig(
        cohort="phantom:made-up", store="none", steps=224, data=DataConfig(batch_size=8, sections=SECTIONS)
    )
    study = StudyConfig(
        "batch-composition", base, arms_of("batch-composition", ratios=("25:75", "75:25")), tuple(range(5)),
        num_bootstraps=200,
    )  # fmt: skip
    for cell in cells_of(study, folder):
        run_in_closed_form(study, cell, folder, planted)
    return summarise(study, folder)


@pytest.mark.parametrize(("planted", "sign"), [("75:25", 1), ("25:75", -1)])
def test_a_planted_ratio_is_found_with_its_sign_and_its_twin_shares_it(tmp_path, planted, sign):
    summary = summary_of(planted, tmp_path)
    assert np.sign(efficiency(0.25, planted) - efficiency(0.75, planted)) == sign
    effects = {effect["name"]: effect for effect in summary["effects"]["auroc"]}
    found = effects["75:25 - 25:75"]
    assert found["value"] * sign > 0.03
    assert found["p_holm"] < 0.05
    loser = "25:75" if sign > 0 else "75:25"
    assert effects[f"{loser}-twin - random"]["value"] < -0.03
    for ratio in ("25:75", "75:25"):  # exposure alone makes the effect, so a ratio less its twin is nothing
        assert effects[f"{ratio} - {ratio}-twin"]["value"] == pytest.approx(0, abs=1e-12)
        assert effects[f"{ratio} - {ratio}-twin"]["p"] == 1
    assert summary["is_strong_enough"]
    verdicts = {claim["claim"]: claim["verdict"] for claim in summary["claims"]}
    assert verdicts["75:25 is better than 25:75"] == (SAME if sign > 0 else OPPOSITE)
    for row in summary["findings"]:
        if row["name"] == "75:25 - 25:75":
            assert all(entry["difference"] * sign > 0 for entry in row["findings"].values())


def test_where_nothing_is_planted_the_two_ratios_are_not_told_apart(tmp_path):
    assert efficiency(0.25, "none") == efficiency(0.75, "none")
    summary = summary_of("none", tmp_path)
    (found,) = (effect for effect in summary["effects"]["auroc"] if effect["name"] == "75:25 - 25:75")
    assert abs(found["value"]) < 0.02
    assert found["p_holm"] > 0.05
