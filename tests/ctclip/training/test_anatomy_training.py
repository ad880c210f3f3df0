"""Training on anatomies apart: fVLM, CA-GCL and OFF-CLIP per anatomy learn, resume, ignore ranks and are scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ctclip.anatomy_rows import AnatomyRows
from ctclip.config import TrainConfig
from ctclip.data import open_loader, open_training_data, to_train_batch
from ctclip.embed import embed_split, read_embeddings, write_embeddings
from ctclip.errors import ConfigError
from ctclip.evaluation.scoring import finding_images
from ctclip.models.text import TextTokenizer, write_text_folder
from ctclip.objectives.parameters import AnatomyParameters, CagclParameters, FvlmParameters, OffclipParameters
from ctclip.texts.anatomies import PHANTOM_ANATOMIES, finding_place
from ctclip.texts.text_hash import hash_text
from ctclip.training.distributed import World
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, metrics, weights, write_learnable
from tests.ctclip.ranks import next_group, run_ranks

ALONE = World(0, 1, torch.device("cpu"))
NAMES = [anatomy.name for anatomy in PHANTOM_ANATOMIES]
LIVER, SPLEEN = NAMES.index("liver"), NAMES.index("spleen")
SETTINGS = [
    {"objective": ("fvlm",)},
    {"objective": ("cagcl",), "cagcl": CagclParameters(anatomy=AnatomyParameters(pooling="mean"))},
    {"objective": ("offclip",), "offclip": OffclipParameters(pair_unit="anatomy", text_mode="one_sentence")},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anatomies")
    _, cohort = write_learnable(folder, 24, num_test=4, has_organs=True)
    return folder, cohort


def apart(folder: Path, out: Path, **changes) -> TrainConfig:
    config = learnable_config(folder, out=str(out), bn_group=4, **{"objective": ("fvlm",), **changes})
    return replace(config, data=replace(config.data, schedule="full"))


def test_a_batch_has_a_row_per_anatomy_valid_where_it_is_whole(made, tmp_path):
    folder, cohort = made
    config = apart(folder, tmp_path)
    data = open_training_data(config, cohort)
    assert isinstance(data.rows, AnatomyRows)
    write_text_folder(tmp_path, config.model.text, data.training_texts())
    tokenizer = TextTokenizer(tmp_path, max_length=48)
    with open_loader(config, data, ALONE) as loader:
        batch = next(iter(loader))
        ready = to_train_batch(batch, data.texts, tokenizer, ALONE.device, data.rows)
    assert ready.facts is not None
    assert ready.facts.valid is not None
    assert len(ready.tokens.ids) == len(ready.facts.study) == 8 * len(NAMES)
    valid = ready.facts.valid.view(8, len(NAMES))
    assert valid[:, SPLEEN].all()
    wanted = [int(study[-3:]) % 4 != 3 for study in batch.study]
    assert valid[:, LIVER].tolist() == wanted
    assert valid.sum() == 8 + sum(wanted)
    abnormal = ready.facts.abnormal.view(8, len(NAMES))[:, LIVER].tolist()
    assert abnormal == [int(study[-3:]) % 2 for study in batch.study]
    texts = data.rows.read(batch)
    assert texts[SPLEEN].startswith(("spleen", "Spleen", "Dark", "Normal", "normal", "dark"))


def test_augmented_texts_keep_the_hash_of_the_original(made, tmp_path):
    folder, cohort = made
    config = apart(folder, tmp_path, objective=("cagcl",))
    data = open_training_data(config, cohort)
    assert isinstance(data.rows, AnatomyRows)
    with open_loader(config, data, ALONE) as loader:
        batch = next(iter(loader))
        facts = data.rows.facts(batch, data.rows.numbers(batch, "cpu"), "cpu")
    originals = [hash_text(text.text) for study in batch.study for text in data.rows.texts[study]]
    assert facts.text.tolist() == originals


@pytest.mark.filterwarnings("ignore:offclip.*only attracts")
@pytest.mark.parametrize("changes", SETTINGS, ids=lambda changes: changes["objective"][0])
def test_a_run_in_two_parts_ends_with_the_bits_of_one(made, tmp_path, changes):
    folder, cohort = made
    whole = apart(folder, tmp_path / "whole", steps=5, micro_batch=4, **changes)
    parts = replace(whole, out=str(tmp_path / "parts"))
    train(whole, cohort=cohort, is_quiet=True)
    train(parts, cohort=cohort, stop_at=2, is_quiet=True)
    train(parts, cohort=cohort, is_quiet=True)
    first, second = weights(whole), weights(parts)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    name = f"{whole.objective[0]}/num_valid"
    assert all(0 < line[name] <= 16 and np.isfinite(line["loss"]) for line in metrics(whole))


def _train(argument: tuple) -> None:
    config, cohort = argument
    next_group()
    train(config, cohort=cohort, is_quiet=True)


def test_two_ranks_train_as_one_process(made, tmp_path):
    folder, cohort = made
    one = apart(folder, tmp_path / "one", steps=3, objective=("cagcl",))
    two = replace(one, out=str(tmp_path / "two"))
    train(one, cohort=cohort, is_quiet=True)
    run_ranks(_train, 2, (two, cohort))
    for line, other in zip(metrics(one), metrics(two), strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)


def test_anatomies_are_embedded_apart_and_each_finding_is_scored_on_its_own(made, tmp_path):
    folder, cohort = made
    config = apart(folder, tmp_path / "run", steps=2)
    train(config, cohort=cohort, is_quiet=True)
    found = embed_split(config.out, cohort=cohort, store=folder / "store", split="test")
    assert found.anatomy is not None
    assert found.anatomy.shape == (4, len(NAMES), 8)
    assert found.image.shape == (4, 8)
    again = read_embeddings(write_embeddings(found, tmp_path / "test.npz"))
    assert again.anatomy is not None
    assert np.array_equal(again.anatomy, found.anatomy)
    images = finding_images(found, ("splenomegaly", "gallstones", "renal_cyst", "unheard of"), config)
    assert np.array_equal(images["splenomegaly"], found.anatomy[:, SPLEEN])
    assert np.array_equal(images["gallstones"], found.anatomy[:, LIVER])
    assert set(images) == {"splenomegaly", "gallstones"}
    assert finding_place("abdominal_aortic_aneurysm", PHANTOM_ANATOMIES) == NAMES.index("aorta")


def test_what_cannot_work_is_refused_with_the_way_out(made, tmp_path):
    folder, cohort = made
    config = apart(folder, tmp_path / "run")
    refused = [
        ({"objective": ("clip", "fvlm")}, "'fvlm' looks at anatomies apart and 'clip' at studies whole"),
        ({"objective": ("fvlm", "cagcl")}, "both have the contrast within anatomies"),
        ({"data": replace(config.data, anatomy_label="liver")}, "pack one from a column label:organs"),
        ({"objective": ("cagcl",), "cagcl": CagclParameters(weight_volume=1.0)}, "set it to 0"),
    ]
    for changes, message in refused:
        with pytest.raises(ConfigError, match=message):
            train(replace(config, **changes), cohort=cohort, is_quiet=True)


def test_without_masks_anatomies_are_where_their_query_looks(made, tmp_path):
    folder, cohort = made
    parameters = FvlmParameters(anatomy=AnatomyParameters(source="attention"))
    config = apart(folder, tmp_path / "run", steps=2, fvlm=parameters)
    with pytest.warns(UserWarning, match="that is not fVLM"):
        train(config, cohort=cohort, is_quiet=True)
    assert metrics(config)[-1]["fvlm/num_valid"] == 8 * len(NAMES)
