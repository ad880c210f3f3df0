"""The main job on real input, through the command line: real CT studies with real reports are packed, trained on,
stopped, resumed, embedded and scored with a published prompt file.

No real CT with its own report can be had for a test, so a table pairs each study with a report of another patient:
what is learned here means nothing, every step on the way is real.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

import ctclip.cli
import ctload.cli
from ctclip.config import TrainConfig
from ctclip.config_json import from_json
from ctclip.embed import read_embeddings
from ctclip.training.loop import train
from ctload.storage.store import open_store
from tests.shared_data import ct, labels, reports

VOLUMES = (
    "crlm_ct_1004_abdomen/dicom.zip",
    "cptac_c3n00247_chest/dicom.zip",
    "totalseg_example_torso/example_ct.nii.gz",
    "crlm_ct_1004_abdomen/nifti_dcm2niix/2_CT_CH_AB_PEL.nii.gz",
    "totalseg_example_torso/example_ct_sm.nii.gz",
    "niivue_ct_avm/CT_AVM.nii.gz",
)
SPLITS = ("train", "train", "train", "train", "test", "test")
FINDINGS = {"Atelectasis": "atelectasis", "Cardiomegaly": "cardiomegaly", "Pleural effusion": "pleural_effusion"}
PROMPTS = "merlin_zero_shot_prompts_radar.json"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """studies.csv: real volumes, each with a real report and its labels; the two test studies differ in all labels."""
    with reports("ctrate_ctclip_labelled_reports.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    sick = next(row for row in rows if all(row[name] == "1" for name in FINDINGS))
    well = next(row for row in rows if all(row[name] == "0" for name in FINDINGS))
    chosen = [*[row for row in rows if row not in (sick, well)][:4], sick, well]
    folder = tmp_path_factory.mktemp("main_job")
    with (folder / "studies.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "patient", "path", "report", "split", *FINDINGS.values()])
        for number, (volume, split, row) in enumerate(zip(VOLUMES, SPLITS, chosen, strict=True)):
            values = [row[name] for name in FINDINGS]
            writer.writerow([f"real-{number}", f"patient-{number}", ct(volume), row["report_text"], split, *values])
    return folder / "studies.csv"


def test_real_studies_go_from_files_to_zero_shot_scores(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, run = table.parent / "store.zarr", table.parent / "run"
    pack = ["pack", str(table), "--out", str(store), "--preset", "merlin", "--workers", "2"]
    assert ctload.cli.main(pack) == 0
    assert ctload.cli.main(["verify", str(store)]) == 0
    opened = open_store(store)
    assert len(opened) == len(VOLUMES)
    assert {tuple(shape) for shape in opened.studies.shapes.tolist()} == {(160, 224, 224)}

    words = ["train", "--preset", "tiny", "--cohort", f"table:{table}", "--store", str(store), "--out", str(run)]
    words += ["--steps", "4", "--data.batch-size", "2", "--data.crop", "32", "64", "64", "--data.crop-at", "random"]
    words += ["--data.pipeline", "dali", "--data.windows-hu", "-150", "250", "--threads", "1", "--device", "cpu"]
    config = train_stopped(words, run, stop_at=2)
    assert ctclip.cli.main(words) == 0
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 4

    whole = train(replace(config, out=str(table.parent / "whole")), is_quiet=True)
    assert newest_weights(run) == newest_weights(whole.run), "a resumed run must end with the bits of a whole one"

    assert ctclip.cli.main(["embed", "--run", str(run), "--split", "test"]) == 0
    assert read_embeddings(run / "embeddings" / "test.npz").study == ("real-4", "real-5")
    capsys.readouterr()
    prompts = str(labels(PROMPTS))
    assert ctclip.cli.main(["evaluate", "--run", str(run), "--split", "test", "--prompts", prompts]) == 0
    assert "always positive" in capsys.readouterr().out
    scores = json.loads((run / "scores_test.json").read_text())
    assert set(scores["findings"]) == set(FINDINGS.values())
    assert all(entry["auroc"]["value"] in (0.0, 0.5, 1.0) for entry in scores["findings"].values())


def train_stopped(words: list[str], run: Path, *, stop_at: int) -> TrainConfig:
    """The run of a command line, ended after `stop_at` steps as SIGTERM would end it."""
    saved: list[TrainConfig] = []

    def stopping(config: TrainConfig):
        saved.append(config)
        return train(config, stop_at=stop_at, is_quiet=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctclip.verbs.train_run", stopping)
        assert ctclip.cli.main(words) == 0
    assert from_json((run / "config.json").read_text(), TrainConfig) == saved[0]
    return saved[0]


def newest_weights(run: Path) -> bytes:
    """The bytes of the newest checkpoint's weights."""
    newest = max((run / "checkpoints").iterdir())
    return (newest / "model.safetensors").read_bytes()
