"""The slow twin of `bn_act`: torch's own calls, one after the other. Oracle of the tests, and what every CPU runs."""

from torch import Tensor
from torch.nn import functional


def bn_act_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    residual: Tensor | None = None,
    has_relu: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    is_training: bool = True,
) -> Tensor:
    """Arguments and result as `bn_act` describes them (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1)."""
    y = functional.batch_norm(x, running_mean, running_var, weight, bias, is_training, momentum, eps)
    if residual is not None:
        y = y + residual
    return functional.relu(y) if has_relu else y
