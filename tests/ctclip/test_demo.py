"""The demo's path at a size of seconds, through the command line; its scores mean nothing at that size."""

import json
import re
from pathlib import Path

import pytest

import ctclip.cli
from ctclip.demo import DemoConfig, run_demo
from ctclip.errors import ConfigError
from ctclip.phantom.knobs import DEMO_FINDINGS
from ctclip.training.checkpoint import read_checkpoint

SIZE = ("--num-train", "40", "--num-val", "12", "--num-test", "16", "--steps", "2", "--workers", "1", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    assert ctclip.cli.main(["demo", "--out", str(out), *SIZE]) == 0
    return out


def config_of(folder: Path, **changes) -> DemoConfig:
    settings = json.loads((folder / "demo.json").read_text())
    return DemoConfig(out=folder, workers=1, **{**settings, **changes})


def test_the_page_needs_no_network_and_says_that_all_is_synthetic(folder: Path) -> None:
    page = (folder / "demo.html").read_text()
    assert "Everything on this page is synthetic" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert page.count("data:image/png;base64,") == 1  # the slices; every other picture is drawn in the page
    assert page.count("<svg") == 8
    assert "Prompt robustness" in page


def test_the_training_went_through_dali(folder: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI (pip install 'ctload[dali]')")
    checkpoint = read_checkpoint(folder / "run")
    assert checkpoint.environment["pipeline"] == "dali"


def test_scores_cover_the_demo_findings_beside_the_trivial_baseline(folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    assert set(scores["findings"]) == set(DEMO_FINDINGS)
    assert scores["macro"]["trivial"]["f1_balanced"] == pytest.approx(2 / 3)
    assert (scores["stamp"]["threshold_from"], scores["stamp"]["synthetic"]) == ("val", "yes")


def test_running_it_again_keeps_what_is_there_and_scores_the_same(folder: Path) -> None:
    before = json.loads((folder / "scores.json").read_text())
    table = (folder / "phantoms" / "studies.csv").stat().st_mtime_ns
    assert run_demo(config_of(folder)) == (folder / "demo.html").resolve()
    assert (folder / "phantoms" / "studies.csv").stat().st_mtime_ns == table
    assert json.loads((folder / "scores.json").read_text()) == before


def test_a_folder_with_another_demo_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="other settings"):
        run_demo(config_of(folder, steps=3))
