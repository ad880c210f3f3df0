"""Disks that are full or read-only: a typed error, nothing lost, and the next pack goes on to the same store.

`python -m benchmarks.faults disk` does the same with file systems of random size.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctload.errors import CtloadError
from ctload.packing.packer import pack
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import voxels_of, write_nifti

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for seed, size in enumerate((12, 60)):
        write_nifti(tmp_path / "sources" / f"depth{size}.nii", voxels_of(seed, shape=(size, 60, 64)))
    return tmp_path / "sources"


def digests_of(root: Path) -> dict[str, str]:
    studies = open_store(root).studies
    return dict(zip(studies.ids, studies.column("digest").tolist(), strict=True))


def pack_with_files_up_to(num_bytes: int, sources: Path, root: Path) -> subprocess.CompletedProcess:
    """`ctload pack` in a process whose files can grow no further (EFBIG where a full disk says ENOSPC)."""
    words = ["pack", str(sources), "--out", str(root), "--preset", "native"]
    return subprocess.run(
        [sys.executable, "-m", "ctload.cli", *words],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes)),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )


@pytest.mark.parametrize("num_bytes", [0, 300, 3000, 120_000])
def test_a_pack_whose_files_cannot_grow_ends_in_one_line_and_is_taken_up_again(tmp_path, sources, num_bytes):
    """0 and 300 bytes stop it at the header, 3000 at a small file, 120 kB at the second volume."""
    pack([sources], tmp_path / "expected", preset="native")
    done = pack_with_files_up_to(num_bytes, sources, tmp_path / "store")
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    pack([sources], tmp_path / "store", preset="native")
    assert digests_of(tmp_path / "store") == digests_of(tmp_path / "expected")
    assert verify(tmp_path / "store").is_sound


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder cannot be written to: by a mount for root, who may write anywhere, else by its rights."""
    if os.geteuid() == 0:
        mounted = subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], capture_output=True, check=False)
        if mounted.returncode != 0:
            pytest.skip("needs the right to mount, or a user other than root")
        undo = ["umount", "--lazy", str(folder)]
    else:
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        undo = ["chmod", "-R", "u+w", str(folder)]
    try:
        yield
    finally:
        subprocess.run(undo, check=True)


def test_a_read_only_store_is_read_and_verified_and_a_pack_into_it_is_a_typed_error(tmp_path, sources):
    root = tmp_path / "disk" / "store"
    root.parent.mkdir()
    pack([sources], root, preset="native")
    before = digests_of(root)
    write_nifti(sources / "more.nii", voxels_of(5))
    with read_only(root.parent):
        assert digests_of(root) == before
        assert open_store(root).read("depth12").shape == (12, 60, 64)
        assert verify(root).is_sound
        with pytest.raises(CtloadError, match=r"[Rr]ead-only|denied"):
            pack([sources], root, preset="native")
        assert digests_of(root) == before
    assert len(pack([sources], root, preset="native").packed) == 1
