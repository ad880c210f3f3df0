"""The image tower: an I3D ResNet, a 2D ResNet whose kernels were given a depth.

Enter: volumes (B, C, D, H, W) in [0, 1], D, H, W = z, y, x. Leaves: features (B, E), not normalised. It knows
nothing of text, of losses or of files.

One builder makes every size, from `ctclip.config.ImageConfig`; the preset `merlin` is the encoder of
StanfordMIMI/Merlin (arXiv 2406.06512; its `I3ResNet`), and modules carry that project's names, so that its
state_dict fits: conv1, bn1, layer1..4.<i>.{conv1..3, bn1..3, downsample.0, downsample.1}, contrastive_head. Two
differences are a matter of loading weights, not of this network, which never permutes a volume:

- Merlin's network was trained on (z, x, y). Every kernel of its file must have its last two axes exchanged;
  all strides, paddings and kernel shapes here are equal in y and x, so that this is exact.
- Its stem sees the one channel three times. Here the three input planes of the kernel are kept as a parameter
  and summed at each forward pass, which is the same function at a third of the cost.

Volumes and weights belong in `torch.channels_last_3d`: the layout is kept from end to end.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ctclip.config import ImageConfig
from ctclip.models.fused_norm import FusedBatchNorm, norm_act

NORMS = {"torch": nn.BatchNorm3d, "fused": FusedBatchNorm}
EXPANSION = 4  # a bottleneck gives 4 times its inner width
STAGE_STRIDES = ((2, 4, 4), (4, 8, 8), (8, 16, 16), (16, 32, 32))  # voxels (z, y, x) from cell to cell


class InflatedResNet(nn.Module):
    """I3D ResNet with a linear head on the averaged features.

    Args:
        config: Blocks and widths.
        num_channels: C, channels of a volume (stored channels x windows).
        embedding_dim: E.
    """

    def __init__(self, config: ImageConfig, *, num_channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.is_stem_summed = config.stem_planes > 0 and num_channels == 1
        planes = config.stem_planes if self.is_stem_summed else num_channels
        self.conv1 = nn.Conv3d(planes, config.stem_width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = NORMS[config.norm](config.stem_width)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        stages = []
        width_in = config.stem_width
        for stage, (num_blocks, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
            stages.append(
                _stage(width_in, width, num_blocks=num_blocks, stride=1 if stage == 0 else 2, norm=config.norm)
            )
            width_in = EXPANSION * width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.contrastive_head = nn.Conv3d(width_in, embedding_dim, 1)
        self.apply(_initialise)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        """Features (B, E) of volumes (B, C, D, H, W)."""
        return self.project(self.pooled(volume_BCDHW))

    def pooled(self, volume_BCDHW: Tensor) -> Tensor:
        """Averaged features before the head, (B, P, 1, 1, 1); P = 2048 in Merlin, whose classifiers take them."""
        return self._hidden(volume_BCDHW).mean((2, 3, 4), keepdim=True)

    def project(self, pooled_BP111: Tensor) -> Tensor:
        """Features (B, E) of what `pooled` gives."""
        return self.contrastive_head(pooled_BP111).flatten(1)

    def token_map(self, volume_BCDHW: Tensor) -> Tensor:
        """Projected tokens (B, E, d, h, w) of volumes (B, C, D, H, W); their mean is what `forward` gives."""
        return self.contrastive_head(self._hidden(volume_BCDHW))

    def stage_maps(self, volume_BCDHW: Tensor) -> list[Tensor]:
        """What each of the four stages gives, (B, C_k, d_k, h_k, w_k), cell k of them STAGE_STRIDES[k] voxels."""
        hidden = self._entered(volume_BCDHW)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
            maps.append(hidden)
        return maps

    def _hidden(self, volume_BCDHW: Tensor) -> Tensor:
        hidden = self._entered(volume_BCDHW)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)  # no stage's output outlives the next stage, unless autograd keeps it
        return hidden

    def _entered(self, volume_BCDHW: Tensor) -> Tensor:
        return self.maxpool(norm_act(self.bn1, self._stem(volume_BCDHW)))

    def _stem(self, volume_BCDHW: Tensor) -> Tensor:
        kernel = self.conv1.weight.sum(1, keepdim=True) if self.is_stem_summed else self.conv1.weight
        return convolve(self.conv1, volume_BCDHW, kernel)


def _stage(width_in: int, width: int, *, num_blocks: int, stride: int, norm: str) -> nn.Sequential:
    first = Bottleneck(width_in, width, stride=stride, norm=norm)
    rest = (Bottleneck(EXPANSION * width, width, stride=1, norm=norm) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *rest)


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 with the stride, 1x1x1, and the shortcut (He et al. 2015, arXiv 1512.03385; stride as in v1.5)."""

    def __init__(self, width_in: int, width: int, *, stride: int, norm: str = "torch") -> None:
        super().__init__()
        width_out, make_norm = EXPANSION * width, NORMS[norm]
        self.conv1 = nn.Conv3d(width_in, width, 1, bias=False)
        self.bn1 = make_norm(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, 1, bias=False)
        self.bn2 = make_norm(width)
        self.conv3 = nn.Conv3d(width, width_out, 1, bias=False)
        self.bn3 = make_norm(width_out)
        self.downsample = None
        if stride != 1 or width_in != width_out:
            self.downsample = nn.Sequential(nn.Conv3d(width_in, width_out, 1, stride, bias=False), make_norm(width_out))

    def forward(self, hidden: Tensor) -> Tensor:
        shortcut = hidden
        if self.downsample is not None:
            conv, norm = self.downsample
            assert isinstance(conv, nn.Conv3d)
            shortcut = norm(pointwise(conv, hidden))
        inner = norm_act(self.bn1, pointwise(self.conv1, hidden))
        inner = norm_act(self.bn2, convolve(self.conv2, inner, self.conv2.weight))
        return norm_act(self.bn3, pointwise(self.conv3, inner), shortcut)


