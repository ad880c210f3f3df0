"""A 2D ResNet of torchvision as weights of the 3D image tower.

Inflation is centred (Merlin's; merlin/models/inflate.py): the middle slice of each 3D kernel is the 2D kernel and the
others are 0, so that on a volume whose slices are all alike every slice's features are those of the 2D network
(Carreira and Zisserman 2017, arXiv 1705.07750, spread the kernel over depth instead). Kernels keep their (y, x).
"""

from pathlib import Path

import torch
from torch import Tensor

from ctclip.models.inflated_resnet import InflatedResNet
from ctclip.models.merlin_checkpoint import check_names

HEAD = ("contrastive_head.weight", "contrastive_head.bias")


def is_resnet2d(state: dict[str, Tensor]) -> bool:
    """Whether names and shapes are those of torchvision's ResNets."""
    return "conv1.weight" in state and state["conv1.weight"].ndim == 4


def inflate_resnet2d(state: dict[str, Tensor], tower: InflatedResNet, *, path: Path) -> dict[str, Tensor]:
    """The tower's state_dict with a 2D ResNet's weights; the contrastive head stays the tower's own.

    Args:
        state: Of a torchvision ResNet with bottlenecks; its `fc` is left out.
        tower: Has the same blocks and widths.
        path: Where `state` comes from, for messages.

    Raises:
        CheckpointError: Blocks or widths differ.
    """
    wanted = tower.state_dict()
    inflated = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    for name, tensor in wanted.items():
        given = inflated.get(name)
        if name.endswith("num_batches_tracked"):
            inflated.setdefault(name, tensor)  # files of before 2018 have none
        elif given is not None and given.ndim == 4 and tensor.ndim == 5:
            inflated[name] = centred(given, depth=tensor.shape[2])
    inflated["conv1.weight"] = spread_planes(inflated["conv1.weight"], wanted["conv1.weight"].shape[1])
    inflated |= {name: wanted[name] for name in HEAD}
    check_names(inflated, wanted, path=path)
    return inflated


def centred(kernel_OIHW: Tensor, *, depth: int) -> Tensor:
    """(O, I, depth, H, W), zero but for its middle slice."""
    kernel = kernel_OIHW.new_zeros(*kernel_OIHW.shape[:2], depth, *kernel_OIHW.shape[2:])
    kernel[:, :, depth // 2] = kernel_OIHW
    return kernel


def spread_planes(kernel: Tensor, num_planes: int) -> Tensor:
    """A stem's kernel (O, I, D, H, W) for another number of input planes.

    Every new plane is the sum over the old ones divided by the number of new ones: where all channels are alike, the
    response is that of the old kernel. As many planes as there are come back as they are.
    """
    if kernel.shape[1] == num_planes:
        return kernel
    return (kernel.sum(1, keepdim=True) / num_planes).expand(-1, num_planes, *(-1,) * (kernel.ndim - 2)).contiguous()


def cached_imagenet(blocks: tuple[int, ...]) -> list[Path]:
    """Files of torchvision's ResNets with these blocks in torch's download folder."""
    depth = 2 + 3 * sum(blocks)
    return sorted(Path(torch.hub.get_dir(), "checkpoints").glob(f"resnet{depth}-*.pth"))
