"""CT-RATE's metadata table: the rescale and the geometry that the NIfTI files of its first release lack.

The first release stores raw values under a header scale of 1 and 0, without geometry; `*_metadata.csv` holds both.
They are applied as the release's own repair does: values * slope + intercept, and spacing, position and orientation
in file order. The second release is repaired already, and applying the table again would shift every voxel (CT-CLIP
issue 50): a volume that would come out far below air is refused.
"""

import ast
import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctload.errors import IngestError, ManifestError
from ctload.readers.rescale import rescaled
from ctload.readers.slices import RAS_OF_LPS

# More than a twentieth of any chest CT is tissue above this; of one that is rescaled twice nothing but metal is.
TISSUE_SHARE, MIN_TISSUE_HU = 0.05, -200

COLUMNS = (
    "VolumeName", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing", "ImagePositionPatient",
    "ImageOrientationPatient",
)  # fmt: skip


@dataclass(frozen=True)
class Correction:
    """What the header of one volume should have said.

    Attributes:
        slope, intercept: HU = stored * slope + intercept.
        affine: (4, 4) float64, voxel index (z, y, x) in file order -> RAS+ mm.
    """

    slope: float
    intercept: float
    affine: np.ndarray


def read_corrections(path: Path) -> dict[str, Correction]:
    """The corrections of a `*_metadata.csv` (or .csv.gz), by volume name without .nii.gz.

    Raises:
        ManifestError: A missing column, a value that is no number, or a volume twice; naming the row.
    """
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            return _corrections(csv.DictReader(file), path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"the table cannot be read: {error}", path=path) from error


def _corrections(rows: csv.DictReader, path: Path) -> dict[str, Correction]:
    missing = sorted(set(COLUMNS) - set(rows.fieldnames or ()))
    if missing:
        raise ManifestError(f"no columns {missing}; this is no CT-RATE metadata table", path=path)
    found: dict[str, Correction] = {}
    for number, row in enumerate(rows, start=2):
        name = row["VolumeName"].removesuffix(".gz").removesuffix(".nii")
        if name in found:
            raise ManifestError(f"line {number} has this volume a second time", study=name, path=path)
        found[name] = _correction(row, name, number, path)
    return found


def corrected(stored: np.ndarray, correction: Correction, path: Path) -> np.ndarray:
    """HU (D, H, W) of stored values.

    Raises:
        IngestError: NOT_HU where the values were rescaled before.
    """
    voxels = rescaled(stored, correction.slope, correction.intercept)
    brightest = float(np.quantile(voxels[::4, ::8, ::8], 1 - TISSUE_SHARE))
    if brightest < MIN_TISSUE_HU:
        raise IngestError(
            "NOT_HU",
            f"{1 - TISSUE_SHARE:.0%} of the voxels would lie below {brightest:.0f} HU after the table's intercept of "
            f"{correction.intercept:g}: this file was rescaled before (CT-RATE's second release), read it without the "
            "table",
            path=path,
        )
    return voxels


def _correction(row: Mapping[str, str], name: str, number: int, path: Path) -> Correction:
    try:
        row_mm, column_mm = _numbers(row["XYSpacing"], 2)
        orientation = _numbers(row["ImageOrientationPatient"], 6)
        along_x, along_y = orientation[:3], orientation[3:]
        steps = [np.cross(along_x, along_y) * float(row["ZSpacing"]), along_y * row_mm, along_x * column_mm]
        affine = np.eye(4)
        affine[:3, :3] = np.stack(steps, axis=1)
        affine[:3, 3] = _numbers(row["ImagePositionPatient"], 3)
        affine[:3] *= RAS_OF_LPS[:, None]
        return Correction(float(row["RescaleSlope"]), float(row["RescaleIntercept"]), affine + 0.0)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ManifestError(f"line {number} has a value that is no number ({error})", study=name, path=path) from error


def _numbers(text: str, count: int) -> np.ndarray:
    """ "[0.7, 0.7]" as numbers."""
    values = np.array(ast.literal_eval(text), np.float64)
    if values.shape != (count,):
        raise ValueError(f"{text!r} is not {count} numbers")
    return values
