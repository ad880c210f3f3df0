"""Weights that are not trained: `train --steps 0 --init merlin.pt`, then embed and evaluate, by the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import ctclip.cli
from ctclip.cohorts.table import write_table
from ctclip.config_json import to_json
from ctclip.embed import open_model, read_embeddings
from ctclip.errors import ConfigError
from ctclip.reports.sections import clean_text
from ctclip.scans.exporting import export_run
from ctclip.training.loop import train
from tests.ctclip.learnable import SECTIONS, learnable_config, write_learnable
from tests.ctclip.models.small_merlin import tiny_merlin, tiny_model_config


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store, a table of test studies alone with label columns of its own, tiny Merlin, and the run's words."""
    folder = tmp_path_factory.mktemp("untrained")
    _, cohort = write_learnable(folder, 8, num_test=16)
    write_table(cohort.split("test"), folder / "held-out.csv")
    torch.save(tiny_merlin(), folder / "merlin.pt")
    prompts = {name: {"positive": [f"{name} : abnormal"], "negative": [f"{name} : normal"]} for name in SECTIONS}
    (folder / "prompts.json").write_text(json.dumps(prompts))
    config = learnable_config(folder)
    model = tiny_model_config(folder / "encoder", [clean_text(report) for report in cohort.reports])
    config = replace(config, model=model, cohort=f"table:{folder / 'held-out.csv'}", findings=SECTIONS)
    (folder / "config.json").write_text(to_json(config))
    return folder, config


def begin(folder, out: str) -> int:
    words = ["train", "--config", str(folder / "config.json"), "--steps", "0", "--init", str(folder / "merlin.pt")]
    return ctclip.cli.main([*words, "--out", str(folder / out)])


def test_merlins_weights_are_embedded_and_evaluated_without_a_training_split(place, capsys):
    folder, _ = place
    run = folder / "merlin"
    assert begin(folder, "merlin") == 0
    assert "not trained" in capsys.readouterr().out
    assert ctclip.cli.main(["embed", "--run", str(run), "--pipeline", "reference"]) == 0
    words = ["evaluate", "--run", str(run), "--prompts", str(folder / "prompts.json"), "--bootstraps", "10"]
    assert ctclip.cli.main([*words, "--parts", "collapse"]) == 0
    scores = json.loads((run / "scores_test.json").read_text())
    assert set(scores["findings"]) == set(SECTIONS)  # the table's own columns, of no known name
    embeddings = read_embeddings(run / "embeddings" / "test.npz")
    assert embeddings.image.shape == (16, 512)
    np.testing.assert_allclose(np.linalg.norm(embeddings.image, axis=1), 1, atol=1e-5)


def test_the_run_holds_the_weights_of_the_file_and_is_left_alone_by_a_second_call(place, tmp_path):
    folder, _ = place
    assert begin(folder, "again") == 0
    header = folder / "again" / "checkpoints" / "step-00000000" / "checkpoint.json"
    first = header.read_bytes()
    assert begin(folder, "again") == 0
    assert header.read_bytes() == first
    merlin = tiny_merlin()
    back = open_model(folder / "again", "cpu")[1].state_dict()
    assert sum(torch.equal(back[name], merlin[name]) for name in back if name in merlin) > 50
    assert export_run(folder / "again", tmp_path / "out.pt").made_up == ()


def test_label_columns_are_named_on_the_command_line(place, capsys):
    folder, _ = place
    assert begin(folder, "named") == 0
    run, table = folder / "named", f"table:{folder / 'held-out.csv'}"
    assert ctclip.cli.main(["embed", "--run", str(run), "--pipeline", "reference"]) == 0
    words = ["evaluate", "--run", str(run), "--bootstraps", "10", "--parts", "collapse"]
    prompts = {
        name: entry for name, entry in json.loads((folder / "prompts.json").read_text()).items() if name != "kidneys"
    }
    (folder / "two.json").write_text(json.dumps(prompts))
    words += ["--prompts", str(folder / "two.json")]
    assert ctclip.cli.main([*words, "--cohort", table, "--findings", "spleen", "liver"]) == 0
    assert list(json.loads((run / "scores_test.json").read_text())["findings"]) == ["spleen", "liver"]
    assert ctclip.cli.main([*words, "--findings", "heart"]) == 2
    assert "columns ['heart'] are missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"init": "random"}, "steps=0 must be at least 1, or 0 with init"),
        ({"model": None}, "name the encoder"),
        ({"objective": ("offclip",)}, "minimises nothing"),
        ({"steps": -1}, "steps=-1 must be at least 1"),
    ],
)
def test_what_cannot_be_a_run_of_given_weights_is_refused(place, changes, words):
    folder, config = place
    if "model" in changes:
        changes = {"model": learnable_config(folder).model}
    given = {"steps": 0, "init": str(folder / "merlin.pt"), "out": str(folder / "refused"), **changes}
    with pytest.raises(ConfigError, match=words):
        train(replace(config, **given), is_quiet=True)
    assert not (folder / "refused").exists()
