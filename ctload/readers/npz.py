"""Volumes of the RAD-ChestCT release: an .npz archive with one array `ct`. No pickle is ever read.

The archive holds voxels alone. Their geometry is what the authors' preprocessing does (Draelos et al. 2021,
doi 10.1016/j.media.2020.101857, appendix A.2; github.com/rachellea/ct-volume-preprocessing, preprocess_volumes.py): HU
resampled by B-splines to 0.8 mm on every axis and clipped to [-1000, 1000], axis 0 from superior to inferior, axis 1
from anterior to posterior, axis 2 from right to left. Where slices of the source had several gaps, it took the most
frequent one for all, which nothing here can see; the release's metadata tables tell which. Where the patient lay is
not kept: the affine begins at the volume's corner. No file of the release was at hand to try this on.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ctload.errors import IngestError
from ctload.readers.volume import Volume

SPACING_MM = 0.8
ARRAY = "ct"
_MEMBER = f"{ARRAY}.npy"
_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, *, unit: str | None = None, max_bytes: int) -> Volume:
    """One volume of the release, as it lies in the file.

    Args:
        path: A .npz.
        unit: None or "HU"; the release has no other.
        max_bytes: Largest uncompressed size that is read.

    Raises:
        IngestError: UNDECODABLE, NOT_A_VOLUME, NOT_HU, TOO_FEW_SLICES.
    """
    shape, dtype = _header(path, unit)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > max_bytes:
        raise IngestError(
            "UNDECODABLE",
            f"the header declares {size / 2**30:.1f} GiB (shape {shape}, {dtype}), the limit is "
            f"{max_bytes / 2**30:.1f} GiB; raise max_bytes if it is right",
            path=path,
        )
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_MEMBER) as file:
            voxels = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # to the end, where zipfile compares the CRC-32
    except _DAMAGED as error:
        raise _damaged(error, path) from error
    affine = _affine(shape)
    return Volume(voxels.astype(np.int16 if dtype.itemsize <= 2 else np.int32), affine, "HU", affine.copy())


def read_npz_grid(path: Path, *, unit: str | None = None) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape (D, H, W) and affine (4, 4), (z, y, x) -> RAS+ mm, from the array's header alone.

    Raises:
        IngestError: As `read_npz`, as far as the header tells.
    """
    shape, _ = _header(path, unit)
    return shape, _affine(shape)


def _header(path: Path, unit: str | None) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array; nothing is taken on trust, and no voxel is decompressed."""
    if unit not in (None, "HU"):
        raise IngestError("NOT_HU", f"an .npz is a volume of RAD-ChestCT, in HU, not in {unit!r}", path=path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if _MEMBER not in names:
                raise IngestError(
                    "NOT_A_VOLUME",
                    f"the archive has {', '.join(names[:5]) or 'nothing'}; a volume of RAD-ChestCT has one array "
                    f"{ARRAY!r}. Convert other .npz files to NIfTI, which keeps their geometry",
                    path=path,
                )
            with archive.open(_MEMBER) as file:
                version = np.lib.format.read_magic(file)
                if version not in _HEADERS:
                    reason = f"array {ARRAY!r} has .npy version {version}, not 1.0 or 2.0"
                    raise IngestError("UNDECODABLE", reason, path=path)
                shape, _, dtype = _HEADERS[version](file)
    except _DAMAGED as error:
        raise _damaged(error, path) from error
    _check_header(shape, dtype, path)
    return shape, dtype


def _damaged(error: Exception, path: Path) -> IngestError:
    return IngestError("UNDECODABLE", f"the archive is damaged ({error}); fetch the file again", path=path)


def _check_header(shape: tuple[int, ...], dtype: np.dtype, path: Path) -> None:
    if dtype.kind != "i" or dtype.itemsize > 4 or len(shape) != 3:
        raise IngestError(
            "NOT_A_VOLUME",
            f"array {ARRAY!r} is {dtype} of shape {shape}; it needs three axes of signed integers, 32 bits at most",
            path=path,
        )
    if min(shape) < 2:
        raise IngestError("TOO_FEW_SLICES", f"array {ARRAY!r} of shape {shape} needs 2 voxels on every axis", path=path)


def _affine(shape: tuple[int, ...]) -> np.ndarray:
    """(4, 4), index (z, y, x) -> RAS+ mm: every axis falls."""
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = -SPACING_MM
    affine[:3, 3] = [SPACING_MM * (size - 1) for size in reversed(shape)]
    affine[3, 3] = 1
    return affine
