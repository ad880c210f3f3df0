"""Small NIfTI files for tests, written by nibabel."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

# (x, y, z) -> RAS+ mm: right-angled, turned by no multiple of 90 degrees, three different spacings.
OBLIQUE = np.array(
    [
        [-0.8 * np.cos(0.1), 1.1 * np.sin(0.1), 0.0, 12.0],
        [0.8 * np.sin(0.1), 1.1 * np.cos(0.1), 0.0, -34.0],
        [0.0, 0.0, 2.5, 56.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def write_nifti(
    path: Path,
    stored: np.ndarray,
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
    sform: np.ndarray | None = OBLIQUE,
    qform: np.ndarray | None = None,
    kind: type = nib.Nifti1Image,
) -> Path:
    """A NIfTI file with exactly these stored values (x, y, z[, t]), scale and forms."""
    header = kind.header_class()
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header.set_sform(sform, code=0 if sform is None else 1)
    header.set_qform(qform, code=0 if qform is None else 1)
    form = sform if sform is not None else qform
    if form is not None and np.isfinite(form).all():
        header["pixdim"][1:4] = np.linalg.norm(form[:3, :3], axis=0)
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["magic"], header["vox_offset"] = (b"n+1", 352) if kind is nib.Nifti1Image else (b"n+2", 544)
    content = header.binaryblock + b"\0\0\0\0" + stored.tobytes(order="F")
    if path.suffix == ".gz":
        content = gzip.compress(content, 1)
    path.write_bytes(content)
    return path


def ramp(shape: tuple[int, ...], dtype: type = np.int16) -> np.ndarray:
    """Stored values that differ from voxel to voxel."""
    rng = np.random.default_rng(7)
    if np.issubdtype(dtype, np.floating):
        return rng.normal(0, 300, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(max(limits.min, -1024), min(limits.max, 3000), shape).astype(dtype)
