"""Stored pixels of a DICOM object, and their rescale to HU. Compressed syntaxes are decoded by what pydicom finds
installed (python-gdcm is in the `dicom` extra); what cannot be decoded is refused, never guessed.
"""

from pathlib import Path

import numpy as np
import pydicom

from ctload.errors import IngestError
from ctload.readers.members import Member

# CT values of these RescaleTypes are HU; "US" (unspecified) is what several vendors write for plain CT.
HU_RESCALE_TYPES = ("", "HU", "HU_MOD", "US")


def stored_pixels(dataset: pydicom.Dataset, member: Member, path: Path) -> np.ndarray:
    """Stored values (N, H, W), N = 1 for a single frame.

    Raises:
        IngestError: TRUNCATED or UNDECODABLE.
    """
    try:
        values = dataset.pixel_array
    except Exception as error:  # decoders given damaged bytes raise anything
        cut_off = "less than expected" in str(error) or "PixelData" not in dataset
        raise IngestError(
            "TRUNCATED" if cut_off else "UNDECODABLE",
            f"file {member.name}: pixels cannot be decoded ({' '.join(str(error).split())}); fetch it again, or "
            "decompress it with the tools of its archive",
            path=path,
        ) from error
    shape = (int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns))
    if values.size != np.prod(shape) or values.dtype.kind not in "iuf":
        raise IngestError("UNDECODABLE", f"file {member.name}: pixels of shape {values.shape}, not {shape}", path=path)
    return values.reshape(shape)


def rescale_of(source: pydicom.Dataset, unit: str, member: Member, path: Path) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept of a slice, or of a frame's PixelValueTransformation item.

    Raises:
        IngestError: MISSING_RESCALE, NOT_HU, UNDECODABLE.
    """
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope in (None, "") or intercept in (None, ""):
        if unit != "HU":
            return 1.0, 0.0
        raise IngestError(
            "MISSING_RESCALE",
            f"file {member.name}: no RescaleSlope and RescaleIntercept, so stored values are not known to be HU; "
            "fetch the original series, or say unit='arbitrary'",
            path=path,
        )
    kind = str(source.get("RescaleType") or "").strip().upper()
    if unit == "HU" and kind not in HU_RESCALE_TYPES:
        raise IngestError(
            "NOT_HU", f"file {member.name}: RescaleType is {kind}, not HU; say unit='arbitrary' to keep it", path=path
        )
    scale = (float(slope), float(intercept))
    if not np.isfinite(scale).all() or scale[0] == 0:
        raise IngestError("UNDECODABLE", f"file {member.name}: rescale {scale} is no scale", path=path)
    return scale


def is_lossy(dataset: pydicom.Dataset) -> bool:
    """Whether the pixels went through a lossy compression at any time (LossyImageCompression)."""
    return str(dataset.get("LossyImageCompression") or "").strip() == "01"
