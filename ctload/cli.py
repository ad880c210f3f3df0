"""The command line: `ctload pack | info | verify`. One function per verb; each gives the exit status.

0: all went well. 1: a source was refused, or a file of the store is not as it was written. 2: nothing could be done.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ctload.chunking import PROFILES
from ctload.errors import CtloadError
from ctload.packing import PackReport, pack
from ctload.store import Store, open_store
from ctload.verification import verify
from ctload.volume import UNITS

OK, REFUSED, FAILED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: As typed after `ctload`; None means the process's own.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.verb(options)
    except (CtloadError, OSError) as error:
        print(f"ctload: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("ctload: interrupted; run the same command again, it goes on where it was", file=sys.stderr)
        return 130


def run_pack(options: argparse.Namespace) -> int:
    """`ctload pack`: sources into a store."""
    report = pack(
        options.sources,
        options.out,
        preset=options.preset,
        workers=options.workers,
        unit=options.unit,
        profile=options.profile,
    )
    _print_pack(report, options.out)
    return REFUSED if report.refused else OK


def run_info(options: argparse.Namespace) -> int:
    """`ctload info`: what a store holds."""
    store = open_store(options.store)
    if options.studies:
        _print_studies(store)
    else:
        _print_store(store)
    return OK


def run_verify(options: argparse.Namespace) -> int:
    """`ctload verify`: every file of a store against what was written."""
    report = verify(options.store, options.workers)
    for problem in report.problems:
        print(": ".join(part for part in (problem.study, problem.path, problem.message) if part))
    state = "sound" if report.is_sound else f"{len(report.problems)} problems"
    print(
        f"{options.store}: {state}; {report.num_studies} studies, {report.num_files} files, "
        f"{report.num_bytes / 1e6:.1f} MB of voxels checked"
    )
    return OK if report.is_sound else REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ctload", description="Stores of CT volumes: pack, look, verify.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("pack", help="sources into a store")
    verb.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="file, folder, or table (.csv, .parquet)")
    verb.add_argument("--out", required=True, type=Path, metavar="STORE", help="the store; made or added to")
    verb.add_argument("--preset", required=True, help="native, merlin, ct-rate, or a spacing such as 3x1.5x1.5mm")
    verb.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    verb.add_argument("--unit", choices=UNITS, help="what the values are, where the source does not say (default HU)")
    verb.add_argument("--profile", choices=sorted(PROFILES), default="fast", help="codec: fast (lz4) or archive (zstd)")
    verb.set_defaults(verb=run_pack)

    verb = verbs.add_parser("info", help="what a store holds")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("--studies", action="store_true", help="one line per study, tab separated")
    verb.set_defaults(verb=run_info)

    verb = verbs.add_parser("verify", help="every file of a store against what was written")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("--workers", type=int, default=1, help="studies checked at a time (default 1)")
    verb.set_defaults(verb=run_verify)
    return parser


def _print_pack(report: PackReport, out: Path) -> None:
    for refusal in report.refused:
        print(f"refused [{refusal.code}] {refusal.study or refusal.source}: {refusal.reason}")
    for study, sentence in report.left_out:
        print(f"left out of {study}: {sentence}")
    print(
        f"{out}: packed {len(report.packed)}, reused {len(report.reused)}, refused {len(report.refused)}; clipped "
        f"{report.num_clipped_low} voxels below and {report.num_clipped_high} above the preset's range; "
        f"{report.num_studies} studies in the store"
    )


def _print_store(store: Store) -> None:
    shapes = store.studies.shapes
    stored_bytes = int(store.studies.column("stored_bytes").sum())
    print(f"store      {store.path}")
    print(f"uuid       {store.uuid}")
    print(f"preset     {store.preset['name']} ({store.preset['hash']})")
    print(f"studies    {len(store)}")
    if len(store):
        low, high = (" x ".join(map(str, ends)) for ends in (shapes.min(axis=0), shapes.max(axis=0)))
        print(f"shape      {low}" + (f" to {high}" if low != high else "") + " voxels (z, y, x)")
        print(f"units      {', '.join(sorted(set(store.studies.column('unit'))))}")
    print(f"voxels     {stored_bytes / 1e6:.1f} MB on disk")
    print(f"columns    {', '.join(store.studies.table.column_names)}")


def _print_studies(store: Store) -> None:
    names = ("study", "depth", "height", "width", "spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "unit",
             "channels", "labels", "max_rounding", "num_clipped_low", "num_clipped_high")  # fmt: skip
    print("\t".join(names))
    for row in store.studies.table.select(names).to_pylist():
        cells = (",".join(cell) if isinstance(cell, list) else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
                 for cell in row.values())  # fmt: skip
        print("\t".join(cells))


if __name__ == "__main__":
    sys.exit(main())
