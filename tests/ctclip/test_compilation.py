"""When torch.compile is used."""

import warnings

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from ctclip.compilation import compile_towers, is_compile_wanted
from ctclip.models.dual import build_dual_encoder
from ctclip.models.text import TextTokenizer, write_text_folder
from tests.ctclip.learnable import SHAPE, learnable_config

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


def test_each_tower_is_one_graph_that_is_never_compiled_again(tmp_path, monkeypatch):
    config = learnable_config(tmp_path).model
    texts = [f"liver : {word} ." for word in ("normal", "enlarged", "small and fatty")]
    write_text_folder(tmp_path / "text", config.text, texts)
    model = build_dual_encoder(config, tmp_path / "text", num_channels=1, seed=0, is_pretrained=True)
    counter = CompileCounter()
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda module, **options: compile_in_place(module, backend=counter, fullgraph=True, **options),
    )
    torch._dynamo.reset()
    compile_towers(model)
    tokenizer = TextTokenizer(tmp_path / "text", max_length=48, is_padded_to_max=True)
    for step in range(3):
        tokens = tokenizer([texts[step], texts[0]])
        volume = torch.rand(2, 1, *SHAPE).to(memory_format=torch.channels_last_3d)
        features = model(volume, tokens.ids, tokens.mask)
        (features.image * features.text).sum().backward()
    assert counter.frame_count == 2
