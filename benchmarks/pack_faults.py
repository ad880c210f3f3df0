"""Faults of a pack at scale: kill -9, full and read-only disks, two packs at once. Run by `benchmarks.faults`.

Every one ends in the same check: the store holds the digests of a pack that nothing disturbed, and verifies.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ctload.errors import CtloadError
from ctload.packing.packer import pack
from ctload.storage import layout
from ctload.storage.journal import read_journal
from ctload.storage.store import open_store
from ctload.storage.study_check import check_study
from ctload.storage.verification import verify
from ctload.testing import synthetic_volume

NUM_STUDIES = 16
SHAPE = (48, 128, 128)
VICTIMS = ("parent", "group", "worker")
WAIT_S = 120.0  # for a process that should end by itself
Counts = tuple[dict[str, int], str]


def make_sources(folder: Path, version: int, num_studies: int = NUM_STUDIES) -> Path:
    """A folder of .nii files; another version has the same names and every other volume changed."""
    folder.mkdir(parents=True)
    for study in range(num_studies):
        voxels = synthetic_volume(SHAPE, study + 1000 * version * (study % 2))
        image = nib.Nifti1Image(voxels.transpose(2, 1, 0), np.diag([0.8, 0.8, 2.5, 1.0]))
        nib.save(image, folder / f"study{study:02d}.nii")
    return folder


def digests_of(root: Path) -> dict[str, str]:
    studies = open_store(root).studies
    return dict(zip(studies.ids, studies.column("digest").tolist(), strict=True))


def _rows_of(root: Path) -> dict[str, dict[str, Any]]:
    return {row["study"]: row for row in open_store(root).studies.table.to_pylist()}


def expect_same(root: Path, expected: dict[str, str]) -> None:
    """The store is the one of an undisturbed pack, and sound."""
    found, problems = digests_of(root), verify(root).problems
    if found != expected or problems:
        raise AssertionError(f"{root}: digests equal: {found == expected}, problems: {problems}")


def start_pack(sources: Path, root: Path, workers: int) -> subprocess.Popen:
    """`ctload pack` in a process group of its own."""
    command = [sys.executable, "-m", "ctload.cli", "pack", str(sources), "--out", str(root), "--preset", "native"]
    return subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kills(scratch: Path, num: int, seed: int) -> Counts:
    """Kill packs with two workers at random moments of their run: the command, all its processes, or one worker.

    Rounds pack version 0 into a new store, then version 1 over it, each killed again and again until a run ends.
    """
    versions = [make_sources(scratch / str(number) / "sources", number) for number in (0, 1)]
    expected = []
    for number, sources in enumerate(versions):
        pack([sources], scratch / f"expected{number}", preset="native", progress=False)
        expected.append(digests_of(scratch / f"expected{number}"))
    rows = [_rows_of(scratch / f"expected{number}") for number in (0, 1)]
    rng, counts, root = np.random.default_rng((seed, 3)), {}, scratch / "store"
    started = time.monotonic()
    _ended(start_pack(versions[0], scratch / "timed", 2))
    typical_s = time.monotonic() - started
    stage = 0  # stores finished so far
    while sum(counts.values()) < num:
        victim = VICTIMS[int(rng.integers(len(VICTIMS)))]
        moment = _kill(start_pack(versions[stage % 2], root, 2), root, victim, rng, typical_s)
        _expect_whole(root, rows)
        if moment != "ended before":
            counts[moment] = counts.get(moment, 0) + 1
            continue
        expect_same(root, expected[stage % 2])
        stage += 1
        if stage % 2 == 0:
            shutil.rmtree(root)
            root.with_name("store.keys.json").unlink()
    _ended(start_pack(versions[stage % 2], root, 2))
    expect_same(root, expected[stage % 2])
    return counts, f"workers=2 studies={NUM_STUDIES} finished_stores={stage + 1}"


def _kill(process: subprocess.Popen, root: Path, victim: str, rng: np.random.Generator, typical_s: float) -> str:
    """Kill at a random moment: of the whole run, or (every other time) after its first study. What was hit."""
    before = _num_told(root)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, 0.9 * typical_s))
    else:
        while process.poll() is None and _num_told(root) <= before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.4))
    targets = [process.pid] if victim == "parent" else _workers(process.pid)[:1] if victim == "worker" else []
    if process.poll() is not None:
        _ended(process)
        return "ended before"
    if victim == "group" or not targets:
        os.killpg(process.pid, signal.SIGKILL)
        victim = "group"
    for target in targets:
        os.kill(target, signal.SIGKILL)
    process.communicate(timeout=WAIT_S)
    is_packing = _num_told(root) > before
    return f"killed {victim} {'after' if is_packing else 'before'} its first study"


def _workers(parent: int) -> list[int]:
    """Worker processes of a pack, by what they were started as."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == parent and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return sorted(found)


