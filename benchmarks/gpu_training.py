"""Cases of training: the image tower setting by setting, the text tower, whole steps, and merlin-vlm beside them.

Predictions were derived for an H200 from counted operations and bytes before any measurement; floors are convolutions
and batch-norm traffic at 788 TFLOP/s and 4.3 TB/s (9.8 ms a volume compiled, 102 studies/s).
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LongformerConfig, LongformerModel

from benchmarks.gpu_case import Case, bfloat16, device
from benchmarks.rivals import merlin_image_tower
from ctclip.config import PRESETS, ImageConfig
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.longformer import Longformer
from ctclip.models.text import TextEncoder
from ctclip.training.compilation import budgeted_backend
from ctkernels import infonce

FLOOR_RATE = 102.0  # studies/s of the image tower with batch norm in training mode
LADDER_BATCH = 8
STUDIES, EPOCHS = 15_314, 100  # Merlin's training


@dataclass(frozen=True)
class Setting:
    """How the image tower is run: `layout` of its memory, compiled or not, share of activations kept."""

    name: str
    is_channels_last: bool = True
    is_compiled: bool = True
    budget: float = 1.0
    predicted: float | None = None


LADDER = (
    Setting("eager, contiguous", is_channels_last=False, is_compiled=False, predicted=40.0),
    Setting("eager, channels last", is_compiled=False, predicted=55.0),
    Setting("compiled, channels last", predicted=70.0),
    Setting("compiled, channels last, budget 0.75", budget=0.75, predicted=66.0),
)


@dataclass(frozen=True)
class Sizes:
    """The published model and volumes, or a tiny stand-in for a dry run."""

    image: ImageConfig
    volume: tuple[int, int, int]
    text: dict[str, Any]
    tokens: int
    batches: tuple[int, ...]
    merlin_blocks: tuple[int, ...]
    backend: str


def sizes(is_tiny: bool) -> Sizes:
    if is_tiny:
        text = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"intermediate_size": 32, "attention_window": 8, "max_position_embeddings": 66, "pad_token_id": 1}
        image = ImageConfig((1, 1, 1, 1), (4, 4, 8, 8), 4, 3)
        return Sizes(image, (16, 32, 32), text, 16, (2,), (1, 1, 1, 1), "eager")
    text = {"vocab_size": 50265, "num_hidden_layers": 12, "intermediate_size": 3072, "attention_window": 512}
    text |= {"max_position_embeddings": 4098, "pad_token_id": 1, "type_vocab_size": 1}
    image = PRESETS["merlin"].model.image
    return Sizes(image, (160, 224, 224), text, 512, (1, 2, 4, 8, 16, 17), (3, 8, 36, 3), "inductor")


def ladder(is_tiny: bool) -> Iterator[Case]:
    """The image tower forward and backward, one setting more in each row, then merlin-vlm in the same run."""
    size = sizes(is_tiny)
    batch = 2 if is_tiny else LADDER_BATCH
    config = f"B={batch} {size.volume[0]}x{size.volume[1]}x{size.volume[2]} bf16"
    work = "image tower forward+backward"
    for setting in LADDER:
        make = functools.partial(_tower_step, functools.partial(_our_tower, size, setting), batch, size)
        yield Case(work, f"ctclip: {setting.name}", config, make, batch, predicted=setting.predicted, floor=FLOOR_RATE)
    for name, is_at_best, predicted in (("as released", False, 24.0), ("at its best setting", True, 55.0)):
        tower = functools.partial(_merlin_tower, size, is_at_best)
        make = functools.partial(_tower_step, tower, batch, size)
        yield Case(work, f"merlin-vlm 0.0.7: {name}", config, make, batch, predicted=predicted, floor=FLOOR_RATE)


def _our_tower(size: Sizes, setting: Setting) -> nn.Module:
    tower = InflatedResNet(size.image, num_channels=1, embedding_dim=512).to(device()).train()
    if setting.is_channels_last:
        tower = tower.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    if setting.is_compiled:
        backend = size.backend if setting.budget == 1 else budgeted_backend(setting.budget, size.backend)
        tower.compile(dynamic=False, backend=backend)
    return tower


def _merlin_tower(size: Sizes, is_at_best: bool) -> nn.Module:
    tower = merlin_image_tower(is_at_best=is_at_best, layers=size.merlin_blocks).to(device())
    if not is_at_best:
        return _Released(tower)
    tower.compile(dynamic=False, backend=size.backend)
    return _First(tower)


class _First(nn.Module):
    """Merlin's tower from volumes (B, 1, D, H, W): it takes the slices last and gives two results."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        return self.tower(volume_BCDHW.permute(0, 1, 3, 4, 2))[0]


