"""Cases of the image tower: one setting more in each row, then merlin-vlm in the same run, and the largest batches.

Predictions were derived for an H200 from counted operations and bytes before any measurement, where there is one;
the floor is convolutions and batch-norm traffic at 788 TFLOP/s and 4.3 TB/s (9.8 ms a volume compiled).
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.gpu_case import Case, bfloat16, device
from benchmarks.gpu_sizes import Sizes, sizes
from benchmarks.rivals import merlin_image_tower
from ctclip.models import inflated_resnet
from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.training.compilation import budgeted_backend

FLOOR_RATE = 102.0  # studies/s of the image tower with batch norm in training mode
LADDER_BATCH = 8
WORK = "image tower forward+backward"


@dataclass(frozen=True)
class Setting:
    """How the image tower is run.

    Attributes:
        name: Of the row.
        is_benchmarked: cuDNN tries its algorithms at the first call of a shape.
        is_stem_summed: One channel in, the stem's three planes summed; else three equal channels.
        is_channels_last: Layout of weights and volumes.
        is_product: 1x1x1 convolutions as matrix products.
        is_compiled: By torch.compile, the whole tower.
        mode: Of torch.compile.
        norm: As in ctclip.config.ImageConfig.
        budget: Share of activations kept.
        predicted: studies/s at B = 8.
    """

    name: str
    is_benchmarked: bool = True
    is_stem_summed: bool = True
    is_channels_last: bool = True
    is_product: bool = True
    is_compiled: bool = True
    mode: str | None = None
    norm: str = "torch"
    budget: float = 1.0
    predicted: float | None = None


_EAGER = Setting("eager, channels last", is_compiled=False, predicted=55.0)
_CONTIGUOUS = replace(_EAGER, name="eager, contiguous", is_channels_last=False, is_product=False, predicted=40.0)
COMPILED = Setting("compiled, channels last", predicted=70.0)
BUDGETED = replace(COMPILED, name="compiled, budget 0.75", budget=0.75, predicted=66.0)
# Each row has what the one before has, and what its name says.
LADDER = (
    replace(_CONTIGUOUS, name="eager, plain", is_benchmarked=False, is_stem_summed=False, predicted=None),
    replace(_CONTIGUOUS, name="+ cudnn.benchmark", is_stem_summed=False, predicted=None),
    replace(_CONTIGUOUS, name="+ summed stem"),
    replace(_EAGER, name="+ channels last", is_product=False, predicted=None),
    replace(_EAGER, name="+ 1x1x1 as products"),
    replace(COMPILED, name="+ torch.compile"),
    replace(COMPILED, name="+ fused batch norm (bn_act)", norm="fused", predicted=84.0),
    replace(BUDGETED, name="+ torch.compile, budget 0.75"),
)
SMALL = replace(COMPILED, name="torch.compile reduce-overhead", mode="reduce-overhead", predicted=None)


def ladder(is_tiny: bool) -> Iterator[Case]:
    """The image tower forward and backward, one setting more in each row, then merlin-vlm in the same run."""
    size = sizes(is_tiny)
    batch = 2 if is_tiny else LADDER_BATCH
    config = _config_of(batch, size)
    for setting in LADDER:
        make = functools.partial(tower_step, functools.partial(our_tower, size, setting), batch, size, setting)
        yield Case(WORK, f"ctclip: {setting.name}", config, make, batch, predicted=setting.predicted, floor=FLOOR_RATE)
    for few in (2,) if is_tiny else (1, 2):  # where launches, not bytes, may be what takes time
        for setting in (replace(COMPILED, name="torch.compile", predicted=None), SMALL):
            make = functools.partial(tower_step, functools.partial(our_tower, size, setting), few, size, setting)
            yield Case(WORK, f"ctclip: {setting.name}", _config_of(few, size), make, few)
    for name, is_at_best, predicted in (("as released", False, 24.0), ("at its best setting", True, 55.0)):
        tower = functools.partial(_merlin_tower, size, is_at_best)
        make = functools.partial(tower_step, tower, batch, size)
        yield Case(WORK, f"merlin-vlm 0.0.7: {name}", config, make, batch, predicted=predicted, floor=FLOOR_RATE)


def memory(is_tiny: bool) -> Iterator[Case]:
    """The image tower at growing batches until one fails: the last row with a number is the largest that fits."""
    size = sizes(is_tiny)
    for setting in (COMPILED, BUDGETED):
        for batch in (2,) if is_tiny else (16, 24, 32, 40, 48, 56, 64):
            make = functools.partial(tower_step, functools.partial(our_tower, size, setting), batch, size)
            guarded = _Guarded(make)
            yield Case("largest micro-batch", f"ctclip: {setting.name}", _config_of(batch, size), guarded, batch)
            if guarded.is_full:  # larger ones would compile for a minute each to find the same
                break


class _Guarded:
    """Work whose running out of memory is noted."""

    def __init__(self, make: Callable[[], Callable[[], Any]]) -> None:
        self._make, self.is_full = make, False

    def __call__(self) -> Callable[[], Any]:
        try:
            step = self._make()
        except torch.OutOfMemoryError:
            self.is_full = True
            raise

        def guarded() -> None:
            try:
                step()
            except torch.OutOfMemoryError:
                self.is_full = True
                raise

        return guarded


def our_tower(size: Sizes, setting: Setting) -> nn.Module:
    """ctclip's image tower as a setting has it, in training mode."""
    image = replace(size.image, norm=setting.norm)
    if not setting.is_stem_summed:
        image = replace(image, stem_planes=0)
    made = InflatedResNet(image, num_channels=1 if setting.is_stem_summed else 3, embedding_dim=512).to(device())
    if setting.is_channels_last:
        made = made.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    if setting.is_compiled:
        backend: Any = size.backend if setting.budget == 1 else budgeted_backend(setting.budget, size.backend)
        mode = setting.mode if size.backend == "inductor" else None
        made.compile(dynamic=False, backend=backend, mode=mode)
    return made.train() if setting.is_product else _AsConvolutions(made.train())


class _AsConvolutions(nn.Module):
    """The tower with its 1x1x1 convolutions left to cuDNN."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        with mock.patch.object(inflated_resnet, "pointwise", lambda convolution, hidden: convolution(hidden)):
            return self.tower(volume_BCDHW)


def tower_step(
    make_tower: Callable[[], nn.Module], batch: int, size: Sizes, setting: Setting = COMPILED
) -> Callable[[], Any]:
    """Forward and backward of one batch, as a callable."""
    torch.backends.cudnn.benchmark = setting.is_benchmarked
    tower = make_tower()
    volume = torch.rand(batch, 1, *size.volume, device=device())
    if not setting.is_stem_summed:
        volume = volume.expand(-1, 3, -1, -1, -1).contiguous()
    learned = [parameter for parameter in tower.parameters() if parameter.requires_grad]

    def step() -> None:
        for parameter in learned:
            parameter.grad = None
        with bfloat16():
            features = tower(volume)
        features.float().square().mean().backward()

    return step


def _config_of(batch: int, size: Sizes) -> str:
    return f"B={batch} {size.volume[0]}x{size.volume[1]}x{size.volume[2]} bf16"


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
