"""A NIfTI-1 file written byte by byte: the same arrays give the same bytes, and the header says "synthetic".

Enters: arrays in (z, y, x) order with their affine. Leaves: .nii or .nii.gz. It reads nothing; ctload's readers do.
Layout: the NIfTI-1 C header, nifti1.h of the NIfTI Data Format Working Group.
"""

import gzip
import struct
from pathlib import Path

import numpy as np

from ctload.geometry import from_xyz_affine, spacing_of

DESCRIPTION = b"synthetic phantom, not a patient"
_DATATYPES = {"int16": (4, 16), "uint8": (2, 8), "uint32": (768, 32)}
MILLIMETRES = 2


def nifti_bytes(voxels: np.ndarray, affine: np.ndarray) -> bytes:
    """The file's bytes before compression.

    Args:
        voxels: (D, H, W) int16, uint8 or uint32; x varies fastest in the file.
        affine: (4, 4), index (z, y, x) -> RAS+ mm; stored as sform, without qform.
    """
    code, bits = _DATATYPES[voxels.dtype.name]
    depth, height, width = voxels.shape
    spacing = spacing_of(affine)[::-1]
    sform = from_xyz_affine(affine)[:3].astype("<f4")
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, width, height, depth, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1.0, *spacing, 0.0, 0.0, 0.0, 0.0)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
    struct.pack_into("<B", header, 123, MILLIMETRES)
    struct.pack_into("<80s", header, 148, DESCRIPTION)
    struct.pack_into("<2h", header, 252, 0, 1)
    header[280:328] = sform.tobytes()
    struct.pack_into("<4s", header, 344, b"n+1\0")
    little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    return bytes(header) + b"\0\0\0\0" + np.ascontiguousarray(little).tobytes()


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write `path`, gzipped when it ends in .gz; the gzip header has no time and no name, so bytes repeat."""
    content = nifti_bytes(voxels, affine)
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=1, mtime=0)
    path.write_bytes(content)
