"""NIfTI-1 and NIfTI-2, .nii and .nii.gz, to a Volume.

The gzip stream is read to its end, so that its CRC-32 and its length are checked: no flipped bit and no truncation of
a .nii.gz passes. Headers are parsed by nibabel. Sizes are checked against the file and against a limit before memory
is taken. Voxels stay in file order: the x-fastest buffer is C order in (z, y, x).
"""

from pathlib import Path
from typing import IO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError

from ctload.errors import GeometryError, IngestError
from ctload.geometry import from_xyz_affine
from ctload.readers.ct_rate import Correction, corrected
from ctload.readers.regular import require_regular
from ctload.readers.rescale import rescaled
from ctload.readers.volume import Volume

# Deflate cannot expand a byte to more than this (zlib, technical details).
MAX_DEFLATE_RATIO = 1032

DAMAGED_GZIP = (cast(type[Exception], isal_zlib.IsalError), igzip.BadGzipFile)

# What may follow the voxels before a file counts as something else.
MAX_TRAILING_BYTES = 1 << 20


def read_nifti(path: Path, *, unit: str | None = None, correction: Correction | None = None, max_bytes: int) -> Volume:
    """One volume of a NIfTI file, scl_slope and scl_inter applied.

    The affine is the sform where sform_code > 0, else the qform where qform_code > 0.

    Args:
        path: A .nii or .nii.gz; told apart by content.
        unit: What the values are; None means HU, and refuses 8-bit values without a scale.
        correction: Rescale and affine to use in place of the header's.
        max_bytes: Largest uncompressed size that is read.

    Raises:
        IngestError: UNDECODABLE, TRUNCATED, NOT_A_VOLUME, NOT_HU.
        GeometryError: NO_GEOMETRY, SHEARED.
    """
    header, raw = _read(path, max_bytes)
    slope, intercept = _scale(header, path)
    _require_finite(raw, slope, intercept, path)
    if correction is not None:
        return _corrected(raw, (slope, intercept), correction, path)
    affine = from_xyz_affine(_affine(header, path))
    require_regular(affine, path)
    _require_hu(raw.dtype, (slope, intercept), unit, path)
    whole = np.issubdtype(raw.dtype, np.integer)
    return Volume(
        rescaled(raw, slope, intercept),
        affine,
        unit or "HU",
        affine,
        quantum=abs(slope) if whole else 1.0,
        quantum_offset=intercept if whole else 0.0,
    )


