"""What a forward pass keeps, and which of the allowed sizes is taken: texts count as often as a study has them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ctclip.errors import ConfigError
from ctclip.models.dual import DualEncoder, build_dual_encoder
from ctclip.models.text import write_text_folder
from ctclip.objectives.parameters import AnatomyParameters
from ctclip.training import fitting
from ctclip.training.fitting import fit_micro_batch, largest_within
from ctclip.training.flops import training_flops
from tests.ctclip.learnable import learnable_config

VOLUME = (1, 8, 16, 16)


@pytest.fixture
def model(tmp_path):
    return made(tmp_path)


def made(folder, **changes) -> DualEncoder:
    config = learnable_config(folder).model
    write_text_folder(folder, config.text, ["liver : normal ."])
    return build_dual_encoder(config, folder, num_channels=1, seed=0, is_pretrained=True, **changes).train()


def kept_per_study(model: DualEncoder, monkeypatch, *, num_texts: int) -> int:
    seen = []
    monkeypatch.setattr(
        fitting, "largest_within", lambda sizes, *, bytes_per_study, free: seen.append(bytes_per_study) or sizes[0]
    )
    fit_micro_batch(model, (4, 2), volume_shape=VOLUME, num_tokens=16, num_texts=num_texts)
    return seen[0]


def test_what_a_study_keeps_grows_with_its_texts_and_the_model_stays_as_it_was(model, monkeypatch):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two, three = (kept_per_study(model, monkeypatch, num_texts=number) for number in (1, 2, 3))
    assert two - one == pytest.approx(three - two, rel=0.02)
    assert two - one > 16 * 8 * 4  # at the least the hidden values of one layer, 16 tokens of 8 numbers
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_operations_of_a_study_with_several_texts_are_those_that_a_step_does(tmp_path):
    model = made(tmp_path, anatomy=AnatomyParameters(), num_anatomies=3)
    counted = training_flops(model, volume_shape=VOLUME, num_tokens=16, num_texts=3)
    volume, ids = torch.rand(2, *VOLUME), torch.randint(0, 9, (6, 16))
    numbers = torch.randint(0, 4, (2, *VOLUME[1:]))
    with FlopCounterMode(display=False) as counter:
        features = model(volume, ids, torch.ones_like(ids), numbers)
        (features.image.sum() + features.text.sum()).backward()
    assert counted == counter.get_total_flops() // 2
    assert counted is not None
    fewer = training_flops(model, volume_shape=VOLUME, num_tokens=16)
    assert fewer is not None
    assert counted > fewer


def test_the_largest_size_within_the_memory_is_taken_and_none_is_refused():
    assert largest_within((8, 4, 2), bytes_per_study=100, free=450) == 4
    with pytest.raises(ConfigError, match=r"one forward pass of 2 studies keeps .* take a smaller data.crop"):
        largest_within((8, 4, 2), bytes_per_study=100, free=150)
