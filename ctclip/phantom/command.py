"""The words of `ctclip phantom`: arguments in, a cohort on disk out, with a progress bar."""

import argparse
from pathlib import Path

from tqdm import tqdm

from ctclip.cohorts.phantom import DEFAULT_SPLITS, make_phantom_cohort
from ctclip.phantom.errors import KnobError
from ctclip.phantom.grid import Grid, NativeGrid
from ctclip.phantom.knobs import PLANTED, PRESETS, SERIES, Knobs

FORMAT_NAMES = {"nifti": "nii.gz", "nii": "nii", "dicom": "dicom"}


def add_phantom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ctclip phantom`."""
    parser.description = "Make a synthetic cohort of abdominal CT with reports and known truth. No patient is in it."
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must be empty or absent")
    parser.add_argument("--studies", type=int, required=True, help="number of studies")
    parser.add_argument("--format", choices=sorted(FORMAT_NAMES), default="nifti", help="nifti is .nii.gz")
    parser.add_argument("--seed", type=int, default=0, help="same seed and options, same bytes (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="realistic", help="knobs to start from")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help="voxels; without it, native grids")
    parser.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="mm; with --shape")
    parser.add_argument("--matrix", type=int, default=512, help="pixels of native grids (default 512)")
    parser.add_argument("--prevalence", action="append", default=[], metavar="FINDING=SHARE", help="may be repeated")
    parser.add_argument("--effect", action="append", default=[], metavar="FINDING=FACTOR", help="may be repeated")
    parser.add_argument("--noise", type=float, help="multiplier of the scanner noise")
    parser.add_argument("--omission", type=float, help="chance that a report leaves out a present finding")
    parser.add_argument("--planted", choices=PLANTED, help="batch ratio normal:abnormal that wins by construction")
    parser.add_argument("--series", choices=SERIES, action="append", help="a further series per study; may be repeated")
    parser.add_argument("--masks", action="store_true", help="write organ and finding masks")


def run_phantom(args: argparse.Namespace) -> int:
    """Make the cohort and print its summary.

    Raises:
        KnobError: Options that no cohort can be made with.
    """
    cohort = make_phantom_cohort(
        args.out,
        args.studies,
        seed=args.seed,
        grid=_grid(args),
        knobs=_knobs(args),
        splits=DEFAULT_SPLITS,
        format=FORMAT_NAMES[args.format],
        has_masks=args.masks,
        workers=args.workers,
        progress=lambda rows: tqdm(rows, total=args.studies, unit="study", desc="phantom"),
    )
    print(cohort.summary())
    print(f"written: {args.out / 'studies.csv'}")
    return 0


def _grid(args: argparse.Namespace) -> Grid | NativeGrid:
    if args.shape is None:
        if args.spacing is not None:
            raise KnobError(f"--spacing {args.spacing} without --shape; give both, or neither for native grids")
        return NativeGrid(args.matrix)
    depth, height, width = args.shape
    if args.spacing is None:
        return Grid.covering((depth, height, width))
    z, y, x = args.spacing
    return Grid((depth, height, width), (z, y, x))


def _knobs(args: argparse.Namespace) -> Knobs:
    """The preset with what the command line changes."""
    knobs = PRESETS[args.preset]()
    changes = {
        name: getattr(args, name) for name in ("noise", "omission", "planted") if getattr(args, name) is not None
    }
    if args.series:
        changes["series"] = tuple(dict.fromkeys(args.series))
    return knobs.changed(
        prevalence=_pairs("--prevalence", args.prevalence), effect=_pairs("--effect", args.effect), **changes
    )


def _pairs(option: str, words: list[str]) -> dict[str, float]:
    pairs = {}
    for word in words:
        finding, _, value = word.partition("=")
        try:
            pairs[finding] = float(value)
        except ValueError:
            raise KnobError(f"{option} {word!r} is not FINDING=NUMBER, such as ascites=0.2") from None
    return pairs