def read_nifti_grid(path: Path, *, unit: str | None = None) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (D, H, W) and affine (4, 4), (z, y, x) -> RAS+ mm, from the header alone. Voxels are not looked at.

    Args:
        path: A .nii or .nii.gz.
        unit: As in `read_nifti`.

    Raises:
        IngestError, GeometryError: As `read_nifti`, as far as the header tells.
    """
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            start = cast(IO[bytes], igzip.IGzipFile(fileobj=file)).read(540) if is_gzip else file.read(540)
        except EOFError as error:
            raise _truncated("the gzip stream ends before its end mark", path) from error
        except DAMAGED_GZIP as error:
            raise IngestError("UNDECODABLE", "the gzip stream is damaged; fetch the file again", path=path) from error
    header = _header(start, path)
    shape, dtype, _ = _layout(header, path)
    affine = from_xyz_affine(_affine(header, path))
    require_regular(affine, path)
    _require_hu(dtype, _scale(header, path), unit, path)
    return shape, affine


def _require_hu(dtype: np.dtype, scale: tuple[float, float], unit: str | None, path: Path) -> None:
    if unit is None and dtype.itemsize == 1 and scale == (1, 0):
        raise IngestError(
            "NOT_HU",
            f"{dtype} values without a scale cannot be HU; say unit='arbitrary' (--unit arbitrary) for MR or a "
            "window's grey values, unit='HU' (--assume-hu) if they are HU all the same",
            path=path,
        )


def _corrected(raw: np.ndarray, scale: tuple[float, float], correction: Correction, path: Path) -> Volume:
    if scale != (1, 0):
        raise IngestError(
            "NOT_HU",
            f"the header has a scale of its own ({scale[0]:g}, {scale[1]:g}), so no correction may be applied to it; "
            "read it without",
            path=path,
        )
    require_regular(correction.affine, path)
    return Volume(corrected(raw, correction, path), correction.affine, "HU", correction.affine)


def _read(path: Path, max_bytes: int) -> tuple[nib.Nifti1Header, np.ndarray]:
    """Header and stored values (D, H, W), native byte order."""
    compressed_bytes = path.stat().st_size
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            stream = cast(IO[bytes], igzip.IGzipFile(fileobj=file)) if is_gzip else file
            ceiling = compressed_bytes * MAX_DEFLATE_RATIO if is_gzip else compressed_bytes
            return _read_stream(stream, ceiling, path, max_bytes)
        except EOFError as error:
            raise _truncated("the gzip stream ends before its end mark", path) from error
        except DAMAGED_GZIP as error:
            raise IngestError(
                "UNDECODABLE", f"the gzip stream is damaged ({error}); fetch the file again", path=path
            ) from error


def _read_stream(stream: IO[bytes], ceiling: int, path: Path, max_bytes: int) -> tuple[nib.Nifti1Header, np.ndarray]:
    start = stream.read(540)
    header = _header(start, path)
    shape, dtype, first = _layout(header, path)
    end = first + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if end > max_bytes:
        raise IngestError(
            "UNDECODABLE",
            f"the header declares {end / 2**30:.1f} GiB (shape {shape[::-1]}, {dtype}), the limit is "
            f"{max_bytes / 2**30:.1f} GiB; raise max_bytes if it is right",
            path=path,
        )
    if end > ceiling:
        raise _truncated(f"the header declares {end} bytes, the file can hold {ceiling} at most", path)
    _read_into(stream, memoryview(bytearray(max(first - len(start), 0))), path)
    values = np.empty(end - first, np.uint8)
    early = np.frombuffer(start, np.uint8)[first:end]  # a .nii may begin its voxels at byte 352
    values[: early.size] = early
    _read_into(stream, values.data[early.size :], path)
    trailing = len(stream.read(MAX_TRAILING_BYTES + 1))
    if trailing > MAX_TRAILING_BYTES:
        raise IngestError("UNDECODABLE", "more than 1 MiB follows the voxels: the header is wrong", path=path)
    native = values.view(dtype).reshape(shape)
    return header, native if dtype.isnative else native.astype(dtype.newbyteorder("="))


def _read_into(stream: IO[bytes], buffer: memoryview, path: Path) -> None:
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done : done + (1 << 24)])  # type: ignore[attr-defined]
        if not count:
            raise _truncated(f"the data end {len(buffer) - done} bytes before the header says", path)
        done += count


def _truncated(what: str, path: Path) -> IngestError:
    return IngestError("TRUNCATED", f"{what}; the file is cut off: fetch it again", path=path)


def _header(start: bytes, path: Path) -> nib.Nifti1Header:
    # nibabel's own checks would repair a damaged header in silence; what matters is checked below instead.
    if len(start) >= 348 and start[344:348] == b"n+1\0":
        header = nib.Nifti1Header(start[:348], check=False)
    elif len(start) == 540 and start[4:8] == b"n+2\0":
        header = nib.Nifti2Header(start, check=False)
    else:
        raise IngestError(
            "UNDECODABLE",
            "this is no single-file NIfTI: it needs a header of 348 or 540 bytes with the mark 'n+1' or 'n+2'; "
            "convert it again (dcm2niix, nibabel)",
            path=path,
        )
    codes = [int(header[name]) for name in ("sform_code", "qform_code")]
    if int(header["sizeof_hdr"]) != len(header.binaryblock) or not all(0 <= code <= 5 for code in codes):
        raise IngestError("UNDECODABLE", "the header is damaged: its size or its sform and qform codes", path=path)
    return header


def _layout(header: nib.Nifti1Header, path: Path) -> tuple[tuple[int, int, int], np.dtype, int]:
    """Shape (D, H, W), stored dtype and first byte of the voxels."""
    dims = [int(size) for size in header["dim"]]
    rank, sizes = dims[0], dims[1 : dims[0] + 1]
    if not 1 <= rank <= 7 or min(sizes) < 1:
        raise IngestError("UNDECODABLE", f"the header's dim {dims} is no shape", path=path)
    if rank < 3 or int(np.prod(sizes[3:], dtype=object)) != 1:
        raise IngestError(
            "NOT_A_VOLUME",
            f"a shape of {tuple(sizes)} is not one 3D volume; split it, and give further volumes of the same grid as "
            "channels",
            path=path,
        )
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        raise IngestError("UNDECODABLE", f"the header's datatype {error} is unknown", path=path) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise IngestError("NOT_A_VOLUME", f"voxels of type {dtype} are not scalar intensities", path=path)
    first = float(header["vox_offset"])
    if not int(header["sizeof_hdr"]) <= first <= 1 << 24 or first != int(first):
        raise IngestError("UNDECODABLE", f"the voxels would begin at byte {first}", path=path)
    return (sizes[2], sizes[1], sizes[0]), dtype, int(first)


def _affine(header: nib.Nifti1Header, path: Path) -> np.ndarray:
    """(4, 4) float64, (x, y, z) -> RAS+ mm."""
    try:
        with np.errstate(all="ignore"):  # what is no number is refused by require_regular
            if int(header["sform_code"]) > 0:
                return np.asarray(header.get_sform(), np.float64)
            if int(header["qform_code"]) > 0:
                return np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise GeometryError("NO_GEOMETRY", f"the qform is damaged: {error}", path=path) from error
    raise GeometryError(
        "NO_GEOMETRY",
        "sform_code and qform_code are both 0, so left and right are unknown; convert it again from DICOM, or set the "
        "sform if you know it",
        path=path,
    )


def _scale(header: nib.Nifti1Header, path: Path) -> tuple[float, float]:
    """Slope and intercept in force: a slope of 0 or NaN means none (NIfTI-1 standard, scl_slope)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite(slope) or not np.isfinite(intercept):
        raise IngestError("UNDECODABLE", f"scl_slope={slope}, scl_inter={intercept} are no scale", path=path)
    return slope, intercept


def _require_finite(raw: np.ndarray, slope: float, intercept: float, path: Path) -> None:
    low, high = float(raw.min()), float(raw.max())  # NaN and infinity show here
    ends = np.array([low * slope + intercept, high * slope + intercept])
    if not np.isfinite(ends).all() or np.abs(ends).max() > np.finfo(np.float32).max:
        raise IngestError(
            "UNDECODABLE",
            f"voxels run from {low} to {high}: NaN, infinite or overflowing values have no meaning; fill them "
            "(air is -1000 HU) and write the file again",
            path=path,
        )
