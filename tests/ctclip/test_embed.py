"""Embedding: in the studies' order, the last short batch too, the same whatever the batch size, without pickle."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctclip.embed import Embeddings, TextEmbedder, embed_split, embed_studies, read_embeddings, write_embeddings
from ctclip.errors import CheckpointError, CohortError, EvaluationError
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, write_learnable


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed")
    store, cohort = write_learnable(folder, 24, num_test=5)
    config = learnable_config(folder, steps=100)
    data, optim = replace(config.data, schedule="full"), replace(config.optim, learning_rate=3e-3)
    result = train(replace(config, data=data, optim=optim), cohort=cohort, is_quiet=True)
    return store, cohort, result


def embed(trained, **options) -> Embeddings:
    store, cohort, result = trained
    given = {"split": "test", "device": "cpu", "pipeline": "reference", "is_quiet": True}
    return embed_split(result.run, cohort=cohort, store=store.path, **(given | options))


def test_every_study_of_the_split_is_there_in_order_and_normalised(trained):
    _, cohort, _ = trained
    made = embed(trained, batch_size=2)  # 5 studies: the last batch is short
    assert list(made.study) == cohort.split("test").studies
    assert made.image.shape == (5, 8)
    assert made.image.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made.image, axis=1), 1, rtol=1e-5)


def test_the_batch_size_does_not_matter(trained):
    np.testing.assert_allclose(embed(trained, batch_size=1).image, embed(trained, batch_size=64).image, atol=2e-6)


def test_a_trained_model_finds_the_report_of_a_study(trained):
    _, cohort, result = trained
    made = embed(trained, split="train")
    reports = cohort.split("train").reports
    texts = TextEmbedder(result.run, device="cpu")(reports)
    best = (made.image @ texts.T).argmax(axis=1)
    hits = np.mean([reports[row] == reports[found] for row, found in enumerate(best)])
    assert hits > 0.3  # 1 of 8 by chance


def test_texts_are_cleaned_before_they_are_embedded(trained):
    _, _, result = trained
    embedder = TextEmbedder(result.run, device="cpu")
    rows = embedder(["Spleen: Dark cyst.", "spleen : dark cyst .", "Liver: Normal."])
    assert rows.shape == (3, 8)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    assert np.abs(rows[0] - rows[2]).max() > 1e-3
    assert embedder([]).shape == (0, 8)
    assert embedder.checkpoint == embed(trained).checkpoint


def test_a_text_that_is_cut_is_counted(trained):
    _, _, result = trained
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 48 tokens"):
        TextEmbedder(result.run, device="cpu")(["spleen", "spleen : normal . " * 30])


def test_what_is_written_is_read_back_without_pickle(trained, tmp_path):
    made = embed(trained)
    path = write_embeddings(made, tmp_path / "deep" / "test.npz")
    back = read_embeddings(path)
    assert (back.study, back.checkpoint, back.split) == (made.study, made.checkpoint, "test")
    assert np.array_equal(back.image, made.image)


@pytest.mark.parametrize("content", [b"", b"not a zip", pickle.dumps({"study": 1})])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match="ctclip embed"):
        read_embeddings(path)
    with pytest.raises(EvaluationError, match="ctclip embed"):
        read_embeddings(tmp_path / "absent.npz")


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, study=np.array(["a"]), image=np.zeros((2, 3), np.float32), checkpoint="", split="")
    with pytest.raises(EvaluationError, match="do not fit"):
        read_embeddings(path)


def test_a_split_without_studies_and_a_store_without_them_are_refused(trained):
    with pytest.raises(CohortError, match="no study in split 'val'"):
        embed(trained, split="val")


def test_weights_that_give_no_finite_embedding_are_refused(trained, monkeypatch):
    store, _, result = trained
    monkeypatch.setattr(InflatedResNet, "forward", lambda self, volume: torch.full((len(volume), 8), torch.nan))
    with pytest.raises(CheckpointError, match="not finite"):
        embed_studies(result.run, store.studies, device="cpu", pipeline="reference", is_quiet=True)
