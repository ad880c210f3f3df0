"""Configurations: every preset survives JSON, everything unknown is refused."""

import json
from dataclasses import replace

import pytest

from ctclip.config import DataConfig, OptimConfig, TrainConfig
from ctclip.config_check import check_config
from ctclip.config_json import differences, from_json, to_json
from ctclip.errors import ConfigError
from ctclip.presets import PRESETS, preset
from ctload.planning.augment import Augment


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_sound_and_survive_json(name):
    check_config(PRESETS[name])
    assert from_json(to_json(PRESETS[name]), TrainConfig) == PRESETS[name]


def test_every_kind_of_field_survives_json():
    data = DataConfig(
        crop=(8, 16, 16),
        quotas={"normal": 1, "abnormal": 3.5},
        sections=("liver",),
        augment=Augment(flip=(0, 0.5, 0), noise_sigma=(0.0, 0.1)),
    )
    config = TrainConfig(cohort="table:x.csv", data=data, optim=OptimConfig(betas=(0.5, 0.25)))
    assert from_json(to_json(config), TrainConfig) == config


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("stepz",), 3, "unknown key 'stepz'"),
        (("data", "batchsize"), 3, "unknown key 'data.batchsize'"),
        (("model", "image", "depth"), 3, "unknown key 'model.image.depth'"),
        (("steps",), "many", "steps must be int"),
        (("steps",), True, "steps must be int"),
        (("optim", "learning_rate"), "fast", "optim.learning_rate must be a number"),
        (("data", "crop"), [1, 2], "data.crop must be a list of 3"),
        (("data", "sampler"), "weighted", "data.sampler must be one of"),
        (("data", "windows_hu"), [[1, "x"]], "data.windows_hu must be a number"),
        (("data",), 3, "data must be a mapping"),
        (("micro_batch",), "most", "micro_batch must be one of"),
    ],
)
def test_an_unknown_key_or_a_wrong_type_is_refused_by_name(path, value, words):
    values = json.loads(to_json(PRESETS["tiny"]))
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=words) as caught:
        from_json(json.dumps(values), TrainConfig, path="runs/x/config.json")
    assert caught.value.path == "runs/x/config.json"


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ConfigError, match="not JSON"):
        from_json("{", TrainConfig)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"micro_batch": 0},
        {"bn_group": -1},
        {"ema_decay": 1.0},
        {"activation_budget": 1.5},
        {"profile_steps": -1},
        {"checkpoint_every": 0},
        {"data": DataConfig(batch_size=0)},
        {"data": DataConfig(windows_hu=())},
        {"data": DataConfig(sections=())},
        {"data": DataConfig(quotas={"healthy": 1.0})},
        {"optim": OptimConfig(learning_rate=0)},
    ],
)
def test_a_contradiction_is_refused_before_anything_runs(changes):
    with pytest.raises(ConfigError):
        check_config(replace(PRESETS["tiny"], **changes))


def test_differences_name_the_fields():
    ours = preset("tiny")
    theirs = replace(ours, steps=7, data=replace(ours.data, batch_size=4))
    assert differences(ours, theirs) == {"steps": (1000, 7), "data.batch_size": (16, 4)}
    assert differences(ours, ours) == {}


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ConfigError, match="tiny, offclip, mococlip, fvlm, cagcl, merlin-small, merlin"):
        preset("huge")


@pytest.mark.parametrize("value", ["off", "auto", 4])
def test_a_field_of_two_types_survives_json(value):
    config = preset("tiny", micro_batch=value)
    assert from_json(to_json(config), TrainConfig) == config


def test_the_former_name_of_a_preset_still_works():
    assert preset("small") == PRESETS["merlin-small"]
