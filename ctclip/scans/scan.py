"""One NIfTI or DICOM study as what an image tower sees, without a store.

The readers and the resampler are those of `ctload pack`, so that a scan read here equals one that was packed; for
Merlin's own weights the voxels are not rounded to whole HU, as its MONAI chain does not round them either.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctload.errors import CodedError, CtloadError, IngestError
from ctload.packing.resample import prepare, prepare_exact
from ctload.planning.crop import CenterCrop
from ctload.planning.window import HuWindow
from ctload.readers import find_sources, read_source
from ctload.storage.preset import Preset


@dataclass(frozen=True)
class Scan:
    """One study on a preset's grid.

    Attributes:
        study: The id that `ctload pack` would give it.
        path: Where it lies.
        volume: (D, H, W) float32 HU, canonical.
        fill_hu: Value outside the volume.
        left_out: What the reader did not take, one sentence each.
    """

    study: str
    path: Path
    volume: np.ndarray
    fill_hu: int
    left_out: tuple[str, ...]


def read_scans(
    path: str | Path, *, preset: Preset, is_rounded: bool, series: str | None = None, resample_irregular: bool = False
) -> list[Scan]:
    """Every study at a path, resampled.

    Args:
        path: A .nii or .nii.gz, a DICOM folder or zip, or a folder of such.
        preset: Grid and spacing.
        is_rounded: To whole HU, as a store holds them.
        series: Which series of a DICOM study, where there are several.
        resample_irregular: Correct gantry tilt and varying gaps of slices instead of refusing.

    Raises:
        IngestError, GeometryError: A study that cannot be read; it is named, with what is wrong and the way out.
    """
    scans = []
    for source in find_sources(Path(path)):
        try:
            volume = read_source(source.path, series=series, resample_irregular=resample_irregular)
        except CtloadError:
            raise
        except Exception as error:  # whatever a decoder makes of a broken file
            raise _unreadable(error, source.study, source.path) from error
        try:
            voxels = _rounded(volume, preset) if is_rounded else prepare_exact(volume, preset)
        except CodedError as error:
            message = error.message.removeprefix(f"[{error.code}] ")
            raise type(error)(error.code, message, study=source.study, path=source.path) from error
        scans.append(Scan(source.study, source.path, voxels, preset.fill_hu, volume.left_out))
    return scans


def scan_tensor(scan: Scan, *, windows: tuple[HuWindow, ...], crop: CenterCrop | None) -> Tensor:
    """(1, C, D, H, W) float32 in [0, 1], channels-last 3D, one channel per window.

    Args:
        scan: As `read_scans` gave it.
        windows: In their order.
        crop: The middle that is taken; None takes all.
    """
    volume = scan.volume if crop is None else _cropped(scan, crop)
    channels = [np.clip((volume - window.low) / (window.high - window.low), 0, 1) for window in windows]
    tensor = torch.from_numpy(np.stack(channels).astype(np.float32, copy=False))[None]
    return tensor.contiguous(memory_format=torch.channels_last_3d)


def _rounded(volume, preset: Preset) -> np.ndarray:
    prepared = prepare(volume, preset)
    return (prepared.arrays["0"].astype(np.float32) * prepared.scale + prepared.offset).astype(np.float32, copy=False)


def _cropped(scan: Scan, crop: CenterCrop) -> np.ndarray:
    volume = scan.volume
    missing = [max(wanted - size, 0) for wanted, size in zip(crop.shape, volume.shape, strict=True)]
    if any(missing) and not crop.pad:
        raise IngestError(
            "NOT_A_VOLUME",
            f"the volume is {volume.shape} voxels on this grid, the model's crop is {crop.shape} and it was trained "
            "without padding (data.pad)",
            study=scan.study,
            path=scan.path,
        )
    padded = np.pad(volume, [(size // 2, size - size // 2) for size in missing], constant_values=scan.fill_hu)
    start = [max(size // 2 - wanted // 2, 0) for size, wanted in zip(padded.shape, crop.shape, strict=True)]
    return padded[tuple(slice(first, first + wanted) for first, wanted in zip(start, crop.shape, strict=True))]


def _unreadable(error: Exception, study: str, path: Path) -> IngestError:
    # The text of another library's error may quote a name or a value: its type must do.
    return IngestError(
        "UNDECODABLE", f"cannot be read ({type(error).__name__}); fetch it again", study=study, path=path
    )
