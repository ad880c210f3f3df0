"""When torch.compile is used."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from ctclip.data import TrainBatch
from ctclip.models.dual import build_dual_encoder
from ctclip.models.text import TextTokenizer, write_text_folder
from ctclip.training.compilation import compile_towers, is_compile_wanted
from ctclip.training.distributed import World
from ctclip.training.step import TrainingStep
from tests.ctclip.learnable import SHAPE, learnable_config

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TEXTS = [f"liver : {word} ." for word in ("normal", "enlarged", "small and fatty")]


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


@pytest.fixture
def tiny(tmp_path):
    """The smallest dual encoder and its tokenizer."""
    config = learnable_config(tmp_path)
    write_text_folder(tmp_path / "text", config.model.text, TEXTS)
    model = build_dual_encoder(config.model, tmp_path / "text", num_channels=1, seed=0, is_pretrained=True)
    torch._dynamo.reset()
    return config, model.train(), TextTokenizer(tmp_path / "text", max_length=48, is_padded_to_max=True)


def batch_of(tokenizer: TextTokenizer, step: int) -> TrainBatch:
    texts = [TEXTS[(step + number) % len(TEXTS)] for number in range(8)]
    volume = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(step))
    return TrainBatch(volume.contiguous(memory_format=torch.channels_last_3d), tokenizer(texts), "report", tuple(texts))


@pytest.mark.parametrize(("micro_batch", "num_graphs"), [("off", 2), (4, 4)])
def test_each_tower_is_one_graph_that_is_never_compiled_again(tiny, monkeypatch, micro_batch, num_graphs):
    config, model, tokenizer = tiny
    counter = CompileCounter()
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda module, **options: compile_in_place(module, **options | {"backend": counter, "fullgraph": True}),
    )
    compile_towers(model)
    step = TrainingStep(model, replace(config, micro_batch=micro_batch), World(0, 1, CPU))
    for number in range(4):
        loss, _ = step.run(number, batch_of(tokenizer, number))
        assert loss.isfinite()
    assert counter.frame_count == num_graphs  # two towers; the gradient cache's first pass has none of autograd's part


def test_the_budget_is_the_image_towers_alone(tiny, monkeypatch):
    _, model, _ = tiny
    asked = []
    monkeypatch.setattr("ctclip.training.compilation.budgeted_backend", lambda budget: asked.append(budget) or "eager")
    backends = {}
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **options: backends.update({type(module).__name__: options})
    )
    compile_towers(model, activation_budget=0.75)
    assert asked == [0.75]
    assert backends["ImageEncoder"] == {"dynamic": False, "backend": "eager"}
    assert backends["TextEncoder"] == {"dynamic": False}
