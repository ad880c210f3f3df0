"""Merlin's checkpoints: the numbers of its own code, strict names both ways, orientation."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import LongformerConfig

from ctclip.errors import CheckpointError
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.longformer import Longformer
from ctclip.models.merlin_checkpoint import (
    CLASSIFIER,
    IMAGE,
    TEXT,
    image_config,
    join_merlin,
    read_merlin,
    split_merlin,
)
from ctclip.models.text import TextEncoder
from ctclip.presets import PRESETS
from ctclip.reports.sections import clean_text
from tests.ctclip.models.merlin_reference import KEYS, LONGFORMER, PUBLISHED, RECORD, REPORTS, token_ids, volume_xyz
from tests.ctclip.models.small_merlin import merlin_names, small_merlin, tiny_merlin

HERE = Path("merlin.pt")


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    return small_merlin()


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORD) as file:
        return dict(file)


def test_image_and_phenotype_outputs_are_those_of_merlins_own_code(small, recorded):
    weights = split_merlin(small, path=HERE)
    config, embedding_dim = image_config(weights)
    tower = InflatedResNet(config, num_channels=1, embedding_dim=embedding_dim)
    tower.load_state_dict(weights.image)
    volume = volume_xyz().permute(0, 1, 4, 3, 2).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        pooled = tower.eval().pooled(volume)
        image = functional.normalize(tower.project(pooled), dim=1)
    phenotype = functional.conv3d(pooled, weights.kept[CLASSIFIER + "weight"], weights.kept[CLASSIFIER + "bias"])
    np.testing.assert_allclose(pooled.flatten(1), recorded["pooled"], atol=1e-5)
    np.testing.assert_allclose(image, recorded["image"], atol=1e-6)
    np.testing.assert_allclose(phenotype.flatten(1), recorded["phenotype"], atol=1e-5)
    assert recorded["phenotype"].std() > 0.1  # not numbers that any network would give


def test_without_the_exchange_of_axes_the_outputs_are_others(small, recorded):
    weights = split_merlin(small, path=HERE)
    config, embedding_dim = image_config(weights)
    tower = InflatedResNet(config, num_channels=1, embedding_dim=embedding_dim)
    tower.load_state_dict({name: small[IMAGE + name] for name in weights.image})
    with torch.no_grad():
        pooled = tower.eval().pooled(volume_xyz().permute(0, 1, 4, 3, 2))
    assert np.abs(pooled.flatten(1).numpy() - recorded["pooled"]).max() > 1e-2


def test_text_outputs_are_those_of_merlins_own_code(small, recorded):
    cleaned = [clean_text(report) for report in REPORTS]
    assert cleaned == recorded["cleaned"].tolist()
    state = {name.removeprefix(TEXT): x for name, x in split_merlin(small, path=HERE).model.items() if TEXT in name}
    tower = TextEncoder(Longformer(LongformerConfig(**LONGFORMER)), embedding_dim=512, pooling="first")
    tower.load_state_dict(state)
    with torch.no_grad():
        text = functional.normalize(tower.eval()(*token_ids([report.split() for report in cleaned])), dim=1)
    np.testing.assert_allclose(text, recorded["text"], atol=1e-6)


def test_the_published_names_and_shapes_fit_both_ways():
    wanted = {name: tuple(shape) for name, shape in json.loads(gzip.decompress(KEYS.read_bytes())).items()}
    assert len(wanted) == 1208
    names = merlin_names(PRESETS["merlin"].model.image, LONGFORMER | PUBLISHED)
    assert {name: tuple(x.shape) for name, x in names.items()} == wanted
    weights = split_merlin({name: torch.empty(shape, device="meta") for name, shape in wanted.items()}, path=HERE)
    assert image_config(weights) == (PRESETS["merlin"].model.image, 512)
    # Kept aside: the classifier's 2, 12 layers of 3 projections with bias, the pooler's 2.
    assert len(weights.kept) == 2 + 12 * 6 + 2
    back = join_merlin(weights.model, weights.kept)
    assert {name: tuple(x.shape) for name, x in back.items()} == wanted


def test_export_gives_back_every_bit(tmp_path):
    state = tiny_merlin()
    torch.save(state, tmp_path / "merlin.pt")
    weights = read_merlin(tmp_path / "merlin.pt")
    back = join_merlin(weights.model, weights.kept)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_the_image_tower_alone_is_read_without_its_prefix():
    state = tiny_merlin()
    alone = {name.removeprefix(IMAGE): x for name, x in state.items() if name.startswith(IMAGE)}
    weights = split_merlin(alone, path=HERE)
    whole = split_merlin(state, path=HERE)
    assert not weights.has_text
    assert whole.has_text
    assert all(torch.equal(weights.image[name], whole.image[name]) for name in whole.image)
    assert set(weights.kept) == {CLASSIFIER + "weight", CLASSIFIER + "bias"}


def test_position_ids_of_older_files_are_let_through():
    old = {TEXT + "text_encoder.embeddings.position_ids": torch.arange(8)[None]}
    weights = split_merlin(tiny_merlin() | old, path=HERE)
    assert not [name for name in (*weights.model, *weights.kept) if "position_ids" in name]


def test_a_file_without_a_tensor_is_refused_by_its_name():
    state = tiny_merlin()
    del state[IMAGE + "layer3.0.bn2.running_var"]
    with pytest.raises(CheckpointError, match=r"1 missing \(the first: layer3.0.bn2.running_var\)"):
        split_merlin(state, path=HERE)
    with pytest.raises(CheckpointError, match=r"contrastive_head.weight is missing"):
        split_merlin({name: x for name, x in state.items() if "contrastive_head" not in name}, path=HERE)


def test_another_models_file_is_refused_with_what_it_holds():
    with pytest.raises(CheckpointError, match=r"no checkpoint of Merlin.*the first is visual.proj"):
        split_merlin({"visual.proj": torch.zeros(2, 2)}, path=HERE)