def _num_told(root: Path) -> int:
    """Studies packed since the journal was last compacted."""
    try:
        return sum(path.read_bytes().count(b"\n") for path in (root / layout.JOURNAL).glob("worker-*"))
    except FileNotFoundError:  # it is being compacted
        return 0


def _expect_whole(root: Path, rows: list[dict[str, dict[str, Any]]]) -> None:
    """Nothing half-written counts as packed: what the journal tells of is there whole, or already its successor is."""
    if not (root / layout.JOURNAL).exists():
        return
    for entry in read_journal(root / layout.JOURNAL).values():
        folder = root / entry.row["path"]
        aside = root / layout.TMP / "aside" / folder.parent.name / folder.name
        if not folder.exists() and aside.exists():  # killed between two renames; the next pack puts it back
            continue
        problems = check_study(root, entry.row)
        if problems and all(check_study(root, version[entry.study]) for version in rows):
            raise AssertionError(f"{root}: {problems}")


def _ended(process: subprocess.Popen, allowed: tuple[int, ...] = (0,)) -> int:
    """Wait for a pack to end; its exit status, which must be an allowed one."""
    errors = process.communicate(timeout=WAIT_S)[1].decode()
    if process.returncode not in allowed or "Traceback" in errors:
        raise AssertionError(f"a pack ended with {process.returncode}: {errors}")
    return process.returncode


@contextmanager
def mounted(folder: Path, size_kib: int) -> Iterator[None]:
    """A tmpfs of this size. Needs the right to mount."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        # Lazily: after an error, files that its traceback still holds keep the file system busy.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def disk(scratch: Path, num: int, seed: int) -> Counts:
    """Pack into file systems of random size, most of them too small, then grow them; then make them read-only."""
    rng = np.random.default_rng((seed, 4))
    sources = make_sources(scratch / "sources", 0, 4)
    pack([sources], scratch / "expected", preset="native", progress=False)
    expected = digests_of(scratch / "expected")
    needed_kib = sum(path.stat().st_size for path in (scratch / "expected").rglob("*") if path.is_file()) >> 10
    counts = {"full": 0, "large enough": 0, "read-only": 0}
    for _ in range(num):
        with mounted(scratch / "disk", int(rng.integers(8, round(1.5 * needed_kib)))):
            root = scratch / "disk" / "store"
            counts[_packed_or_full(sources, root)] += 1
            remount(scratch / "disk", f"size={8 * needed_kib}k")
            pack([sources], root, preset="native", progress=False)
            expect_same(root, expected)
            remount(scratch / "disk", "ro")
            expect_same(root, expected)
            for more in (sources, make_sources(scratch / "more", 0, 1)):
                _expect_refused(lambda more=more, root=root: pack([more], root, preset="native", progress=False))
            expect_same(root, expected)
            shutil.rmtree(scratch / "more")
            counts["read-only"] += 1
    return counts, f"filesystem=tmpfs studies=4 needed={needed_kib}KiB"


def _packed_or_full(sources: Path, root: Path) -> str:
    try:
        pack([sources], root, preset="native", progress=False)
    except CtloadError as error:
        if "No space left" not in str(error):
            raise
        return "full"
    return "large enough"


def _expect_refused(work: Callable[[], object]) -> None:
    try:
        work()
    except CtloadError:
        return
    raise AssertionError("a pack into a read-only store raised nothing")


def packs(scratch: Path, num: int, seed: int) -> Counts:
    """Two packs started at once into one store: one waits or is refused, and nothing is lost."""
    rng = np.random.default_rng((seed, 5))
    halves = [make_sources(scratch / "one", 0, 6), make_sources(scratch / "two", 1, 12)]
    for path in sorted(halves[1].glob("*.nii"))[:6]:
        path.unlink()
    pack(halves, scratch / "expected", preset="native", progress=False)
    expected, counts = digests_of(scratch / "expected"), {"both packed": 0, "one refused": 0}
    for number in range(num):
        root = scratch / f"store{number}"
        processes = []
        for half in halves:
            processes.append(start_pack(half, root, 1 + int(rng.integers(2))))
            time.sleep(rng.uniform(0, 0.5))
        codes = [_ended(process, (0, 2)) for process in processes]
        for half, code in zip(halves, codes, strict=True):
            if code:
                _ended(start_pack(half, root, 1))
        expect_same(root, expected)
        counts["one refused" if any(codes) else "both packed"] += 1
    return counts, "studies=12"


KINDS: dict[str, Callable[[Path, int, int], Counts]] = {"kills": kills, "disk": disk, "packs": packs}
