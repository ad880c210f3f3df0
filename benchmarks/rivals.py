"""Others' code, run as its authors wrote it: losses of open_clip and Inf-CL, the image tower of merlin-vlm.

Each is imported in its own function, since none is needed to run this project: `pip install open_clip_torch inf-cl`,
and `merlin-vlm` with torchvision. A missing one raises ImportError, which a table of results records.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import checkpoint


def autograd_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Plain torch: normalise, one product, two cross-entropies."""
    image, text = functional.normalize(image, dim=1), functional.normalize(text, dim=1)
    logits = logit_scale.exp() * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def open_clip_loss() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """open_clip's ClipLoss with the normalisation its models do before it."""
    loss = _module_of("open_clip", "loss").ClipLoss(cache_labels=True)
    return lambda image, text, scale: loss(
        functional.normalize(image, dim=-1), functional.normalize(text, dim=-1), scale.exp()
    )


def inf_cl_loss() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Inf-CL's flash path in both directions (it normalises nothing and takes float32 on CUDA only)."""
    from inf_cl import cal_flash_loss  # pyright: ignore[reportMissingImports]

    if not torch.cuda.is_available():
        raise ImportError("inf-cl has kernels for CUDA only")

    def both(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        image, text = functional.normalize(image.float(), dim=-1), functional.normalize(text.float(), dim=-1)
        target = torch.arange(len(image), device=image.device)
        rows = cal_flash_loss(image, text, target, scale.exp()).mean()
        return (rows + cal_flash_loss(text, image, target, scale.exp()).mean()) / 2

    return both


def merlin_image_tower(*, is_at_best: bool, layers: tuple[int, ...] = (3, 8, 36, 3)) -> nn.Module:
    """merlin-vlm's I3ResNet on random weights.

    Args:
        is_at_best: Without its two nested checkpoints and in channels-last memory; else exactly as released.
        layers: Blocks of each stage; the released one is ResNet-152.
    """
    from torchvision.models.resnet import Bottleneck, ResNet  # pyright: ignore[reportMissingImports]

    network = _merlin_module("i3res")
    vars(network)["checkpoint"] = checkpoint
    tower = network.I3ResNet(ResNet(Bottleneck, list(layers)), class_nb=1692, conv_class=True)
    if is_at_best:
        vars(network)["checkpoint"] = SimpleNamespace(checkpoint=lambda function, *arguments: function(*arguments))
        tower = tower.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    return tower.train()


def _merlin_module(name: str) -> ModuleType:
    """A module of merlin.models without running the packages' own imports (nltk, peft, downloads)."""
    if "merlin.models" not in sys.modules:
        found = importlib.util.find_spec("merlin")
        if found is None or not found.submodule_search_locations:
            raise ImportError("merlin-vlm is not installed: pip install --no-deps merlin-vlm")
        root = Path(found.submodule_search_locations[0])
        for package, folder in (("merlin", root), ("merlin.models", root / "models")):
            made = ModuleType(package)
            made.__path__ = [str(folder)]
            sys.modules[package] = made
    return importlib.import_module(f"merlin.models.{name}")


def _module_of(package: str, name: str) -> ModuleType:
    """One module of a package without the package's own imports."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"{package} is not installed")
    path = Path(found.submodule_search_locations[0]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"_rival_{package}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
