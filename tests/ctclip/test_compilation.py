"""When torch.compile is used."""

import warnings

import pytest
import torch

from ctclip.compilation import is_compile_wanted

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("mode", "device", "wanted"),
    [("auto", CPU, False), ("auto", CUDA, True), ("on", CPU, True), ("off", CUDA, False), ("off", CPU, False)],
)
def test_auto_compiles_for_cuda_only(mode, device, wanted, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert is_compile_wanted(mode, device) is wanted


def test_without_a_compiler_it_is_off_and_one_warning_says_what_was_looked_for(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.warns(UserWarning, match=r"looked for my-compiler, g\+\+") as caught:
        assert not is_compile_wanted("on", CPU)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_compile_wanted("off", CUDA)
