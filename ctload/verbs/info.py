"""`ctload info`: what a store holds."""

import argparse
from pathlib import Path

from ctload.storage.store import Store, open_store
from ctload.verbs.status import OK


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    parser.add_argument("store", type=Path, metavar="STORE")
    parser.add_argument("--studies", action="store_true", help="one line per study, tab separated")


def run(options: argparse.Namespace) -> int:
    """Print the store, or its studies."""
    store = open_store(options.store)
    if options.studies:
        _print_studies(store)
    else:
        _print_store(store)
    return OK


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
