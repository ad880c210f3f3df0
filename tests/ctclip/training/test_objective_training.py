"""Training with an objective other than CLIP: it learns, resumes bit for bit, does not depend on ranks, and refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctclip.config import TrainConfig
from ctclip.data import open_training_data
from ctclip.embed import embed_split
from ctclip.errors import ConfigError
from ctclip.objectives.parameters import OffclipParameters
from ctclip.study_rows import StudyRows
from ctclip.training.loop import train
from tests.ctclip.learnable import SECTIONS, learnable_config, metrics, weights, write_learnable
from tests.ctclip.ranks import next_group, run_ranks

ONE_SENTENCE = OffclipParameters(text_mode="one_sentence")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objective")
    _, cohort = write_learnable(folder, 24, num_test=4)
    return folder, cohort


def offclip(folder: Path, **changes) -> TrainConfig:
    return learnable_config(folder, **{"objective": ("offclip",), "bn_group": 4, **changes})


def test_a_run_learns_its_scalars_logs_its_terms_and_is_embedded_without_them(made, tmp_path):
    folder, cohort = made
    config = offclip(folder, out=str(tmp_path / "run"), steps=4)
    data = open_training_data(config, cohort)
    assert data.rows is not None
    assert 0 < data.rows.normal_rate() < 1
    train(config, cohort=cohort, is_quiet=True)
    saved = weights(config)
    assert saved["objective.off_scale"].item() != pytest.approx(2.302585, abs=1e-4)
    assert all(line["offclip/num_valid"] == 8 for line in metrics(config))
    embedded = embed_split(config.out, cohort=cohort, store=folder / "store", split="test")
    assert embedded.image.shape == (4, 8)


def test_the_filter_leaves_normal_sentences_out_of_abnormal_texts_only(made):
    folder, cohort = made
    data = open_training_data(offclip(folder), cohort)
    assert isinstance(data.rows, StudyRows)
    assert data.rows.kept is not None
    kept = {study: [s.text for s in one.sentences] for study, one in data.rows.kept["report"].items()}
    assert kept["made-up-000"] == ["Normal.", "Normal.", "Normal."]  # normal throughout
    assert kept["made-up-005"] == ["Dense mass.", "Large stone."]
    whole = open_training_data(offclip(folder, offclip=OffclipParameters(filter_text=False)), cohort)
    assert isinstance(whole.rows, StudyRows)
    assert whole.rows.kept is None


@pytest.mark.parametrize("parameters", [OffclipParameters(), ONE_SENTENCE])
def test_a_run_in_two_parts_ends_with_the_bits_of_one(made, tmp_path, parameters):
    folder, cohort = made
    whole = offclip(folder, out=str(tmp_path / "whole"), steps=5, offclip=parameters)
    parts = replace(whole, out=str(tmp_path / "parts"))
    train(whole, cohort=cohort, is_quiet=True)
    train(parts, cohort=cohort, stop_at=2, is_quiet=True)
    train(parts, cohort=cohort, is_quiet=True)
    first, second = weights(whole), weights(parts)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def _train(argument: tuple) -> None:
    config, cohort = argument
    next_group()
    train(config, cohort=cohort, is_quiet=True)


def test_two_ranks_train_as_one_process(made, tmp_path):
    folder, cohort = made
    one = offclip(folder, out=str(tmp_path / "one"), steps=3)
    two = replace(one, out=str(tmp_path / "two"))
    train(one, cohort=cohort, is_quiet=True)
    run_ranks(_train, 2, (two, cohort))
    first, second = weights(one), weights(two)
    assert sorted(first) == sorted(second)
    for line, other in zip(metrics(one), metrics(two), strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)
    for name in ("objective.off_scale", "objective.off_bias", "logit_scale"):
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6)


def test_runs_that_cannot_work_are_refused_before_they_start(made, tmp_path):
    folder, cohort = made
    with pytest.raises(ConfigError, match="'clip' and 'offclip' both have the contrast of studies"):
        train(offclip(folder, out=str(tmp_path / "a"), objective=("clip", "offclip")), cohort=cohort, is_quiet=True)
    anatomy = OffclipParameters(pair_unit="anatomy")
    with pytest.raises(ConfigError, match="needs a label map of anatomies for every training study"):
        train(offclip(folder, out=str(tmp_path / "b"), offclip=anatomy), cohort=cohort, is_quiet=True)
    sick = cohort.table
    for section in SECTIONS:
        sick = sick.append_column(f"abnormal:{section}", [[1] * len(cohort)])
    with pytest.raises(ConfigError, match=r"'liver' has 0 normal, 24 abnormal .* leave it out of data.sections"):
        train(offclip(folder, out=str(tmp_path / "c")), cohort=replace(cohort, table=sick), is_quiet=True)
    assert not (tmp_path / "a").exists()
