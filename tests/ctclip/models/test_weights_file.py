"""Files of weights: whole, finite and unpickled, or refused with the way out."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from ctclip.errors import CheckpointError
from ctclip.models.weights_file import read_weights, write_weights

STATE = {"a.weight": torch.arange(4000.0).reshape(40, 100), "b": torch.tensor(3)}


class Gadget:
    """Would run code when unpickled."""

    ran = False

    def __reduce__(self):
        return (setattr, (Gadget, "ran", True))


def assert_state(state):
    assert set(state) == set(STATE)
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_what_is_written_is_read_back(tmp_path, name):
    write_weights(STATE, tmp_path / "deep" / name)
    assert_state(read_weights(tmp_path / "deep" / name))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


def test_the_old_form_of_torch_save_is_read(tmp_path):
    torch.save(STATE, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert_state(read_weights(tmp_path / "w.pt"))


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_wrappers_of_trainers_are_taken_off(tmp_path, key):
    wrapped = {"module." + name: tensor for name, tensor in STATE.items()}
    torch.save({key: wrapped, "epoch": 3}, tmp_path / "w.pt")
    assert_state(read_weights(tmp_path / "w.pt"))


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickled_object_is_refused_and_never_made(tmp_path, is_zip):
    torch.save({**STATE, "model_object": Gadget()}, tmp_path / "w.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=r"pickled objects.*convert it once") as caught:
        read_weights(tmp_path / "w.pt")
    assert caught.value.path == str(tmp_path / "w.pt")
    assert not Gadget.ran


def test_a_plain_pickle_is_refused(tmp_path):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Gadget()))
    with pytest.raises(CheckpointError):
        read_weights(tmp_path / "w.pt")
    assert not Gadget.ran


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 500, 8000])
def test_a_file_cut_short_is_refused(tmp_path, name, kept):
    write_weights(STATE, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:kept])
    with pytest.raises(CheckpointError, match=r"[Dd]ownload or copy it again"):
        read_weights(tmp_path / name)


def test_a_flipped_bit_is_found(tmp_path):
    write_weights(STATE, tmp_path / "w.pt")
    content = bytearray((tmp_path / "w.pt").read_bytes())
    at = content.find(torch.arange(1000.0, 1010.0).numpy().tobytes())
    content[at] ^= 1
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checksum of .* differs"):
        read_weights(tmp_path / "w.pt")


def test_a_page_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "w.pt").write_text("<!doctype html><title>Sign in</title>")
    with pytest.raises(CheckpointError, match="again"):
        read_weights(tmp_path / "w.pt")


def test_values_that_are_not_finite_are_refused_by_name(tmp_path):
    save_file({**STATE, "c.bias": torch.tensor([1.0, torch.nan])}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"1 of 3 tensors are not finite, the first is c.bias"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"epoch": torch.tensor(1), "note": "x"}, {}])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="convert it once"):
        read_weights(tmp_path / "w.pt")


def test_a_file_that_is_not_there_and_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path / "w.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_weights(STATE, tmp_path / "file" / "w.pt")
