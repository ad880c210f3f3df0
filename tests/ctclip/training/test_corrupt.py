"""Damaged studies in a training: refused by name, or replaced, recorded on every rank, and resumed exactly."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ctclip.training.checkpoint import read_checkpoint
from ctclip.training.loop import train
from ctclip.training.runlog import read_metrics
from ctload.errors import ChecksumError
from ctload.loading.quarantine import DamagedStudyWarning
from ctload.storage.layout import shard_file, study_folder
from tests.ctclip.learnable import learnable_config, write_learnable
from tests.ctclip.ranks import run_ranks, train_on

VICTIMS = ("made-up-005", "made-up-014")
replaces = pytest.mark.filterwarnings(f"ignore::{DamagedStudyWarning.__module__}.DamagedStudyWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with two damaged studies."""
    folder = tmp_path_factory.mktemp("damaged")
    store, cohort = write_learnable(folder)
    for study in VICTIMS:
        shard = store.path / study_folder(study) / shard_file("0")
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 16
        shard.write_bytes(content)
    return folder, cohort


def config_of(folder, name: str, on_corrupt: str = "replace"):
    config = learnable_config(folder, name=name, log_every=1, checkpoint_every=2)
    return replace(config, data=replace(config.data, on_corrupt=on_corrupt))


def test_a_damaged_study_stops_the_run_by_name(made):
    folder, cohort = made
    with pytest.raises(ChecksumError, match="made-up-0"):
        train(config_of(folder, "raise", "raise"), cohort=cohort, is_quiet=True)


def test_replaced_studies_are_warned_of_counted_and_written_down(made):
    folder, cohort = made
    with pytest.warns(DamagedStudyWarning) as caught:
        result = train(config_of(folder, "whole"), cohort=cohort, is_quiet=True)
    assert len(caught) == 2
    written = json.loads((result.run / "quarantine.json").read_text())
    assert {record["study"] for record in written} == set(VICTIMS)
    assert read_checkpoint(result.run).loader_state["quarantine"] == written
    assert read_metrics(result.run)[-1]["num_quarantined"] == 2


@replaces
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(made):
    folder, cohort = made
    if not (folder / "whole").exists():
        train(config_of(folder, "whole"), cohort=cohort, is_quiet=True)
    train(config_of(folder, "parts"), cohort=cohort, stop_at=3, is_quiet=True)
    first = read_checkpoint(folder / "parts").loader_state["quarantine"]
    train(config_of(folder, "parts"), cohort=cohort, is_quiet=True)
    whole, parts = read_checkpoint(folder / "whole"), read_checkpoint(folder / "parts")
    assert first
    assert parts.loader_state == whole.loader_state
    ours, theirs = (load_file(one.path / "model.safetensors") for one in (parts, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@replaces
def test_a_run_stopped_by_damage_goes_on_when_it_may_replace(made):
    folder, cohort = made
    shutil.rmtree(folder / "raise", ignore_errors=True)
    with pytest.raises(ChecksumError):
        train(config_of(folder, "raise", "raise"), cohort=cohort, is_quiet=True)
    result = train(config_of(folder, "raise"), cohort=cohort, is_quiet=True)
    assert result.steps == 6


@replaces
def test_every_ranks_quarantine_is_in_the_checkpoint(made):
    folder, cohort = made
    if not (folder / "whole").exists():
        train(config_of(folder, "whole"), cohort=cohort, is_quiet=True)
    config = replace(config_of(folder, "ranks"), bn_group=4, checkpoint_every=6)
    run_ranks(train_on, 2, (config, cohort, None))
    alone, ranks = (read_checkpoint(folder / name).loader_state["quarantine"] for name in ("whole", "ranks"))
    assert [(one["study"], one["substitute"], one["step"]) for one in ranks] == [
        (one["study"], one["substitute"], one["step"]) for one in alone
    ]
    assert json.loads((folder / "ranks" / "quarantine.json").read_text()) == ranks
