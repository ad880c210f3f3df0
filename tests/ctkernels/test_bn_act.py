"""Fused batch norm, add and ReLU: torch's own on the CPU, the kernels in the interpreter and compiled for sm_90."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ctkernels.bn_act_op import bn_act
from tests.ctkernels.sm90 import MAX_SHARED_BYTES, compile_for_sm90

ROOT = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs the package triton")


def test_a_module_of_torch_gives_the_same_result_gradient_and_running_statistics():
    norm = torch.nn.BatchNorm3d(3)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    x = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = bn_act(x, norm.weight, norm.bias, mean, var, residual=x)
    wanted = torch.relu(norm(x) + x)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x), torch.autograd.grad(wanted.sum(), x))
    assert torch.equal(mean, norm.running_mean)
    assert torch.equal(var, norm.running_var)


@pytest.mark.parametrize("wrong", [{"x": torch.ones(2, 3)}, {"residual": torch.ones(1)}, {"weight": torch.ones(4)}])
def test_shapes_that_do_not_fit_are_refused(wrong):
    names = ("weight", "bias", "running_mean", "running_var")
    right = {"x": torch.ones(2, 3, 1, 1, 1)} | {name: torch.ones(3) for name in names}
    with pytest.raises(ValueError, match="bn_act needs"):
        bn_act(**right | wrong)


@needs_triton
def test_the_interpreted_kernels_equal_autograd_in_float64():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.ctkernels.interpreted_bn_act"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    worst = json.loads(done.stdout.splitlines()[-1])
    assert worst.pop("running") < 1e-6
    assert max(worst.values()) < 1e-5, worst


KERNELS = ["moments_kernel", "statistics_kernel", "apply_kernel", "slopes_kernel", "gradients_kernel"]
VOLUMES = ("x_ptr", "residual_ptr", "y_ptr", "d_y_ptr", "d_x_ptr", "d_residual_ptr")
SCALARS = {"num_rows": "i32", "num_tiles": "i32", "num_strips": "i32", "momentum": "fp32", "eps": "fp32"}


@needs_triton
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_compile_for_sm_90_without_spilling_registers(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    from ctkernels import bn_act_triton

    kernel = getattr(bn_act_triton, name)
    constants = {"C": 256, "BM": bn_act_triton.ROWS, "BC": bn_act_triton.CHANNELS, "HAS_RELU": True}
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    passed = [key for key in kernel.arg_names if key not in constants]
    types = {key: SCALARS.get(key, "*bf16" if key in VOLUMES else "*fp32") for key in passed}
    warps = bn_act_triton.NUM_WARPS
    used = compile_for_sm90(kernel, types, constants, num_warps=warps, num_stages=3, folder=tmp_path)
    assert used.spilled == 0, used
    assert used.shared <= MAX_SHARED_BYTES, used
