"""Cases of training: the text tower, whole steps as ctclip takes them, their optimizer, and what reading a loss costs.

Predictions were derived for an H200 from counted operations and bytes before any measurement, where there is one.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import LongformerConfig, LongformerModel

from benchmarks.gpu_case import Case, bfloat16, device
from benchmarks.gpu_sizes import Sizes, sizes
from ctclip.config import DataConfig, TrainConfig
from ctclip.data import TrainBatch
from ctclip.models.dual import DualEncoder
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.longformer import Longformer
from ctclip.models.text import TextEncoder, Tokens
from ctclip.presets import PRESETS
from ctclip.training.compilation import compile_towers
from ctclip.training.distributed import World
from ctclip.training.step import TrainingStep

STUDIES, EPOCHS = 15_314, 100  # Merlin's training
PREDICTED = {1: 35.0, 2: 55.0, 4: 62.0, 8: 70.0, 16: 75.0, 17: 70.0}
FLOOR_RATE = 98.0


def text(is_tiny: bool) -> Iterator[Case]:
    """The text tower forward and backward at 512 tokens, against Hugging Face's Longformer."""
    size = sizes(is_tiny)
    for batch in (2,) if is_tiny else (1, 16):
        config = f"B={batch} tokens={size.tokens} bf16"
        for provider, is_ours, is_compiled, predicted in (
            ("transformers, eager", False, False, 250.0),
            ("transformers, compiled", False, True, None),
            ("ctclip, eager", True, False, 600.0),
            ("ctclip, compiled", True, True, 1200.0),
        ):
            make = functools.partial(_text_step, batch, size, is_ours, is_compiled)
            yield Case("text tower forward+backward", provider, config, make, batch, predicted=predicted)


def _text_step(batch: int, size: Sizes, is_ours: bool, is_compiled: bool) -> Callable[[], Any]:
    config = LongformerConfig(**size.text)
    encoder: nn.Module = Longformer(config) if is_ours else LongformerModel(config, add_pooling_layer=False)
    nn.Module.to(encoder, device())
    encoder.train()
    if is_compiled:
        encoder.compile(dynamic=False, backend=size.backend)
    ids, mask = _tokens(batch, size)

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        with bfloat16():
            hidden = encoder(ids, attention_mask=mask).last_hidden_state
        hidden[:, 0].float().square().mean().backward()

    return step


def training(is_tiny: bool) -> Iterator[Case]:
    """ctclip's own steps with both towers, loss and optimizer; also as one CUDA graph."""
    size = sizes(is_tiny)
    for batch in size.batches:
        config = f"B={batch} {size.volume[0]}x{size.volume[1]}x{size.volume[2]} tokens={size.tokens} bf16"
        row = functools.partial(Case, "training step", config=config, count=batch, floor=FLOOR_RATE)
        predicted = PREDICTED.get(batch)
        yield row("ctclip, compiled", make=functools.partial(_real_step, batch, size), predicted=predicted)
        if batch >= 16 or is_tiny:
            make = functools.partial(_real_step, batch, size, norm="fused")
            yield row("ctclip, compiled, fused batch norm", make=make, predicted=90.0)
            make = functools.partial(_real_step, batch, size, is_loss_read=True)
            yield row("ctclip, compiled, loss read every step", make=make)
        make = functools.partial(_graph_step, batch, size)
        yield row("ctclip, compiled, whole-step graph", make=make, predicted=predicted, graph_calls=1)
    for kind in ("fused", "foreach", "for loop"):
        yield Case("AdamW step", kind, "image and text tower", functools.partial(_optimizer_step, size, kind))


def model_of(size: Sizes, *, norm: str = "torch") -> DualEncoder:
    """ctclip's dual encoder of these sizes on the device, compiled, in training mode."""
    image = InflatedResNet(replace(size.image, norm=norm), num_channels=1, embedding_dim=512)
    words = TextEncoder(Longformer(LongformerConfig(**size.text)), embedding_dim=512, pooling="first")
    model = DualEncoder(image, words, logit_scale=1.0).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    model = model.to(device()).train()
    if size.backend == "inductor":
        compile_towers(model)
    else:
        for tower in (model.encode_image, model.encode_text):
            tower.compile(dynamic=False, backend=size.backend)
    return model


def config_of(batch: int, size: Sizes) -> TrainConfig:
    """Merlin's preset with these sizes and batches."""
    start = PRESETS["merlin"]
    return replace(start, data=DataConfig(batch_size=batch), model=replace(start.model, image=size.image))


def batch_of(volume: torch.Tensor, size: Sizes) -> TrainBatch:
    """Volumes with made-up words."""
    study = tuple(f"study-{number}" for number in range(len(volume)))
    return TrainBatch(volume, Tokens(*_tokens(len(volume), size)), "report", study)


def _tokens(batch: int, size: Sizes) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 90, (batch, size.tokens), device=device())
    return ids, torch.ones_like(ids)


def _real_step(batch: int, size: Sizes, *, norm: str = "torch", is_loss_read: bool = False) -> Callable[[], Any]:
    torch.backends.cudnn.benchmark = True
    step = TrainingStep(model_of(size, norm=norm), config_of(batch, size), World(0, 1, device()))
    given = batch_of(torch.rand(batch, 1, *size.volume, device=device()), size)
    numbers = itertools.count()

    def run() -> Any:
        loss, _ = step.run(next(numbers), given)
        return loss.item() if is_loss_read else loss

    return run


def _graph_step(batch: int, size: Sizes) -> Callable[[], Any]:
    """ctclip's step, to be captured whole; each replay first brings a batch into the place that the graph reads.

    Left to the host, and not in the time: the step's learning rate and the seed of its dropout (TrainingStep.begin).
    """
    torch.backends.cudnn.benchmark = True
    world = World(0, 1, device())
    step = TrainingStep(model_of(size), config_of(batch, size), world, is_capturable=True)
    volume = torch.rand(batch, 1, *size.volume, device=device())
    given = batch_of(torch.empty_like(volume), size)
    step.begin(0)

    def run() -> Any:
        given.volume.copy_(volume)
        return step.advance(given)

    return run


def _optimizer_step(size: Sizes, kind: str) -> Callable[[], Any]:
    image = InflatedResNet(size.image, num_channels=1, embedding_dim=512)
    words = Longformer(LongformerConfig(**size.text))
    learned = [parameter.to(device()).detach() for tower in (image, words) for parameter in tower.parameters()]
    for parameter in learned:
        parameter.requires_grad_().grad = torch.zeros_like(parameter)
    options: dict[str, dict[str, Any]] = {
        "fused": {"fused": True},
        "foreach": {"foreach": True},
        "for loop": {"foreach": False},
    }
    return torch.optim.AdamW(learned, lr=1e-5, **options[kind]).step


def projected_days(studies_per_s: float) -> float:
    """Days of Merlin's training (15,314 studies, 100 epochs) at a measured rate."""
    return STUDIES * EPOCHS / studies_per_s / 86_400
