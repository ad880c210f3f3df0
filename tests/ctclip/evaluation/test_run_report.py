"""`ctclip evaluate` and `ctclip compare` on a run of phantoms with masks, from the command line to JSON and page."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ctclip.cli
from ctclip.cohorts.phantom import make_phantom_cohort
from ctclip.config import ImageConfig, TextConfig
from ctclip.data import windows
from ctclip.embed import open_model
from ctclip.errors import EvaluationError
from ctclip.evaluation import pointing_game
from ctclip.evaluation.diagnostics import PARTS
from ctclip.evaluation.pointing_game import PointingOptions, play_pointing_game
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.scoring import part_name
from ctclip.evaluation.token_map import TokenMap, token_maps
from ctclip.phantom.catalogue import FINDINGS
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import Knobs
from ctclip.presets import preset
from ctclip.texts.prompts import Prompts, PromptSet
from ctclip.training.loop import train
from ctload.geometry import Box
from ctload.packing.packer import pack
from ctload.storage.store import open_store

FEW = EvaluateOptions(num_bootstraps=30)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder with phantoms/, store/ and run/, the cohort)."""
    folder = tmp_path_factory.mktemp("evaluate")
    knobs = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.25))
    splits = {"train": 0.5, "val": 0.2, "test": 0.3}
    grid = Grid.covering((24, 32, 32))
    cohort = make_phantom_cohort(folder / "phantoms", 40, seed=5, grid=grid, knobs=knobs, splits=splits, has_masks=True)
    pack([folder / "phantoms" / "studies.csv"], folder / "store", preset="native")
    config = preset("tiny", cohort=f"phantom:{folder / 'phantoms'}", store=str(folder / "store"), steps=2, threads=1,
                    out=str(folder / "run"), device="cpu")  # fmt: skip
    image, text = (
        ImageConfig(widths=(4, 4, 8, 8), stem_width=4),
        TextConfig(vocabulary=400, width=16, layers=1, heads=2),
    )
    data = replace(config.data, schedule="full", pipeline="reference", batch_size=8)
    config = replace(config, data=data, model=replace(config.model, image=image, text=text, embedding_dim=16))
    train(config, is_quiet=True)
    for split in ("val", "test"):
        words = ["embed", "--run", str(folder / "run"), "--split", split, "--pipeline", "reference"]
        assert ctclip.cli.main(words) == 0
    return folder, cohort


@pytest.fixture(scope="module")
def report(made):
    run = made[0] / "run"
    words = ["evaluate", "--run", str(run), "--bootstraps", "30", "--thresholds", "val", "--pointing", "finding"]
    assert ctclip.cli.main(words) == 0
    return json.loads((run / "scores_test.json").read_text())


def test_everything_is_in_the_json_with_its_stamps(made, report):
    assert {*PARTS, "pointing", "findings", "macro", "normal", "undefined", "left_out"} <= set(report)
    stamp = report["stamp"]
    assert (stamp["label_source"], stamp["synthetic"], stamp["threshold_from"]) == ("truth", "yes", "val")
    assert len(stamp["checkpoint"]) == 32
    assert set(report["retrieval"]["image_to_text"]["recall"]) == {"1", "5", "10"}
    assert len(report["robustness"]["macro_auroc"]) == 10


def test_every_part_has_its_place_on_the_page(made, report):
    page = (made[0] / "run" / "evaluation_test.html").read_text()
    for heading in ("Scores", "Retrieval", "Prompt robustness", "Collapse", "Pointing game", "Stamps"):
        assert f">{heading}" in page


def test_parts_can_be_left_out(made, report, capsys):
    run = made[0] / "run"
    assert ctclip.cli.main(["evaluate", "--run", str(run), "--bootstraps", "10", "--parts", "collapse"]) == 0
    few = json.loads((run / "scores_test.json").read_text())
    assert "collapse" in few
    assert not {"retrieval", "robustness", "pointing"} & set(few)
    assert "evaluation_test.html" in capsys.readouterr().out


