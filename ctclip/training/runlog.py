"""The folder of a run: what was asked, on which machine, and what came out step by step.

runs/<name>/
    config.json     the whole configuration
    machine.json    versions, commit, cores, device
    metrics.jsonl   one line per logged step
    skipped.jsonl   steps whose loss was not finite, with their studies; there is none where all were
    tensorboard/    the same numbers for TensorBoard, where it is installed
    text/           configuration and tokenizer of the text tower
    checkpoints/    step-00000200/, ... and the file `latest`
"""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ctclip.training.loss_watch import SkippedStep
from ctload.storage.durable import replace_file

PACKAGES = ("torch", "numpy", "transformers", "tokenizers", "zarr", "tensorstore", "nvidia-dali-cuda130",
            "nvidia-dali-cuda120")  # fmt: skip


class RunLog:
    """Writes metrics of one run; on a resumed run it first takes back the lines after the checkpoint.

    Args:
        folder: The run's folder.
        first_step: Steps done before this process.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        self._path = folder / "metrics.jsonl"
        self._skipped_path = folder / "skipped.jsonl"
        for path in (self._path, self._skipped_path):
            _keep_lines_up_to(path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _open_board(folder / "tensorboard", first_step)

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """One line: the number of steps done, and numbers by name (strings too; TensorBoard leaves them out)."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        if self._board is None:
            return
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, step)

    def write_skipped(self, skipped: SkippedStep) -> None:
        """One line of skipped.jsonl, written at once: it may be the last thing a run says."""
        with self._skipped_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(skipped)) + "\n")

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, in order of steps."""
    text = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What results and timings depend on besides the configuration. Names no user and no host."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def commit() -> str:
    """The commit of the source this package runs from, "+changes" where the tree differs; "unknown" outside git."""
    root = Path(__file__).resolve().parent.parent.parent
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    # --git-dir: a package installed inside somebody else's repository must not take that one's commit.
    command = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _keep_lines_up_to(path: Path, step: int) -> None:
    """Drop lines after `step`, and a last line that a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    replace_file(path, "".join(kept).encode())


def _open_board(folder: Path, first_step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter  # tensorboard is an optional package
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
