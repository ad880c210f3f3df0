"""kill -9 of a pack at random moments: what counts as packed is whole, and the next run ends in the same store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ctload.packing.packer import pack
from ctload.storage import layout
from ctload.storage.journal import read_journal
from ctload.storage.store import open_store
from ctload.storage.study_check import check_study
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import voxels_of, write_nifti

NUM_STUDIES = 16
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for study in range(NUM_STUDIES):
        write_nifti(folder / f"study{study:02d}.nii", voxels_of(study, shape=(48, 128, 128)))
    return folder


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory) -> dict[str, str]:
    """Voxel digests of a pack that nothing disturbed."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    pack([sources], store, preset="native")
    return digests_of(store)


def digests_of(store: Path) -> dict[str, str]:
    studies = open_store(store).studies
    return dict(zip(studies.ids, studies.column("digest").tolist(), strict=True))


def start_pack(sources: Path, store: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "ctload.cli", "pack", str(sources), "--out", str(store), "--preset", "native"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--workers", str(workers)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def packed_so_far(store: Path) -> int:
    return len(read_journal(store / layout.JOURNAL)) if (store / layout.JOURNAL).exists() else 0


def kill_while_packing(process: subprocess.Popen, store: Path, num_before: int, delay_s: float) -> bool:
    """Kill after the run packed its first study and `delay_s` more; False when it ended by itself before."""
    while process.poll() is None and packed_so_far(store) <= num_before:
        time.sleep(0.002)
    time.sleep(delay_s)
    is_killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return is_killed


@pytest.mark.parametrize(("workers", "num_kills"), [(1, 3), (2, 2)])
def test_a_killed_pack_runs_on_to_the_same_store(sources, expected, tmp_path, workers, num_kills):
    store = tmp_path / "store"
    rng = np.random.default_rng(workers)
    killed_at = []
    for _ in range(num_kills):
        before = packed_so_far(store)
        is_killed = kill_while_packing(start_pack(sources, store, workers), store, before, rng.uniform(0, 0.12))
        told = read_journal(store / layout.JOURNAL)
        killed_at += [len(told)] * is_killed
        problems = [problem for entry in told.values() for problem in check_study(store, entry.row)]
        assert problems == []  # nothing half-written counts as packed
    assert killed_at, "every run ended before it was killed: nothing was tested"
    report = pack([sources], store, preset="native", wait_s=30)
    assert len(report.packed) + len(report.reused) == NUM_STUDIES
    assert len(report.reused) >= max(killed_at)  # what had been packed was not packed again
    assert digests_of(store) == expected
    assert verify(store).is_sound
