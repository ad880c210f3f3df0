"""The GPU programme without a GPU: it refuses, every part runs at tiny sizes, and finished rows are not repeated."""

import csv
import functools
import importlib.util

import pytest
import torch

from benchmarks import gpu, gpu_ladder
from benchmarks.gpu_case import Case, Ledger, run_cases

# torch.compile itself instantiates the autograd.Function that it traces (torch 2.13, dynamo), and looks at gradients.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
SOON = ("ceilings", "queue", "bn_act", "text", "waiting", "launches", "projection")


@no_gpu
def test_without_a_gpu_it_refuses_and_names_the_dry_run(capsys, tmp_path):
    assert gpu.main(["--out", str(tmp_path / "gpu.csv")]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert not (tmp_path / "gpu.csv").exists()


@no_gpu
@pytest.mark.parametrize("part", SOON)
def test_a_part_runs_dry_and_writes_nothing(part, capsys, tmp_path):
    assert gpu.main(["--dry-run", "--part", part, "--out", str(tmp_path / "gpu.csv")]) == 0
    assert f"== {part}" in capsys.readouterr().out
    assert not (tmp_path / "gpu.csv").exists()


@no_gpu
@pytest.mark.parametrize("part", ["encoder", "training"])
def test_a_training_part_runs_dry(part, capsys, tmp_path):
    assert gpu.main(["--dry-run", "--part", part, "--out", str(tmp_path / "gpu.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("studies/s" in line for line in lines)
    if part == "encoder" and importlib.util.find_spec("merlin") is None:
        assert sum("ModuleNotFoundError" in line for line in lines) == 2  # a missing rival is a row that says so


def cases(calls: list[str], names: str) -> list[Case]:
    def make(name: str):
        return lambda: calls.append(name)

    return [Case("adding", name, "tiny", functools.partial(make, name), predicted=1.0) for name in names]


def test_a_finished_row_is_not_measured_again_and_a_failed_one_is(tmp_path):
    path, calls = tmp_path / "gpu.csv", []
    assert run_cases(cases(calls, "a"), Ledger(path, "card", is_dry=False), limit_s=60)
    failing = Case("adding", "b", "tiny", functools.partial(_raise, RuntimeError("out of memory")))
    run_cases([failing], Ledger(path, "card", is_dry=False), limit_s=60)
    calls.clear()
    assert run_cases(cases(calls, "ab"), Ledger(path, "card", is_dry=False), limit_s=60)
    assert set(calls) == {"b"}
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["provider"], bool(line["failure"])) for line in lines] == [("a", False), ("b", True), ("b", False)]
    assert float(lines[0]["predicted"]) == 1.0
    assert float(lines[0]["compile_s"]) >= 0
    assert run_cases(cases(calls, "a"), Ledger(path, "another card", is_dry=False), limit_s=60)
    assert "a" in calls


def test_what_failed_twice_is_left_alone_and_any_error_is_a_row(tmp_path):
    path, calls = tmp_path / "gpu.csv", []
    for error in (KeyError("no such kernel"), AssertionError("shape")):
        failing = Case("adding", "a", "tiny", functools.partial(_raise, error))
        assert run_cases([failing], Ledger(path, "card", is_dry=False), limit_s=60)
    assert run_cases(cases(calls, "a"), Ledger(path, "card", is_dry=False), limit_s=60)
    assert not calls
    with path.open(newline="") as file:
        assert [line["failure"] for line in csv.DictReader(file)] == [
            "KeyError: 'no such kernel'",
            "AssertionError: shape",
        ]


def test_batches_grow_until_memory_runs_out(monkeypatch):
    def full(size, setting, *rest):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(gpu_ladder, "our_tower", full)
    tried = []
    for case in gpu_ladder.memory(is_tiny=False):
        tried.append(case.config)
        with pytest.raises(torch.OutOfMemoryError):
            case.make()
    assert [config.split()[0] for config in tried] == ["B=16", "B=16"]  # once for each setting


def _raise(error: Exception):
    raise error


def test_a_part_stops_at_its_limit_and_says_so(tmp_path, capsys):
    calls = []
    assert not run_cases(cases(calls, "a"), Ledger(tmp_path / "gpu.csv", "card", is_dry=False), limit_s=-1)
    assert not calls
    assert "goes on where this one stopped" in capsys.readouterr().out


def test_the_projection_is_studies_times_epochs_over_the_rate():
    from benchmarks.gpu_training import projected_days

    assert projected_days(75.0) == pytest.approx(15_314 * 100 / 75 / 86_400)