def convolve(conv: nn.Conv3d, hidden: Tensor, kernel: Tensor) -> Tensor:
    """What `conv`, which has no bias, makes of (B, C, D, H, W) with this kernel.

    On a CPU a volume with an axis shorter than the kernel is convolved in float32: there oneDNN's bfloat16 gradient of
    the kernel is wrong and writes past its memory (seen with PyTorch 2.13).
    """
    if torch.is_autocast_enabled("cpu") and min(hidden.shape[2:]) < kernel.shape[-1]:
        with torch.autocast("cpu", enabled=False):
            return functional.conv3d(hidden.float(), kernel.float(), None, conv.stride, conv.padding)
    return functional.conv3d(hidden, kernel, None, conv.stride, conv.padding)


def pointwise(conv: nn.Conv3d, hidden: Tensor) -> Tensor:
    """A 1x1x1 convolution without bias as a matrix product over the last axis of channels-last memory.

    The same numbers as `conv(hidden)`. A convolution would leave channels-last on a CPU with one thread (there
    torch takes another routine for small batches), and as a matrix product it compiles to one forward and backward.
    """
    stride = conv.stride[0]
    if stride > 1:
        hidden = hidden[:, :, ::stride, ::stride, ::stride]
    mixed_BDHWC = functional.linear(hidden.permute(0, 2, 3, 4, 1), conv.weight.flatten(1))
    return mixed_BDHWC.permute(0, 4, 1, 2, 3)


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852), fan out, for convolutions; 1 and 0 for batch norm."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def num_parameters(module: nn.Module) -> int:
    """Parameters of a module, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def forward_flops(config: ImageConfig, shape: tuple[int, int, int], *, num_channels: int = 1) -> int:
    """Floating-point operations (2 per multiply-add) of one volume's forward pass, counted without computing it.

    Args:
        config: The image tower.
        shape: (D, H, W) in voxels.
        num_channels: C.
    """
    with torch.device("meta"):
        model = InflatedResNet(config, num_channels=num_channels, embedding_dim=512)
        volume = torch.empty(1, num_channels, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(volume)
    return counter.get_total_flops()
