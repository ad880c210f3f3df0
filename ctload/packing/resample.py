"""From a Volume and a Preset to what the store holds: canonical, resampled, cropped, clipped, int16.

The order is fixed: turn to RAS+, interpolate (only voxels that survive the crop), clip, round, pad. Clipping comes
after interpolation: the other order changes voxels beside metal and padding by hundreds of HU. The same code runs
with and without DALI, so a store does not depend on what is installed.
"""

import numpy as np

from ctload.errors import IngestError
from ctload.geometry import to_canonical
from ctload.packing.quantisation import Quantised, quantise
from ctload.readers.volume import Volume
from ctload.storage.prepared import Prepared
from ctload.storage.preset import Preset
from ctload.voxels.grid import Axis, axes_of, grid_affine, nearest_of, taps_of
from ctload.voxels.interpolation import Taps, interpolate


def prepare(volume: Volume, preset: Preset) -> Prepared:
    """What a store of `preset` holds of `volume`.

    Raises:
        IngestError: OUT_OF_INT16 where HU do not fit 16 bits and the preset does not clip.
    """
    axes, affine = _grid(volume, preset)
    exact = [_resampled(voxels, volume.affine, axes, preset) for voxels in _images(volume)]
    stored = quantise(exact, volume, preset)
    return Prepared(
        arrays={str(number): _padded(voxels, axes, stored.fill_value) for number, voxels in enumerate(stored.voxels)},
        labels={name: _labels(voxels, volume.affine, axes) for name, voxels in volume.labels.items()},
        affine=affine,
        source_affine=volume.source_affine,
        **_facts(volume, stored),
    )


def prepare_exact(volume: Volume, preset: Preset) -> np.ndarray:
    """Array "0" of `prepare` before rounding, (D, H, W) float32: what parity with other resamplers is held to."""
    axes, _ = _grid(volume, preset)
    values = _resampled(volume.voxels, volume.affine, axes, preset).astype(np.float32, copy=False)
    if volume.unit == "HU" and preset.clip_hu is not None:
        values = np.clip(values, *preset.clip_hu)
    return _padded(values, axes, preset.fill_hu if volume.unit == "HU" else float(values.min()))


def _images(volume: Volume) -> list[np.ndarray]:
    return [volume.voxels, *volume.channels.values()]


def _facts(volume: Volume, stored: Quantised) -> dict:
    names = ("scale", "offset", "fill_value", "num_clipped_low", "num_clipped_high", "max_rounding")
    return {"unit": volume.unit, **{name: getattr(stored, name) for name in names}}


def _grid(volume: Volume, preset: Preset) -> tuple[tuple[Axis, Axis, Axis], np.ndarray]:
    for voxels in (*_images(volume), *volume.labels.values()):
        if voxels.ndim != 3 or voxels.shape != volume.voxels.shape or not voxels.size:
            raise IngestError(
                "NOT_A_VOLUME",
                f"channels and labels must be (D, H, W) of the image's shape {volume.voxels.shape}, got {voxels.shape}",
            )
    turned, affine = to_canonical(volume.voxels, volume.affine)
    axes = axes_of(turned.shape, affine, preset)
    return axes, grid_affine(affine, axes)


def _resampled(voxels: np.ndarray, affine: np.ndarray, axes: tuple[Axis, Axis, Axis], preset: Preset) -> np.ndarray:
    """The kept voxels, (D, H, W): the source's own dtype where nothing is interpolated, else float32."""
    turned, _ = to_canonical(voxels, affine)
    if all(axis.is_identity for axis in axes):
        z, y, x = (slice(int(axis.origin), int(axis.origin) + axis.num_kept) for axis in axes)
        return np.ascontiguousarray(turned[z, y, x])
    taps = [taps_of(axis, antialias=preset.antialias) for axis in axes]
    # A flip goes into the taps rather than through memory.
    for axis, stride in enumerate(turned.strides):
        if stride < 0:
            turned = np.flip(turned, axis)
            taps[axis] = Taps(axes[axis].num_source - 1 - taps[axis].index, taps[axis].weight)
    return interpolate(np.ascontiguousarray(turned), *taps)


def _labels(voxels: np.ndarray, affine: np.ndarray, axes: tuple[Axis, Axis, Axis]) -> np.ndarray:
    turned, _ = to_canonical(voxels, affine)
    return _padded(turned[np.ix_(*(nearest_of(axis) for axis in axes))], axes, 0)


def _padded(voxels: np.ndarray, axes: tuple[Axis, Axis, Axis], fill: float) -> np.ndarray:
    if not any(axis.pad_before or axis.pad_after for axis in axes):
        return np.ascontiguousarray(voxels)
    out = np.full([axis.pad_before + axis.num_kept + axis.pad_after for axis in axes], fill, voxels.dtype)
    z, y, x = (slice(axis.pad_before, axis.pad_before + axis.num_kept) for axis in axes)
    out[z, y, x] = voxels
    return out
