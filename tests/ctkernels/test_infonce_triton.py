"""The contrastive kernels without a GPU: their numbers in the interpreter, their registers by compiling for sm_90."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ctkernels.sm90 import MAX_SHARED_BYTES, compile_for_sm90

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs the package triton")
ROOT = Path(__file__).resolve().parents[2]
MASKS = {"positive_ptr": "*i64", "ignore_ptr": "*i64", "active_ptr": "*u8"}
CELLS = {"normal_ptr": "*u8", "sigmoid_scale_ptr": "*fp32", "sigmoid_bias_ptr": "*fp32"}
OPTIONS = {"plain": {}, "everything": MASKS | CELLS}
INDICES = ("num_pairs", "num_tiles", "start_row", "stop_row", "num_queries", "num_slots", "num_shares")
OUTPUTS = ("loss_ptr", "d_image_ptr", "d_text_ptr", "d_scale_ptr", "d_sigmoid_ptr", "scale_ptr", "sums_ptr")
OUTPUTS += ("cell_sums_ptr", "weighted_ptr", "query_ptr", "key_ptr", "each_ptr", "d_query_ptr")


@pytest.mark.parametrize("part", ["small", "tiled", "queue"])
def test_the_interpreted_kernels_equal_the_closed_form_in_float64(part):
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.ctkernels.interpreted", part]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    worst = json.loads(done.stdout.splitlines()[-1])
    assert worst["loss"] < 2e-6
    assert worst["features"] < 1e-5
    assert worst["scalars"] < 1e-5


def types_of(kernel, kind: str, options: str) -> dict[str, str]:
    types = dict.fromkeys(("image_ptr", "text_ptr", "queue_ptr"), f"*{kind}") | dict.fromkeys(OUTPUTS, "*fp32")
    types |= dict.fromkeys(INDICES, "i32") | dict.fromkeys(("query_id_ptr", "queue_id_ptr"), "*i64")
    types |= dict.fromkeys(("weight", "sigmoid_weight"), "fp32") | OPTIONS[options]
    return {name: kind for name, kind in types.items() if name in kernel.arg_names}


def compiled(kernel, kind: str, options: str, folder, *, num_warps: int, num_stages: int = 3, **constants):
    constants = {"E": 512, "IS_UPCAST": kind == "fp32", "ROW_SHARE": 0.5, "COLUMN_SHARE": 0.5} | constants
    constants |= {"REDUCTION": "balanced", "IGNORES_ABNORMAL": True, "WANTS_ROWS": True, "STRIPS": 8}
    types = types_of(kernel, kind, options)
    constants |= dict.fromkeys((MASKS | CELLS).keys() - types.keys())
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    return compile_for_sm90(kernel, types, constants, num_warps=num_warps, num_stages=num_stages, folder=folder)


@pytest.fixture(autouse=True)
def _quiet_compiler(monkeypatch):
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # triton 3.9 warns where it is unset


# The largest block with everything, and each other one once; the whole table takes a minute.
@pytest.mark.parametrize(
    ("block", "kind", "options"),
    [(64, "bf16", "everything"), (64, "fp32", "everything"), (32, "fp32", "plain"), (16, "bf16", "plain")],
)
def test_small_compiles_for_sm_90_without_spilling_registers(block, kind, options, tmp_path):
    from ctkernels.infonce_triton import LAUNCH, small_kernel

    width, num_warps = LAUNCH[block, kind == "fp32"]
    used = compiled(small_kernel, kind, options, tmp_path, num_warps=num_warps, BM=block, BE=width)
    assert used.spilled == 0, used
    assert used.shared <= MAX_SHARED_BYTES, used
    assert (used.wgmma > 0) == (block == 64), used


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
@pytest.mark.parametrize("name", ["sums_kernel", "gradients_kernel"])
def test_tiled_compiles_for_sm_90_without_spilling_registers(name, kind, tmp_path):
    from ctkernels import infonce_tiled
    from ctkernels.infonce_tiled import CELL_SUMS, LAUNCH, NUM_WARPS, SUMS

    shape = dict(zip(("BM", "BN", "BE", "CHUNK"), LAUNCH[kind == "fp32"], strict=True))
    shape |= {"SUMS": SUMS, "CELL_SUMS": CELL_SUMS}
    used = compiled(getattr(infonce_tiled, name), kind, "everything", tmp_path, num_warps=NUM_WARPS, **shape)
    assert used.spilled == 0, used
    assert used.shared <= MAX_SHARED_BYTES, used
    assert used.wgmma > 0, used


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_queue_compiles_for_sm_90_without_spilling_registers(kind, tmp_path):
    from ctkernels.queue_triton import LAUNCH, NUM_WARPS, queue_kernel

    dim, queries, slots, stages = LAUNCH[kind == "fp32"]
    shape = {"E": dim, "EP": dim, "BM": queries, "BN": slots}
    used = compiled(queue_kernel, kind, "plain", tmp_path, num_warps=NUM_WARPS, num_stages=stages, **shape)
    assert used.spilled == 0, used
    assert used.shared <= MAX_SHARED_BYTES, used


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_the_queues_merge_compiles_for_sm_90_without_spilling_registers(kind, tmp_path):
    from ctkernels.queue_triton import LAUNCH, merge_kernel

    dim = LAUNCH[kind == "fp32"][0]
    used = compiled(merge_kernel, kind, "plain", tmp_path, num_warps=4, E=dim, EP=dim)
    assert used.spilled == 0, used
    assert used.shared <= MAX_SHARED_BYTES, used
