"""The Triton kernel without a GPU: its numbers in the interpreter, its registers by compiling for sm_90."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs the package triton")
ROOT = Path(__file__).resolve().parents[2]


def test_the_interpreted_kernel_equals_the_closed_form_in_float64():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.ctkernels.interpreted"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loss, features, scale = (float(word) for word in done.stdout.split()[-3:])
    assert loss < 2e-6
    assert features < 1e-5
    assert scale < 1e-5


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
@pytest.mark.parametrize("block", [16, 32, 64])
def test_the_kernel_compiles_for_sm_90_without_spilling_registers(block, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # triton 3.9 warns where it is unset
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ctkernels.infonce_triton import LAUNCH, small_kernel

    floats = f"*{kind}"
    signature = {
        "image_ptr": floats, "text_ptr": floats, "scale_ptr": "*fp32", "loss_ptr": "*fp32", "d_image_ptr": "*fp32",
        "d_text_ptr": "*fp32", "d_scale_ptr": "*fp32", "num_pairs": "i32",
        "E": "constexpr", "BM": "constexpr", "BE": "constexpr", "IS_UPCAST": "constexpr",
    }  # fmt: skip
    width, num_warps = LAUNCH[block, kind == "fp32"]
    constants = {"E": 512, "BM": block, "BE": width, "IS_UPCAST": kind == "fp32"}
    source = ASTSource(fn=small_kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    binary = tmp_path / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    stack, local = (int(re.search(rf"{word}:(\d+)", usage).group(1)) for word in ("STACK", "LOCAL"))
    assert (stack, local) == (0, 0), usage
    assert made.metadata.shared <= 227 * 1024  # bytes of shared memory that a block may have