def test_a_run_compared_with_itself_differs_in_nothing(made, report, tmp_path, capsys):
    run, page, out = str(made[0] / "run"), tmp_path / "ab.html", tmp_path / "ab.json"
    words = ["compare", run, run, "--bootstraps", "20", "--page", str(page), "--out", str(out)]
    assert ctclip.cli.main(words) == 0
    compared = json.loads(out.read_text())
    assert compared["macro"]["auroc"]["difference"] == 0
    assert compared["macro"]["auroc"]["p"] == 1
    assert "no difference" in page.read_text()
    assert str(page) in capsys.readouterr().out


def test_the_pointing_game_asks_for_every_mask_of_a_present_finding(made, report):
    held_out = made[1].split("test")
    present = dict(zip(FINDINGS, (held_out.labels() == 1).sum(0).tolist(), strict=True))
    asked = {name: entry["num"] + entry["num_empty"] for name, entry in report["pointing"]["findings"].items()}
    assert asked == {name: present[name] for name in asked}
    assert sum(asked.values()) > 30
    assert 0 < report["pointing"]["chance"] < 0.5
    assert len(report["pointing"]["token_grid"]) == 3


def test_the_mean_of_the_tokens_is_the_embedding(made):
    folder, _ = made
    store = open_store(folder / "store")
    studies = store.studies.take(np.arange(3))
    loaded, model, _ = open_model(folder / "run", "cpu")
    maps = list(token_maps(folder / "run", studies, device="cpu", batch_size=2, pipeline="reference"))
    assert [one.study for one in maps] == list(studies.ids)
    for one in maps:
        assert one.box == Box.whole((24, 32, 32))
        volume = torch.from_numpy(store.read(one.study).astype(np.float32))[None, None]
        channels = [(volume.clip(w.low, w.high) - w.low) / (w.high - w.low) for w in windows(loaded.config.data)]
        with torch.inference_mode():
            expected = model.encode_image(torch.cat(channels, 1))[0].numpy()
        np.testing.assert_allclose(one.tokens.mean((0, 1, 2)), expected, atol=1e-4)


def see(store_path, sign):
    """A tower that sees every finding exactly where its mask is (sign 1) or everywhere else (sign -1)."""

    def maps(run, studies, **options):
        store = open_store(store_path)
        for study in studies.ids:
            shape = store.read(study).shape
            tokens = np.zeros((*shape, len(FINDINGS)), np.float32)
            stored = store.studies.table["labels"][store.studies.row_of(study)].as_py()
            for name in sorted({*stored} & {*FINDINGS}):
                tokens[store.read(study, array=f"labels/{name}") > 0, FINDINGS.index(name)] = sign
            yield TokenMap(study, Box.whole(shape), tokens)

    return maps


def play(made, pointing=None, **changes):
    folder, cohort = made
    given = {"cohort": cohort.split("test"), "store": folder / "store"} | changes
    prompts = PromptSet("one", {name: Prompts((name,), (f"no {name}",)) for name in FINDINGS})
    return play_pointing_game(
        folder / "run", given["cohort"], store=given["store"], prompts=prompts, options=FEW, is_quiet=True,
        embed_texts=lambda texts: np.eye(len(FINDINGS))[[FINDINGS.index(text) for text in texts]],
        pointing=pointing or PointingOptions(),
    )  # fmt: skip


def test_a_tower_that_sees_scores_one_and_one_that_looks_elsewhere_zero(made, monkeypatch):
    monkeypatch.setattr(pointing_game, "token_maps", see(made[0] / "store", 1))
    assert play(made)["accuracy"] == {"value": 1, "low": 1, "high": 1, "num_draws": 30, "is_flagged": False}
    monkeypatch.setattr(pointing_game, "token_maps", see(made[0] / "store", -1))
    assert play(made)["accuracy"]["value"] == 0
    far = play(made, PointingOptions(tolerance_mm=5000, mask_kind="organ"))
    assert far["accuracy"]["value"] == 1
    assert (far["mask_kind"], far["tolerance_mm"]) == ("organ", 5000)


