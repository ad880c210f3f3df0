"""A run that begins with Merlin, with another run or with a torchvision file, resumes exactly and is exported."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from ctclip.config import DataConfig, TrainConfig
from ctclip.embed import open_model
from ctclip.errors import CheckpointError, ConfigError
from ctclip.models.merlin_checkpoint import CLASSIFIER, IMAGE, TEXT
from ctclip.models.weights_file import read_weights
from ctclip.reports.sections import clean_text
from ctclip.scans.exporting import export_run
from ctclip.training.checkpoint import read_checkpoint
from ctclip.training.loop import train
from tests.ctclip.learnable import learnable_config, write_learnable
from tests.ctclip.models.small_merlin import merlin_names, tiny_merlin, tiny_model_config


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store, its cohort, and tiny files of Merlin and of its encoder."""
    folder = tmp_path_factory.mktemp("init")
    _, cohort = write_learnable(folder)
    torch.save(tiny_merlin(), folder / "merlin.pt")
    tiny_model_config(folder / "encoder", [clean_text(report) for report in cohort.reports])
    return folder, cohort


def fine_tuning(folder: Path, name: str, **changes) -> TrainConfig:
    config = learnable_config(folder, name=name, steps=4, init=str(folder / "merlin.pt"))
    model = tiny_model_config(folder / "encoder-again", [])  # only its sizes
    text = replace(model.text, name=str(folder / "encoder"))
    return replace(config, model=replace(model, text=text), **changes)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return open_model(run, "cpu")[1].state_dict()


def test_fine_tuning_begins_with_merlin_and_is_exported_for_its_own_code(place, tmp_path):
    folder, cohort = place
    config = fine_tuning(folder, "tuned")
    still = replace(config, out=str(folder / "still"), optim=replace(config.optim, learning_rate=1e-12))
    merlin = tiny_merlin()
    for wanted_change, asked in ((False, still), (True, config)):
        result = train(asked, cohort=cohort, is_quiet=True)
        exported = export_run(result.run, tmp_path / "out.pt")
        back = read_weights(exported.path)
        assert exported.made_up == ()
        assert {name: x.shape for name, x in back.items()} == {name: x.shape for name, x in merlin.items()}
        for part in (IMAGE + "layer4.0.conv2.weight", TEXT + "linear_layer.weight", "logit_scale"):
            assert ((back[part] - merlin[part]).abs().max() > 1e-4) == wanted_change
        for part in (CLASSIFIER + "weight", TEXT + "text_encoder.encoder.layer.1.attention.self.key_global.weight"):
            assert torch.equal(back[part], merlin[part])


def test_a_fine_tuning_that_was_stopped_goes_on_exactly_without_the_file(place):
    folder, cohort = place
    torch.save(tiny_merlin(), folder / "lent.pt")
    whole = train(fine_tuning(folder, "whole", init=str(folder / "lent.pt")), cohort=cohort, is_quiet=True)
    stopped = fine_tuning(folder, "stopped", init=str(folder / "lent.pt"))
    train(stopped, cohort=cohort, stop_at=2, is_quiet=True)
    (folder / "lent.pt").unlink()
    train(stopped, cohort=cohort, is_quiet=True)
    first, second = weights_of(whole.run), weights_of(Path(stopped.out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_begins_with_another_runs_weights_and_tokenizer(place):
    folder, cohort = place
    first = train(learnable_config(folder, name="first", steps=3), cohort=cohort, is_quiet=True)
    config = learnable_config(folder, name="second", steps=1, init=str(first.run))
    fewer = cohort.split("train").take(torch.arange(8).numpy())  # its own vocabulary would be another
    second = train(replace(config, optim=replace(config.optim, learning_rate=1e-12)), cohort=fewer, is_quiet=True)
    assert read_checkpoint(second.run).step == 1
    for name, tensor in weights_of(first.run).items():
        if name.endswith("weight"):
            torch.testing.assert_close(weights_of(second.run)[name], tensor, rtol=0, atol=1e-6)
    assert (second.run / "text" / "tokenizer.json").read_bytes() == (first.run / "text" / "tokenizer.json").read_bytes()


def test_what_init_names_is_refused_before_the_folder_is_made(place):
    folder, cohort = place
    (folder / "damaged.pt").write_bytes((folder / "merlin.pt").read_bytes()[:5000])
    for init, error in ((folder / "damaged.pt", CheckpointError), (folder / "absent.pt", ConfigError)):
        with pytest.raises(error):
            train(fine_tuning(folder, "refused", init=str(init)), cohort=cohort, is_quiet=True)
    assert not (folder / "refused").exists()


def test_an_export_says_what_the_run_never_had(place, tmp_path):
    folder, cohort = place
    config = fine_tuning(folder, "alone")
    alone = {name.removeprefix(IMAGE): x for name, x in tiny_merlin().items() if name.startswith(IMAGE)}
    alone = {name: x for name, x in alone.items() if not name.startswith("classifier")}
    torch.save(alone, folder / "alone.pt")
    AutoModel.from_config(AutoConfig.from_pretrained(folder / "encoder")).save_pretrained(folder / "encoder")
    with pytest.warns(UserWarning, match="only the image tower is taken, since the file has no text tower"):
        result = train(replace(config, init=str(folder / "alone.pt"), steps=1), cohort=cohort, is_quiet=True)
    exported = export_run(result.run, tmp_path / "out.safetensors")
    assert exported.made_up == ("phenotype classifier",)
    assert read_weights(exported.path)[CLASSIFIER + "weight"].shape[0] == 1692
    names = merlin_names(config.model.image, num_phenotypes=1692)
    assert set(read_weights(exported.path)) == set(names)


def test_a_run_with_another_text_tower_or_several_windows_is_not_exported(place, tmp_path):
    folder, cohort = place
    small = train(learnable_config(folder, name="bert", steps=1), cohort=cohort, is_quiet=True)
    with pytest.raises(CheckpointError, match="its text tower is BertModel"):
        export_run(small.run, tmp_path / "out.pt")
    data = DataConfig(**{**vars(fine_tuning(folder, "x").data), "windows_hu": ((-1000.0, 1000.0), (-150.0, 250.0))})
    windows = train(fine_tuning(folder, "windows", data=data, steps=1), cohort=cohort, is_quiet=True)
    with pytest.raises(CheckpointError, match="its stem takes 2 channels"):
        export_run(windows.run, tmp_path / "out.pt")
