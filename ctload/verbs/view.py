"""`ctload view`: three planes of a study as a PNG."""

import argparse
from pathlib import Path

import numpy as np

from ctload.errors import CtloadError
from ctload.geometry import Box, Triple
from ctload.planning.window import HuWindow
from ctload.storage.durable import replace_file
from ctload.storage.store import Store, open_store
from ctload.verbs.status import OK
from ctload.voxels.planes import PLANES, Plane, extent_mm, montage, plane_pixels
from ctload.voxels.png import png_bytes

_BODY = HuWindow(-160, 240)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    add = parser.add_argument
    add("store", type=Path, metavar="STORE")
    add("study", metavar="STUDY", help="its id; `ctload info STORE --studies` lists them")
    add("--out", required=True, type=Path, metavar="FILE.png")
    add("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="black and white, in HU (default -160 240)")
    add("--at", type=int, nargs=3, metavar=("Z", "Y", "X"), help="voxel of the planes (default the middle)")
    add("--label", metavar="NAME", help="a label map drawn over the planes")
    add("--array", default="0", metavar="NAME", help='"0", the volume, or another channel')
    add("--size", type=int, default=512, help="longest side of a plane in pixels (default 512)")


def run(options: argparse.Namespace) -> int:
    """Read three slices, draw them and say what they are."""
    if options.size < 16:
        raise CtloadError(f"--size is at least 16 pixels, got {options.size}")
    store = open_store(options.store)
    row = store.studies.row_of(options.study)
    depth, height, width = store.studies.shapes[row].tolist()
    at = _place(options.at, (depth, height, width), options.study)
    affine = store.studies.affines[row]
    largest_mm = max(extent_mm((depth, height, width), affine))
    window = _window(options, store, row)
    scale, offset = (float(store.studies.table[name][row].as_py()) for name in ("scale", "offset"))
    pictures = []
    for plane in PLANES:
        labels = None if options.label is None else _slice(store, row, plane, at, f"labels/{options.label}")
        stored = _slice(store, row, plane, at, options.array)
        size = {"window": window, "mm_per_pixel": largest_mm / options.size}
        pictures.append(plane_pixels(plane, stored * scale + offset, affine, labels=labels, **size))
    replace_file(options.out, png_bytes(montage(pictures)))
    spacing = " x ".join(f"{step:.4g}" for step in store.studies.spacings_mm[row])
    unit = store.studies.table["unit"][row].as_py()
    print(f"{options.out}: {options.study}, {depth} x {height} x {width} voxels of {spacing} mm (z, y, x)")
    for plane in PLANES:
        print(f"{plane.name:<9} {'zyx'[plane.across]} = {at[plane.across]}")
    print(f"window    {window.low:g} to {window.high:g} {unit}")
    return OK


def _place(wanted: list[int] | None, shape: Triple, study: str) -> Triple:
    at = [size // 2 for size in shape] if wanted is None else wanted
    if any(not 0 <= place < size for place, size in zip(at, shape, strict=True)):
        raise CtloadError(f"--at {at} lies outside the volume {shape} (z, y, x)", study=study)
    return (at[0], at[1], at[2])


def _slice(store: Store, row: int, plane: Plane, at: Triple, array: str) -> np.ndarray:
    """(rows, columns) of a plane; only its chunks are read."""
    start, stop = [0, 0, 0], store.studies.shapes[row].tolist()
    start[plane.across], stop[plane.across] = at[plane.across], at[plane.across] + 1
    box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    return store.read(store.studies.table["study"][row].as_py(), box, array=array).squeeze(plane.across)


def _window(options: argparse.Namespace, store: Store, row: int) -> HuWindow:
    if options.window is not None:
        return HuWindow(*options.window)
    unit = store.studies.table["unit"][row].as_py()
    if unit != "HU":
        raise CtloadError(f"the study's unit is {unit}, so --window LOW HIGH must be given", study=options.study)
    return _BODY