def test_a_store_without_such_label_maps_is_refused(made, tmp_path):
    bare = make_phantom_cohort(tmp_path / "bare", 3, seed=5, grid=Grid.covering((24, 32, 32)))
    pack([tmp_path / "bare" / "studies.csv"], tmp_path / "store", preset="native")
    with pytest.raises(EvaluationError, match=r"label map.*label:<finding>"):
        play(made, cohort=bare, store=tmp_path / "store")
    with pytest.raises(EvaluationError, match="mask_kind='lesion'"):
        PointingOptions(mask_kind="lesion")


def write_release(folder):
    """RAD-ChestCT as it is released, with volumes of the run's shape."""
    columns = ["emphysema*lung", "nodule*left_lung", "calcification*aorta"]
    rng = np.random.default_rng(0)
    for split, prefix in (("train", "trn"), ("valid", "val"), ("test", "tst")):
        lines = [",".join(["NoteAcc_DEID", *columns])]
        for number in range(6):
            lines.append(f"{prefix}{number},{number % 2},{int(number < 3)},{int(number > 3)}")
            (folder / "volumes").mkdir(parents=True, exist_ok=True)
            np.savez(folder / "volumes" / f"{prefix}{number}.npz", ct=rng.integers(-1000, 500, (24, 32, 32), np.int16))
        (folder / f"img{split}_Abnormality_and_Location_Labels.csv").write_text("\n".join(lines) + "\n")


def test_files_of_another_cohort_bear_its_name():
    assert part_name("phantom:made/p", None, "test") == "test"
    assert part_name("phantom:made/p", f"phantom:{Path.cwd()}/made/p", "test") == "test"  # the same folder
    first, second = (part_name("phantom:made/p", f"table:{folder}/studies.csv", "val") for folder in "ab")
    assert first != second
    assert re.fullmatch(r"table-studies-[0-9a-f]{6}_val", first)


def test_rad_chestct_goes_from_its_release_through_a_store_to_scores(made, tmp_path, capsys):
    write_release(tmp_path / "release")
    report = pack([tmp_path / "release" / "volumes"], tmp_path / "store", preset="native")
    assert (len(report.packed), report.refused) == (18, ())
    run = tmp_path / "run"
    shutil.copytree(made[0] / "run", run)
    cohort, store = f"rad-chestct:{tmp_path / 'release'}", str(tmp_path / "store")
    words = ["embed", "--run", str(run), "--cohort", cohort, "--store", store, "--pipeline", "reference"]
    assert ctclip.cli.main(words) == 0
    own = (run / "embeddings" / "test.npz").read_bytes()
    assert ctclip.cli.main(["evaluate", "--run", str(run), "--cohort", cohort, "--bootstraps", "10"]) == 0
    assert (run / "embeddings" / "test.npz").read_bytes() == own  # the run's own cohort keeps its files
    (path,) = run.glob("scores_rad-chestct-release-*_test.json")
    assert (run / path.name.replace("scores", "evaluation")).with_suffix(".html").is_file()
    assert str(path) in capsys.readouterr().out
    scores = json.loads(path.read_text())
    assert set(scores["findings"]) == {"Emphysema", "Lung nodule", "Calcification"}
    assert scores["left_out"]["retrieval"] == "the cohort has no reports"
    assert (scores["stamp"]["label_source"], scores["stamp"]["synthetic"]) == ("csv", "no")
    assert ctclip.cli.main(["train", "--cohort", cohort, "--store", store, "--out", str(tmp_path / "new")]) == 2
    assert "6 of 6 studies have no report" in capsys.readouterr().err
