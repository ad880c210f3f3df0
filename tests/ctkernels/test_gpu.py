"""The kernels on a real GPU: `pytest -m gpu`. Numbers against float64, bits of two runs, captured graphs, compiled."""

import csv

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
TOLERANCE = {"infonce float32": 2e-5, "infonce bfloat16": 2e-5, "infonce_queue float32": 2e-5}
TOLERANCE |= {"infonce_queue bfloat16": 5e-5, "bn_act float32": 1e-4, "bn_act bfloat16": 2e-2}


def test_every_kernel_agrees_with_float64_repeats_its_bits_and_replays_from_a_graph(tmp_path):
    from benchmarks.gpu_case import Ledger
    from benchmarks.gpu_correctness import correctness

    correctness(Ledger(tmp_path / "gpu.csv", "test", is_dry=False))
    with (tmp_path / "gpu.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    for line in lines:
        name = f"{line['provider'].removeprefix('ctkernels.')} {line['config'].split(',')[0]}"
        assert float(line["p50"]) <= TOLERANCE.get(name, 0.0), line


def test_the_compiled_operator_is_one_graph_and_equals_eager():
    from ctkernels import infonce

    inputs = [torch.randn(18, 512, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(2)]
    inputs.append(torch.tensor(2.6593, device="cuda", requires_grad=True))
    compiled = torch.compile(infonce, fullgraph=True, dynamic=False)
    made = torch.autograd.grad(compiled(*inputs), inputs)
    wanted = torch.autograd.grad(infonce(*inputs), inputs)
    assert all(torch.equal(ours, eager) for ours, eager in zip(made, wanted, strict=True))


def test_nothing_waits_for_the_device():
    from ctkernels import infonce

    inputs = [torch.randn(18, 512, device="cuda").requires_grad_() for _ in range(2)]
    inputs.append(torch.tensor(2.6593, device="cuda", requires_grad=True))
    torch.autograd.grad(infonce(*inputs), inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(infonce(*inputs), inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_fused_batch_norm_compiles_without_a_graph_break():
    from ctkernels import bn_act

    x = torch.randn(2, 64, 4, 8, 8, device="cuda", dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    norm = torch.nn.BatchNorm3d(64).cuda()
    compiled = torch.compile(lambda x, mean, var: bn_act(x, norm.weight, norm.bias, mean, var), fullgraph=True)
    results = []
    for call in (compiled, lambda x, mean, var: bn_act(x, norm.weight, norm.bias, mean, var)):
        mean, var = norm.running_mean.clone(), norm.running_var.clone()
        y = call(x, mean, var)
        results.append((y, *torch.autograd.grad(y.float().sum(), x), mean, var))
    for ours, eager in zip(*results, strict=True):
        torch.testing.assert_close(ours, eager)
