"""`python -m benchmarks.faults KIND`: damage stores at scale, see that nothing passes; rows go to results/faults.csv.

flips    random single-bit flips, half of them spread evenly over the files, half over the bytes
files    each file deleted, truncated, lengthened, with a zeroed sector; every two files exchanged
kills, disk, packs: see `benchmarks.pack_faults`; forks: `benchmarks.fork_faults`

Each damage must be found three times: by `verify`, by whoever reads the file in use (a reader of every voxel; for the
journal the next pack), and each time with the file and its study named. A damage that is not stops the run. One call
is one piece: `--seed` chooses which, so a long run is many short ones.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks import fork_faults, pack_faults
from benchmarks.rows import append_rows, row_of
from ctload.errors import CtloadError
from ctload.packing.writer import StoreWriter, load_entries
from ctload.storage import layout
from ctload.storage.header import read_header
from ctload.storage.journal import read_journal
from ctload.storage.manifest_file import entries_of, read_manifest
from ctload.storage.prepared import Prepared
from ctload.storage.preset import PRESETS
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from ctload.testing import synthetic_prepared

SECTOR = 512  # bytes
KINDS = {**pack_faults.KINDS, "forks": fork_faults.forks}


class UnseenError(AssertionError):
    """A damage that was not found, or not named."""


def make_store(root: Path, profile: str) -> None:
    """Four studies: slabs and cubes as chunks, two channels, label maps of both types."""
    plain = synthetic_prepared((40, 48, 56), 1)
    studies = {"slabs": plain, "also slabs": synthetic_prepared((40, 48, 56), 2)}
    studies["cubes"] = synthetic_prepared((70, 96, 260), 3)
    studies["channels and labels"] = _with_labels(synthetic_prepared((24, 40, 32), 4, num_channels=2))
    with StoreWriter(root, PRESETS["native"], profile=profile) as writer:
        for study, prepared in studies.items():
            writer.write(study, prepared, extra={"split": "train"})
        writer.finish()


def _with_labels(prepared: Prepared) -> Prepared:
    body = prepared.arrays["0"] > -500
    labels = {"body": body.astype(np.uint8), "regions": (body * 300).astype(np.uint16)}
    return Prepared(**{**prepared.__dict__, "labels": labels})


def files_of(root: Path) -> list[Path]:
    """Every file of a store that has content; the lock is empty."""
    return sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)


def read_all(root: Path) -> None:
    """Every voxel of every array, as training reads it."""
    store = open_store(root)
    rows = store.studies.table.select(["study", "channels", "labels"]).to_pylist()
    for row in rows:
        for name in layout.array_names(row["channels"], row["labels"]):
            store.read(row["study"], array=name)


def expect_found(root: Path, damaged: list[Path], what: str) -> None:
    """Raise UnseenError where a damage of these files is not found and named by everyone who meets them."""
    named = _named_by_verify(root)
    # A shard cannot be held against metadata that are damaged themselves.
    above = [path.parent for path in damaged if path.name == layout.METADATA]
    for path in damaged:
        if path.name != layout.METADATA and any(path.is_relative_to(folder) for folder in above):
            continue
        if not any(_is_named(root, path, place, study) for study, place in named):
            raise UnseenError(f"{what}: verify names {named}, not {path}")
    journal = [path for path in damaged if path.parent.name == layout.JOURNAL]
    if len(journal) < len(damaged):
        _expect_error(root, [path for path in damaged if path not in journal], what, lambda: read_all(root))
    if journal:
        _expect_error_or_same(root, journal, what)


def _named_by_verify(root: Path) -> list[tuple[str, str]]:
    try:
        return [(problem.study, problem.path) for problem in verify(root).problems]
    except CtloadError as error:
        return [(error.study or "", error.path or "")]


def _expect_error_or_same(root: Path, journal: list[Path], what: str) -> None:
    """The next pack refuses a damaged journal; of one that lost whole lines it has the rest from the manifest."""
    try:
        entries = load_entries(root, read_header(root))
    except CtloadError:
        _expect_error(root, journal, what, lambda: read_journal(root / layout.JOURNAL))
        return
    if list(entries.values()) != entries_of(read_manifest(root, read_header(root))):
        raise UnseenError(f"{what}: the next pack would take other rows from it")


def _expect_error(root: Path, damaged: list[Path], what: str, read: Callable[[], object]) -> None:
    try:
        read()
    except CtloadError as error:
        if any(_is_named(root, path, error.path or "", error.study or "") for path in damaged):
            return
        raise UnseenError(f"{what}: the reader names {error.study}, {error.path}") from error
    raise UnseenError(f"{what}: was read without an error")


def _is_named(root: Path, path: Path, place: str, study: str) -> bool:
    """Whether (study, place) speaks of this file. A missing header is spoken of as the store, a journal as a folder."""
    own_study = next((known for known, folder in _studies(root).items() if path.is_relative_to(folder)), "")
    places = {str(path)}
    if path.name == layout.HEADER:
        places.add(str(root))
    if path.parent.name == layout.JOURNAL:
        return place in {*places, str(path.parent)}
    return place in places and study == own_study


def _studies(root: Path) -> dict[str, Path]:
    names = ("slabs", "also slabs", "cubes", "channels and labels")
    return {name: root / layout.study_folder(name) for name in names}


@contextmanager
def damaged(path: Path, content: bytes | None) -> Iterator[None]:
    """The file with other content, or without any file, until the block ends."""
    whole = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


def flips(root: Path, num: int, seed: int) -> dict[str, int]:
    """Flip single bits one at a time. How many per kind of file."""
    rng = np.random.default_rng((seed, 1))
    files = files_of(root)
    sizes = np.array([path.stat().st_size for path in files], float)
    counts: dict[str, int] = {}
    for number in range(num):
        weights = sizes / sizes.sum() if number % 2 else None
        path = files[int(rng.choice(len(files), p=weights))]
        content = bytearray(path.read_bytes())
        bit = int(rng.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        with damaged(path, bytes(content)):
            expect_found(root, [path], f"bit {bit} of {path}")
        counts[_kind(path)] = counts.get(_kind(path), 0) + 1
    return counts


def _kind(path: Path) -> str:
    return {layout.METADATA: "zarr.json", layout.HEADER: "header", layout.MANIFEST: "manifest"}.get(
        path.name, "journal" if path.suffix == ".jsonl" else "shard"
    )


def files(root: Path, seed: int) -> dict[str, int]:
    """Every file deleted, truncated, lengthened and zeroed in part; every two exchanged. How many of each."""
    rng = np.random.default_rng((seed, 2))
    counts: dict[str, int] = dict.fromkeys(
        ("deleted", "truncated", "lengthened", "zeroed", "exchanged", "equal pairs"), 0
    )
    for path in files_of(root):
        whole = path.read_bytes()
        lengths = {0, 1, len(whole) // 2, len(whole) - 1, *rng.integers(0, len(whole), 4).tolist()}
        start = SECTOR * int(rng.integers(0, -(-len(whole) // SECTOR)))
        zeroed = whole[:start] + bytes(len(whole[start : start + SECTOR])) + whole[start + SECTOR :]
        changes = [("deleted", None), *(("truncated", whole[:length]) for length in sorted(lengths))]
        changes += [("lengthened", whole + b"\0"), ("lengthened", whole + whole), ("zeroed", zeroed)]
        for name, content in changes:
            if content == whole:  # the sector was zero already
                continue
            with damaged(path, content):
                expect_found(root, [path], f"{path} {name}")
            counts[name] += 1
    for one, other in combinations(files_of(root), 2):
        first, second = one.read_bytes(), other.read_bytes()
        counts["equal pairs" if first == second else "exchanged"] += 1
        if first != second:
            with damaged(one, second), damaged(other, first):
                expect_found(root, [one, other], f"{one} and {other} exchanged")
    return counts


def report(work: str, config: str, counts: dict[str, int], started: float) -> None:
    """One row per kind of damage: how many, all of them found."""
    config = f"{config} unseen=0"
    counts = {name: count for name, count in counts.items() if count}
    rows = [row_of(f"{work}: {name}", "ctload", config, "found", "count", [count]) for name, count in counts.items()]
    rows.append(row_of(work, "ctload", config, "found", "count", [sum(counts.values())]))
    append_rows("faults", rows)
    print(f"{time.monotonic() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("kind", choices=("flips", "files", *KINDS))
    parser.add_argument("--num", type=int, default=100, help="how many (files: all there are)")
    parser.add_argument("--seed", type=int, default=0, help="which piece of a long run")
    parser.add_argument("--scratch", type=Path, help="where stores are made (default: the system's)")
    options = parser.parse_args()
    started = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="faults-", dir=options.scratch))
    try:
        if options.kind in KINDS:
            counts, config = KINDS[options.kind](scratch, options.num, options.seed)
            report(f"pack: {options.kind}", f"seed={options.seed} {config}", counts, started)
            return
        for profile in ("fast", "archive"):
            root = scratch / profile
            make_store(root, profile)
            read_all(root)
            counts = (
                flips(root, options.num // 2, options.seed) if options.kind == "flips" else files(root, options.seed)
            )
            if not verify(root).is_sound:
                raise UnseenError("the store was not restored")
            report(f"store: {options.kind}", f"profile={profile} seed={options.seed}", counts, started)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
