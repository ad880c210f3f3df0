"""The registered operators: schema, fake shapes, whole graphs, no recompilation, and launches that can be counted."""

import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ctkernels import SigmoidTerm, infonce, infonce_queue
from ctkernels.infonce_library import _flat
from ctkernels.pairing import Pairing
from tests.ctkernels.contrast import gradients, pairs
from tests.ctkernels.test_queue import drawn

# torch.compile itself instantiates the autograd.Function that it traces (torch 2.13, dynamo).
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
IDS = torch.tensor([0, 0, 1, 2, -1])
FLAGS = torch.tensor([1, 0, 1, 1, 0]).bool()


def everything(batch: int = 5) -> Pairing:
    scalars = (torch.tensor(1.0), torch.tensor(-2.0))
    columns = (IDS.repeat(batch), IDS.repeat(batch).flip(0), FLAGS.repeat(batch))
    positive, ignore, active = (column[:batch] for column in columns)
    return Pairing(positive, ignore, active, "both", 0.5, SigmoidTerm(*scalars, active, 0.7, "balanced", True))


@pytest.mark.parametrize("pairing", [Pairing(), everything()], ids=["plain", "everything"])
def test_the_operator_keeps_its_schema_and_its_fake_shapes(pairing):
    image, text, scale = (tensor.detach() for tensor in pairs(5, dtype=torch.bfloat16))
    arguments = _flat(image, text, scale, pairing, (1, 4))
    torch.library.opcheck(torch.ops.ctkernels.infonce.default, arguments)


def test_the_queue_operator_keeps_its_schema_and_its_fake_shapes():
    arguments = [x.detach() for x in drawn(3, 9, dtype=torch.float32)]
    torch.library.opcheck(torch.ops.ctkernels.infonce_queue.default, tuple(arguments))


def step_of(pairing: Pairing):
    def step(image, text, scale):
        return 2 * infonce(
            image,
            text,
            scale,
            positive_id=pairing.positive_id,
            ignore_id=pairing.ignore_id,
            is_active=pairing.is_active,
            direction=pairing.direction,
            weight=pairing.weight,
            sigmoid=pairing.sigmoid,
        )

    return step


@pytest.mark.parametrize("pairing", [Pairing(), everything()], ids=["plain", "everything"])
def test_it_compiles_to_one_graph_and_never_again(pairing):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    step = step_of(pairing)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=False)
    for seed in range(4):
        inputs = pairs(5, dtype=torch.float32, seed=seed, scale=1.0 + seed)
        loss, grads = gradients(compiled, inputs)
        wanted_loss, wanted = gradients(step, inputs)
        torch.testing.assert_close(loss, wanted_loss)
        for ours, eager in zip(grads, wanted, strict=True):
            torch.testing.assert_close(ours, eager)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_one_dynamic_graph_serves_all_batch_sizes():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(step_of(Pairing()), fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 17, 64, 65):
        inputs = pairs(batch, dtype=torch.float32)
        torch.testing.assert_close(gradients(compiled, inputs)[0], gradients(step_of(Pairing()), inputs)[0])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_the_queue_compiles_to_one_graph():
    torch._dynamo.reset()
    query, key, queue, scale, query_id, queue_id = drawn(3, 9, dtype=torch.float32)
    call = functools.partial(infonce_queue, query_id=query_id, queue_id=queue_id)
    compiled = torch.compile(lambda *tensors: call(*tensors), fullgraph=True, backend="aot_eager")
    loss = compiled(query, key, queue, scale)
    made = torch.autograd.grad(loss, (query, scale))
    wanted = torch.autograd.grad(call(query, key, queue, scale), (query, scale))
    for ours, eager in zip(made, wanted, strict=True):
        torch.testing.assert_close(ours, eager)


class Launches(TorchDispatchMode):
    """Counts what would launch a kernel on a GPU: all calls but views and bare allocations."""

    QUIET = ("empty", "new_empty", "detach", "alias", "t.", "transpose", "view", "_unsafe_view", "unsqueeze", "expand")
    QUIET += ("diagonal.", "permute", "select", "slice", "promote_types")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        if not name.startswith(self.QUIET):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def autograd_clip(image, text, scale):
    """As CLIP's paper has it: normalise, one product, two cross-entropies."""
    image, text = (torch.nn.functional.normalize(x, dim=1) for x in (image, text))
    logits = scale.exp() * image @ text.T
    target = torch.arange(len(logits))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def test_autograd_launches_some_65_kernels_and_ours_one_and_a_scaling(monkeypatch):
    pytest.importorskip("triton", reason="needs the package triton")
    from ctkernels import infonce_library, infonce_triton

    launched = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda *args, **constants: launched.append(grid)

    monkeypatch.setattr(infonce_triton, "small_kernel", Kernel())
    monkeypatch.setattr(infonce_library, "_computed", infonce_triton.infonce_small)
    inputs = pairs(18, dim=512, dtype=torch.float32)
    counted = {}
    for name, function in (("autograd", autograd_clip), ("kernel", infonce)):
        with Launches() as launches, torch.autocast("cpu", dtype=torch.bfloat16):
            loss = function(*inputs)
            # An upstream gradient of 1 is made by autograd in both.
            torch.autograd.grad(loss, inputs, torch.ones_like(loss.detach()))
        counted[name] = [name for name in launches.names if not name.startswith("ones_like")]
    assert 60 <= len(counted["autograd"]) <= 70, counted["autograd"]  # 64 with torch 2.13
    assert launched == [(16,)]  # 512 columns, 32 of each program
    assert counted["kernel"] == ["_foreach_mul.Tensor"]
