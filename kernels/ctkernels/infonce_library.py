"""`torch.ops.ctkernels.infonce`: one operator for all devices, and the choice of what computes it.

Eager code calls the computation directly, because the dispatcher costs more than a small kernel; compiled code sees
one opaque operator. Importing this file registers the operator and touches no device.
"""

import importlib.util

import torch
from torch import Tensor

from ctkernels.infonce_closed import Gradients, closed_gradients, closed_loss
from ctkernels.pairing import Pairing, SigmoidTerm

_KINDS = (torch.float32, torch.bfloat16, torch.float16)
_SCHEMA = (
    "(Tensor image, Tensor text, Tensor logit_scale, Tensor? positive_id, Tensor? ignore_id, "
    "Tensor? is_active, Tensor? sigmoid_scale, Tensor? sigmoid_bias, Tensor? is_normal, str direction, float weight, "
    "float sigmoid_weight, str reduction, bool ignores_abnormal, SymInt start, SymInt stop) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
torch.library.define("ctkernels::infonce", _SCHEMA)


def compute_loss(image: Tensor, text: Tensor, logit_scale: Tensor, pairing: Pairing) -> Tensor:
    """The scalar loss alone, by whatever is fastest for these inputs."""
    if torch.compiler.is_compiling() or image.device.type != "cpu":
        return compute_gradients(image, text, logit_scale, pairing, (0, 0)).loss
    return closed_loss(image, text, logit_scale, pairing)


def compute_gradients(
    image: Tensor, text: Tensor, logit_scale: Tensor, pairing: Pairing, rows: tuple[int, int]
) -> Gradients:
    """The loss and all gradients, by whatever is fastest for these inputs.

    Args:
        image: (B, E).
        text: (B, E).
        logit_scale: Scalar.
        pairing: Options, checked.
        rows: Start and stop of the rows whose features want a gradient.
    """
    if torch.compiler.is_compiling():
        return Gradients(*torch.ops.ctkernels.infonce.default(*_flat(image, text, logit_scale, pairing, rows)))
    return _computed(image, text, logit_scale, pairing, rows)


def is_for_triton(*tensors: Tensor) -> bool:
    """Whether Triton kernels take these: an NVIDIA GPU of compute capability 8 up, no float64, Triton installed."""
    if any(tensor.device.type != "cuda" or tensor.dtype not in _KINDS for tensor in tensors):
        return False
    if torch.version.hip is not None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(tensors[0].device) >= (8, 0)


def _computed(image: Tensor, text: Tensor, logit_scale: Tensor, pairing: Pairing, rows: tuple[int, int]) -> Gradients:
    if not is_for_triton(image, text):
        return closed_gradients(image, text, logit_scale, pairing, rows)
    from ctkernels.infonce_tiled import infonce_tiled  # an optional package, and only for CUDA
    from ctkernels.infonce_triton import MAX_PAIRS, infonce_small

    if image.dtype != text.dtype:
        image, text = image.float(), text.float()
    launch = infonce_small if len(image) <= MAX_PAIRS else infonce_tiled
    with torch.cuda.device(image.device):
        return launch(image.contiguous(), text.contiguous(), logit_scale, pairing, rows)


def _flat(image: Tensor, text: Tensor, logit_scale: Tensor, pairing: Pairing, rows: tuple[int, int]) -> tuple:
    """The operator's arguments."""
    term = pairing.sigmoid
    cells = (None, None, None) if term is None else (term.log_scale, term.bias, term.is_normal)
    options = (0.0, "mean", False) if term is None else (term.weight, term.reduction, term.ignores_abnormal)
    masks = (pairing.positive_id, pairing.ignore_id, pairing.is_active)
    return (image, text, logit_scale, *masks, *cells, pairing.direction, pairing.weight, *options, *rows)


def _pairing_of(arguments: tuple) -> Pairing:
    """The way back from `_flat`'s arguments after the first three."""
    positive_id, ignore_id, is_active, scale, bias, is_normal, direction, weight, *options, _, _ = arguments
    term = None if is_normal is None else SigmoidTerm(scale, bias, is_normal, *options)
    return Pairing(positive_id, ignore_id, is_active, direction, weight, term)


@torch.library.impl("ctkernels::infonce", "CompositeExplicitAutograd")
def _operator(image: Tensor, text: Tensor, logit_scale: Tensor, *arguments) -> tuple[Tensor, ...]:
    return tuple(_computed(image, text, logit_scale, _pairing_of(arguments), arguments[-2:]))


@torch.library.register_fake("ctkernels::infonce")
def _shapes(image: Tensor, text: Tensor, logit_scale: Tensor, *arguments) -> tuple[Tensor, ...]:
    kind = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    num_rows = arguments[-1] - arguments[-2]
    shapes = ((), (num_rows, image.shape[1]), (num_rows, image.shape[1]), (), (2,))
    return tuple(image.new_empty(shape, dtype=kind) for shape in shapes)
