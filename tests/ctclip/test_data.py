"""From a cohort and a store to batches of volumes and tokens."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from ctclip.cohorts.source import read_cohort
from ctclip.config import DataConfig, TrainConfig
from ctclip.config_check import check_config
from ctclip.data import (
    choose_pipeline,
    join_cohort,
    loader_device,
    num_channels,
    open_loader,
    open_training_data,
    to_train_batch,
    training_crop,
)
from ctclip.drawing import drawable_sections, join_columns, make_sampler
from ctclip.errors import CohortError, ConfigError
from ctclip.models.text import TextTokenizer, write_text_folder
from ctclip.training.distributed import World
from ctload.errors import SamplerError
from ctload.planning.crop import CenterCrop, RandomCrop, WholeVolume
from ctload.testing import synthetic_store
from tests.ctclip.learnable import SECTIONS, SHAPE, learnable_config, write_learnable

WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    store, cohort = write_learnable(folder, 24)
    return folder, store, cohort


def test_a_batch_holds_windows_as_channels_and_the_tokens_of_its_own_studies(made, tmp_path):
    folder, store, cohort = made
    config = learnable_config(folder)
    data = replace(config.data, windows_hu=((-1000.0, 1000.0), (-150.0, 250.0)))
    config = replace(config, data=data)
    assert num_channels(data) == 2
    training = open_training_data(config, cohort)
    write_text_folder(tmp_path, config.model.text, training.training_texts())
    tokenizer = TextTokenizer(tmp_path, max_length=48)
    with open_loader(config, training, WORLD) as loader:
        batches = [to_train_batch(batch, training.texts, tokenizer, WORLD.device) for batch in loader]
    assert len(batches) == 3
    assert [batch.unit == "report" for batch in batches] == [True, False, True]
    for batch in batches:
        assert batch.volume.shape == (8, 2, *SHAPE)
        assert batch.volume.is_contiguous(memory_format=torch.channels_last_3d)
        wanted = tokenizer(training.texts.of(batch.study, batch.unit))
        assert torch.equal(batch.tokens.ids, wanted.ids)
    first = batches[0]
    hu = np.stack([store.read(study).astype(np.float32) for study in first.study])
    np.testing.assert_allclose(first.volume[:, 1].numpy(), np.clip((hu + 150) / 400, 0, 1), atol=1e-6)


def test_sections_that_cannot_fill_a_batch_are_left_out_with_the_reason(made):
    folder, _, cohort = made
    config = learnable_config(folder)
    data = replace(config.data, sections=("liver", "bowel"))
    training = open_training_data(replace(config, data=data), cohort)
    assert training.texts.units == ("report", "liver")
    assert list(training.left_out) == ["bowel"]
    assert "0 studies" in training.left_out["bowel"]
    strict = replace(config, data=replace(data, small_section="error"))
    training = open_training_data(strict, cohort)
    with pytest.raises(SamplerError, match="bowel"):
        open_loader(strict, training, WORLD)


def test_sections_are_drawable_in_all_schedules(made):
    folder, _, cohort = made
    studies = open_training_data(learnable_config(folder), cohort).studies
    config = DataConfig(batch_size=8, sections=SECTIONS)
    assert drawable_sections(studies, config) == (SECTIONS, {})
    assert drawable_sections(studies, replace(config, schedule="full")) == ((), {})
    sampler = make_sampler(replace(config, schedule="full"), (), seed=0)
    assert {sampler.bind(studies).draw(0, step).unit for step in range(3)} == {"report"}


def test_columns_carried_from_the_packing_table_give_way(tmp_path):
    store = synthetic_store(tmp_path / "store", 2, (4, 8, 8), columns={"text:report": [7, 7], "scanner": ["x", "y"]})
    table = pa.table({"study": store.studies.ids, "text:report": np.array([1, -1], np.int8)})
    joined = join_columns(store.studies, table)
    assert joined.column("text:report").tolist() == [1, -1]
    assert joined.column("scanner").tolist() == ["x", "y"]


def test_rows_follow_the_cohort_and_missing_studies_are_counted(made):
    _, store, cohort = made
    order = np.array([5, 2, 9])
    assert join_cohort(store, cohort.take(order), unpacked="error").ids == [cohort.studies[i] for i in order]
    names = pa.array(["made-up-002", "gone", "lost"])
    strangers = replace(cohort.take(order), table=cohort.take(order).table.set_column(0, "study", names))
    with pytest.raises(CohortError, match="2 of 3 studies are not in the store") as caught:
        join_cohort(store, strangers, unpacked="error")
    assert caught.value.study == "gone"
    with pytest.warns(UserWarning, match="2 of 3"):
        assert join_cohort(store, strangers, unpacked="leave_out").ids == ["made-up-002"]


@pytest.mark.parametrize("spec", ["studies.csv", "zip:studies", "table:", ""])
def test_an_unknown_cohort_is_refused_with_the_ways_to_write_one(spec):
    with pytest.raises(CohortError, match="write KIND:PLACE, KIND one of table, phantom, merlin"):
        read_cohort(spec)


def test_a_missing_store_is_refused_with_the_command_that_makes_one(made):
    folder, _, cohort = made
    with pytest.raises(ConfigError, match="ctload pack"):
        open_training_data(replace(learnable_config(folder), store=""), cohort)


def test_crops_follow_the_configuration():
    assert isinstance(training_crop(DataConfig()), WholeVolume)
    assert training_crop(DataConfig(crop=(4, 8, 8), pad=True)) == CenterCrop((4, 8, 8), pad=True)
    assert training_crop(DataConfig(crop=(4, 8, 8), crop_at="random")) == RandomCrop((4, 8, 8))


def test_auto_is_numba_on_the_cpu_and_dali_on_a_gpu_that_has_it(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="DALI or CuPy is not installed"):
        assert choose_pipeline("auto", cuda) == "numba"
    assert loader_device("dali", cuda) == "cpu"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert [choose_pipeline("auto", device) for device in (cpu, cuda)] == ["numba", "dali"]
    assert [choose_pipeline(name, cpu) for name in ("dali", "reference")] == ["dali", "reference"]
    assert [loader_device(name, cuda) for name in ("dali", "numba", "reference")] == ["cuda:1", "cpu", "cpu"]
    assert loader_device("dali", cpu) == "cpu"


def test_what_ran_is_said_and_is_the_loaders_own_choice(made):
    folder, _, cohort = made
    config = learnable_config(folder)
    data = open_training_data(replace(config, data=replace(config.data, pipeline="auto")), cohort)
    assert data.pipeline == "numba"
    assert "volumes through the numba pipeline" in data.summary()


def test_a_smaller_fraction_lies_inside_a_larger_one_and_keeps_the_vocabulary(made):
    folder, _, cohort = made
    config = learnable_config(folder)
    taken = {}
    for fraction in (0.5, 0.75, 1.0):
        data = replace(config.data, fraction=fraction, fractions=(0.5, 0.75), batch_size=2)
        training = open_training_data(replace(config, data=data), cohort)
        taken[fraction] = set(training.studies.ids)
        assert len(training.training_texts()) == len(open_training_data(config, cohort).training_texts())
    assert taken[0.5] < taken[0.75] < taken[1.0]
    assert len(taken[0.5]) == len(taken[1.0]) // 2


def test_a_twin_has_the_arms_studies_per_unit_and_random_draws_from_the_same_eligible_set(made):
    folder, _, cohort = made
    config = learnable_config(folder)
    drawn = {}
    for name in ("shuffle", "stratified", "twin"):
        data = replace(config.data, sampler=name, eligible="normality", batch_size=4, twin_epochs=12)
        training = open_training_data(replace(config, data=data), cohort)
        bound = training.sampler.bind(training.studies)
        draws = [bound.draw(epoch, step) for epoch in range(12) for step in range(bound.num_batches)]
        drawn[name] = (bound.num_batches, sorted((draw.unit, row) for draw in draws for row in draw.rows.tolist()))
    assert drawn["twin"] == drawn["stratified"]
    assert drawn["shuffle"][0] == drawn["stratified"][0]
    assert {row for _, row in drawn["shuffle"][1]} == {row for _, row in drawn["stratified"][1]}


@pytest.mark.parametrize("change", [{"fraction": 0.0}, {"fraction": 1.5}, {"fractions": (0.0,)}, {"twin_epochs": 0}])
def test_a_share_or_a_span_outside_its_range_is_refused(change):
    with pytest.raises(ConfigError, match=r"fraction|twin_epochs"):
        check_config(TrainConfig(data=DataConfig(**change)))
