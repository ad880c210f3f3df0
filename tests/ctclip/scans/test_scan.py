"""Single scans by Merlin's checkpoint and by runs: NIfTI and DICOM, as through a store, as MONAI's chain has them."""

import json

import nibabel
import numpy as np
import pytest
import torch
from torch.nn import functional

from ctclip.cli import main
from ctclip.embed import embed_studies, read_embeddings
from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.merlin_checkpoint import CLASSIFIER, image_config, read_merlin
from ctclip.scans.prediction import format_prediction, predict_scan, read_phenotype_names
from ctclip.scans.scan import read_scans, scan_tensor
from ctclip.scans.scan_model import embed_scan, open_merlin, open_run_model
from ctclip.texts.prompts import parse_prompts
from ctclip.training.loop import train
from ctload.errors import IngestError
from ctload.packing.packer import pack
from ctload.planning.window import HuWindow
from ctload.storage.preset import PRESETS, Preset
from ctload.storage.store import open_store
from tests.ctclip.learnable import learnable_config, write_learnable
from tests.ctclip.models.small_merlin import tiny_merlin, tiny_model_config
from tests.ctload.packing.test_parity_monai import merlin_chain
from tests.shared_data import ct

PROMPTS = {
    "mass": {"positive": ["dense mass"], "negative": ["normal"]},
    "cyst": {"positive": ["cyst"], "negative": ["normal"]},
}
WORDS = ["dense mass", "normal", "cyst"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scan in LPS orientation, tiny files of Merlin and of its encoder, and prompts."""
    folder = tmp_path_factory.mktemp("scan")
    values = np.random.default_rng(0).integers(-1000, 1000, (30, 24, 12)).astype(np.int16)  # (x, y, z)
    image = nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 5.0, 1.0]))
    nibabel.save(image, folder / "patient.nii.gz")
    torch.save(tiny_merlin(), folder / "merlin.pt")
    tiny_model_config(folder / "encoder", WORDS)
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    _, cohort = write_learnable(folder)
    return train(learnable_config(folder, steps=3), cohort=cohort, is_quiet=True).run


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")  # MONAI looks for a GPU decoder
def test_merlins_input_is_the_monai_chains(place):
    wanted, _ = merlin_chain(place / "patient.nii.gz")
    (scan,) = read_scans(place / "patient.nii.gz", preset=PRESETS["merlin"], is_rounded=False)
    got = scan_tensor(scan, windows=(HuWindow(-1000, 1000),), crop=None)
    assert got.shape == (1, 1, 160, 224, 224)
    np.testing.assert_allclose(got[0, 0], wanted, atol=1e-4)
    assert got.std() > 0.01


def test_merlins_features_and_phenotypes_of_a_scan(place):
    model = open_merlin(place / "merlin.pt", device="cpu")
    (scan,) = read_scans(place / "patient.nii.gz", preset=model.preset, is_rounded=model.is_rounded)
    features = embed_scan(model, scan)
    weights = read_merlin(place / "merlin.pt")
    config, embedding_dim = image_config(weights)
    assert features.pooled.shape == (4 * config.widths[3],)
    assert features.image.shape == (embedding_dim,)
    np.testing.assert_allclose(np.linalg.norm(features.image), 1, rtol=1e-5)
    kernel, bias = (
        weights.kept[CLASSIFIER + part].flatten(1 if part == "weight" else 0) for part in ("weight", "bias")
    )
    wanted = functional.linear(torch.from_numpy(features.pooled), kernel, bias).sigmoid()
    assert features.phenotypes is not None
    np.testing.assert_allclose(features.phenotypes, wanted, atol=1e-6)


def test_a_run_sees_a_scan_as_through_its_store(run, tmp_path):
    (tmp_path / "source").mkdir()
    values = np.random.default_rng(0).integers(-1000, 1000, (16, 16, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 1.0, 2.0, 1.0])), tmp_path / "source" / "one.nii.gz")
    pack([tmp_path / "source"], tmp_path / "store", preset="native", progress=False)
    stored = embed_studies(
        run, open_store(tmp_path / "store").studies, device="cpu", pipeline="reference", is_quiet=True
    )
    model = open_run_model(run, device="cpu")
    assert model.preset == Preset.from_name("native")
    (scan,) = read_scans(tmp_path / "source", preset=model.preset, is_rounded=model.is_rounded)
    assert (scan.study,) == stored.study
    np.testing.assert_allclose(embed_scan(model, scan).image, stored.image[0], atol=1e-6)


def test_a_real_dicom_study_is_embedded(place):
    model = open_merlin(place / "merlin.pt", device="cpu")
    (scan,) = read_scans(ct("dcmqi_liver_3slice"), preset=model.preset, is_rounded=False)
    assert scan.volume.shape == (160, 224, 224)
    assert np.isfinite(embed_scan(model, scan).image).all()


def test_the_command_line_embeds_scans_by_merlins_checkpoint(place, tmp_path, capsys):
    out = tmp_path / "scan.npz"
    scan, checkpoint = str(place / "patient.nii.gz"), str(place / "merlin.pt")
    assert main(["embed", scan, "--checkpoint", checkpoint, "--out", str(out), "--device", "cpu"]) == 0
    made = read_embeddings(out)
    assert made.study == ("patient",)
    assert made.image.shape == (1, 512)
    assert made.pooled is not None
    assert made.pooled.shape == (1, 32)
    assert "1 scans, image (512) and pooled (32) of each" in capsys.readouterr().out


def test_the_command_line_predicts_phenotypes_and_findings(place, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"phenotype {letter}" for letter in "abcde"))
    words = ["predict", str(place / "patient.nii.gz"), "--checkpoint", str(place / "merlin.pt"), "--device", "cpu"]
    words += ["--text", str(place / "encoder"), "--prompts", str(place / "prompts.json")]
    assert main([*words, "--phenotypes", str(names), "--json", str(tmp_path / "out.json"), "--top", "3"]) == 0
    printed = capsys.readouterr().out
    assert "phenotype (3 likeliest of 5)" in printed
    body = json.loads((tmp_path / "out.json").read_text())
    (scan,) = body["scans"]
    assert [found["finding"] for found in scan["findings"]] == ["mass", "cyst"]
    assert [one["name"] for one in scan["phenotypes"]] == [f"phenotype {letter}" for letter in "abcde"]
    assert all(0 < one["probability"] < 1 for one in scan["phenotypes"])
    for found in scan["findings"]:
        assert found["is_positive"] == (found["score"] > 0) == (found["probability"] > 0.5)
    assert main([*words[:4], "--device", "cpu"]) == 0  # phenotypes alone need no text tower
    assert "finding" not in capsys.readouterr().out


def test_the_command_line_predicts_by_a_run(run, tmp_path, capsys):
    values = np.random.default_rng(0).integers(-1000, 1000, (16, 16, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "one.nii")
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    words = ["predict", str(tmp_path / "one.nii"), "--run", str(run), "--device", "cpu"]
    assert main([*words, "--prompts", str(tmp_path / "prompts.json")]) == 0
    printed = capsys.readouterr().out
    assert "mass" in printed
    assert "phenotype" not in printed


def test_findings_are_printed_by_falling_score(place):
    model = open_merlin(place / "merlin.pt", text=str(place / "encoder"), device="cpu")
    (scan,) = read_scans(place / "patient.nii.gz", preset=model.preset, is_rounded=False)
    predicted = predict_scan(model, scan, prompts=parse_prompts(json.dumps(PROMPTS), name="two"))
    lines = format_prediction(predicted, num_phenotypes=0).splitlines()
    best = max(predicted.findings, key=lambda found: found.score)
    assert best.finding in lines[2]
    assert f"{best.score:.4f}" in lines[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["embed", "SCAN"], "name one model"),
        (["predict", "SCAN", "--checkpoint", "MERLIN", "--run", "x"], "name one model"),
        (["predict", "--checkpoint", "MERLIN"], "no scan was given"),
        (["predict", "SCAN", "--checkpoint", "SCAN"], "never read"),
        (["predict", "SCAN", "--checkpoint", "MERLIN", "--preset", "native"], "goes with --run"),
        (["predict", "ABSENT", "--checkpoint", "MERLIN"], "NOT_A_VOLUME"),
    ],
)
def test_wrong_words_are_refused_with_the_way_out(place, capsys, words, said):
    names = {"SCAN": "patient.nii.gz", "MERLIN": "merlin.pt", "ABSENT": "absent.nii"}
    assert main([str(place / names[word]) if word in names else word for word in words]) == 2
    assert said in capsys.readouterr().err


def test_what_does_not_fit_is_refused(place, run, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        open_merlin(place / "merlin.pt", text=str(tmp_path / "absent"), device="cpu")
    with pytest.raises(ConfigError, match="one name per line"):
        read_phenotype_names(tmp_path / "absent")
    weights = tiny_merlin()
    torch.save({name: x for name, x in weights.items() if "encode_text" not in name}, tmp_path / "image.pt")
    with pytest.raises(CheckpointError, match="no text tower"):
        open_merlin(tmp_path / "image.pt", text=str(place / "encoder"), device="cpu")
    model = open_merlin(place / "merlin.pt", device="cpu")
    (scan,) = read_scans(place / "patient.nii.gz", preset=model.preset, is_rounded=False)
    with pytest.raises(ConfigError, match="2 phenotype names for 5 outputs"):
        predict_scan(model, scan, phenotype_names=("a", "b"))
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes((place / "patient.nii.gz").read_bytes()[:3000])
    with pytest.raises(IngestError):
        read_scans(damaged, preset=model.preset, is_rounded=False)