class _Released(_First):
    """With an input that wants a gradient, without which its reentrant checkpoints give the weights none."""

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        return super().forward(volume_BCDHW.detach().requires_grad_())


def _tower_step(make_tower: Callable[[], nn.Module], batch: int, size: Sizes) -> Callable[[], Any]:
    torch.backends.cudnn.benchmark = True
    tower = make_tower()
    volume = torch.rand(batch, 1, *size.volume, device=device())
    learned = [parameter for parameter in tower.parameters() if parameter.requires_grad]

    def step() -> None:
        for parameter in learned:
            parameter.grad = None
        with bfloat16():
            features = tower(volume)
        features.float().square().mean().backward()

    return step


def text(is_tiny: bool) -> Iterator[Case]:
    """The text tower forward and backward at 512 tokens, against Hugging Face's Longformer."""
    size = sizes(is_tiny)
    for batch in (2,) if is_tiny else (1, 16):
        config = f"B={batch} tokens={size.tokens} bf16"
        for provider, is_ours, is_compiled, predicted in (
            ("transformers, eager", False, False, 250.0),
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
    ids = torch.randint(3, 90, (batch, size.tokens), device=device())
    mask = torch.ones_like(ids)

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        with bfloat16():
            hidden = encoder(ids, attention_mask=mask).last_hidden_state
        hidden[:, 0].float().square().mean().backward()

    return step


def training(is_tiny: bool) -> Iterator[Case]:
    """Whole steps with both towers, loss and optimizer; also captured whole in a CUDA graph."""
    size = sizes(is_tiny)
    predicted = {1: 35.0, 2: 55.0, 4: 62.0, 8: 70.0, 16: 75.0, 17: 70.0}
    for batch in size.batches:
        for provider, is_graph in (("ctclip, compiled", False), ("ctclip, compiled, whole-step graph", True)):
            make = functools.partial(_training_step, batch, size)
            config = f"B={batch} {size.volume[0]}x{size.volume[1]}x{size.volume[2]} tokens={size.tokens} bf16"
            known = predicted.get(batch)
            yield Case("training step", provider, config, make, batch, predicted=known, floor=98.0, is_graph=is_graph)


def _training_step(batch: int, size: Sizes) -> Callable[[], Any]:
    torch.backends.cudnn.benchmark = True
    image = _our_tower(size, Setting("compiled"))
    text_tower = TextEncoder(Longformer(LongformerConfig(**size.text)), embedding_dim=512, pooling="first")
    text_tower = text_tower.to(device()).train()
    text_tower.compile(dynamic=False, backend=size.backend)
    scale = nn.Parameter(torch.tensor(1.0, device=device()))
    learned = [p for p in [*image.parameters(), *text_tower.parameters(), scale] if p.requires_grad]
    is_cuda = device().type == "cuda"
    optimizer = torch.optim.AdamW(learned, lr=1e-5, fused=True, capturable=is_cuda)
    volume = torch.rand(batch, 1, *size.volume, device=device())
    ids = torch.randint(3, 90, (batch, size.tokens), device=device())
    mask = torch.ones_like(ids)

    def step() -> None:
        with bfloat16():
            features = image(volume), text_tower(ids, mask)
        infonce(*features, scale).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def memory(is_tiny: bool) -> Iterator[Case]:
    """Training at growing batches until one fails: the last row with a number is the largest micro-batch here."""
    size = sizes(is_tiny)
    for setting in LADDER[2:]:
        for batch in (2,) if is_tiny else (16, 24, 32, 40, 48, 56, 64):
            make = functools.partial(_tower_step, functools.partial(_our_tower, size, setting), batch, size)
            config = f"B={batch} {size.volume[0]}x{size.volume[1]}x{size.volume[2]} bf16"
            yield Case("largest micro-batch", f"ctclip: {setting.name}", config, make, batch)


def projected_days(studies_per_s: float) -> float:
    """Days of Merlin's training (15,314 studies, 100 epochs) at a measured rate."""
    return STUDIES * EPOCHS / studies_per_s / 86_400
