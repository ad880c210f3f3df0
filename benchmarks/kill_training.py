"""A training that is killed (SIGKILL) at random moments: does it always go on, and does it end with the same bits?

`python -m benchmarks.kill_training --kills 20`: phantoms, a store, one run that nobody disturbs, and one whose
process is killed again and again and started again with the same words. The row counts whole resumes; the command
fails where a resume or a bit does.
"""

import argparse
import multiprocessing
import random
import shutil
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.rows import append_rows, row_of
from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.phantom import TABLE_NAME, make_phantom_cohort, read_phantom
from ctclip.config import DataConfig, ImageConfig, ModelConfig, TextConfig, TrainConfig
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import DEMO_SECTIONS, Knobs
from ctclip.training.checkpoint import latest_checkpoint, read_checkpoint
from ctclip.training.loop import train
from ctload.packing.packer import pack

NUM_STUDIES = 64
GRID = Grid((20, 32, 32), (14.0, 12.0, 12.0))


def train_through_kills(
    config: TrainConfig, cohort: Cohort, num_kills: int, *, longest_s: float, seed: int
) -> list[int]:
    """Train to the end although the process is killed num_kills times.

    Args:
        config: Of the run.
        cohort: Of the run.
        num_kills: Each after the process has opened the run's log.
        longest_s: Between that and the kill, drawn evenly.
        seed: Of the moments.

    Returns:
        Step of the newest checkpoint at each kill, each read back and whole; 0 where there was none yet.

    Raises:
        RuntimeError: The run ended before it could be killed, or its last process failed.
    """
    context = multiprocessing.get_context("forkserver")  # torch is imported once, not once per process
    context.set_forkserver_preload(["ctclip.training.loop"])
    moments = random.Random(seed)
    run = Path(config.out)
    found = []
    for number in range(num_kills):
        process = context.Process(target=_train, args=(config, cohort))
        process.start()
        _wait_until_open(run, process)
        time.sleep(moments.uniform(0, longest_s))
        if not process.is_alive():
            raise RuntimeError(f"the run ended after {number} kills of {num_kills}; give it more steps")
        process.kill()
        process.join()
        found.append(read_checkpoint(run).step if latest_checkpoint(run) else 0)
    last = context.Process(target=_train, args=(config, cohort))
    last.start()
    last.join()
    if last.exitcode != 0:
        raise RuntimeError(f"after {num_kills} kills the run does not go on: exit code {last.exitcode}")
    return found


def differing_tensors(left: Path, right: Path) -> list[str]:
    """Tensors of two checkpoints that are not equal to the bit."""
    names = sorted({path.name for folder in (left, right) for path in folder.glob("*.safetensors")})
    differing = []
    for name in names:
        ours, theirs = load_file(left / name), load_file(right / name)
        keys = sorted(set(ours) | set(theirs))
        differing += [
            f"{name}:{k}" for k in keys if not (k in ours and k in theirs and torch.equal(ours[k], theirs[k]))
        ]
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_training", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--longest-s", type=float, default=4.0, help="longest life of a process after its start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, default=Path("runs/kill_training"))
    words = parser.parse_args()
    torch.set_num_threads(1)
    cohort = _make_data(words.scratch)
    config = _config(words.scratch, words.steps)
    for name in ("whole", "killed"):
        shutil.rmtree(words.scratch / name, ignore_errors=True)
    whole = train(replace(config, out=str(words.scratch / "whole")), cohort=cohort, is_quiet=True)
    found = train_through_kills(config, cohort, words.kills, longest_s=words.longest_s, seed=words.seed)
    newest = latest_checkpoint(Path(config.out))
    assert newest is not None
    differing = differing_tensors(whole.checkpoint, newest)
    if newest.name != whole.checkpoint.name or differing:
        raise SystemExit(f"{newest} differs from {whole.checkpoint} in {differing[:5]} and more")
    print(f"newest checkpoint at each kill: {found}")
    setting = f"steps={words.steps} checkpoint_every={config.checkpoint_every} kills={words.kills} seed={words.seed}"
    work = "training killed at random moments, then resumed"
    row = row_of(work, "ctclip", setting, "resumed from a whole checkpoint", "kills", [float(words.kills)])
    same = row_of(work, "ctclip", setting, "tensors that differ at the end", "1", [float(len(differing))])
    append_rows("training", [row, same])


def _make_data(scratch: Path) -> Cohort:
    folder = scratch / "phantoms"
    if not (folder / TABLE_NAME).exists():
        shutil.rmtree(folder, ignore_errors=True)
        make_phantom_cohort(
            folder, NUM_STUDIES, seed=0, grid=GRID, knobs=Knobs.demo(), splits={"train": 1.0}, format="nii", workers=1
        )
    pack([folder / TABLE_NAME], scratch / "store.zarr", preset="native", workers=1, progress=False)
    return read_phantom(folder)


def _config(scratch: Path, steps: int) -> TrainConfig:
    return TrainConfig(
        store=str(scratch / "store.zarr"),
        out=str(scratch / "killed"),
        steps=steps,
        data=DataConfig(batch_size=8, sections=DEMO_SECTIONS, pipeline="reference"),
        model=ModelConfig(ImageConfig(widths=(4, 4, 8, 8), stem_width=4), TextConfig(dropout=0.1), embedding_dim=32),
        ema_decay=0.99,
        micro_batch=4,
        device="cpu",
        threads=1,
        checkpoint_every=3,
        log_every=1,
    )


def _train(config: TrainConfig, cohort: Cohort) -> None:
    train(config, cohort=cohort, is_quiet=True)


def _wait_until_open(run: Path, process: BaseProcess) -> None:
    """Until the process has opened the run's log, which it does last before its first step."""
    metrics = run / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    while process.is_alive() and (not metrics.exists() or metrics.stat().st_mtime_ns == before):
        time.sleep(0.002)


if __name__ == "__main__":
    main()
