"""Prepared studies with random voxels, for tests of the store."""

from pathlib import Path

import numpy as np

from ctload.packing.writer import StoreWriter
from ctload.storage.prepared import Prepared
from ctload.storage.preset import PRESETS, Preset
from ctload.storage.store import Store, open_store

# Lossless; tests of the store never resample.
PRESET = PRESETS["native"]
OBLIQUE = np.array([[0.1, 0.2, 0.7, -50.0], [0.0, 0.8, -0.2, 20.5], [2.5, 0.0, 0.1, 700.0], [0.0, 0.0, 0.0, 1.0]])


def make_prepared(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (20, 24, 28),
    num_channels: int = 1,
    labels: tuple[str, ...] = (),
    unit: str = "HU",
    scale: float = 1.0,
    offset: float = 0.0,
    fill_value: int = -1024,
) -> Prepared:
    """A study of random voxels on an oblique grid; label maps alternate between uint8 and uint16."""
    rng = np.random.default_rng((7, seed))
    return Prepared(
        arrays={str(number): rng.integers(-1024, 3072, shape).astype(np.int16) for number in range(num_channels)},
        labels={
            name: rng.integers(0, 200, shape).astype((np.uint8, np.uint16)[at % 2]) for at, name in enumerate(labels)
        },
        affine=OBLIQUE,
        unit=unit,
        scale=scale,
        offset=offset,
        fill_value=fill_value,
        num_clipped_low=3,
        num_clipped_high=5,
        max_rounding=0.25,
        source_affine=np.eye(4),
    )


def write_store(path: Path, studies: dict[str, Prepared], *, preset: Preset = PRESET, profile: str = "fast") -> Store:
    """A finished store of these studies."""
    with StoreWriter(path, preset, profile=profile) as writer:
        for study, prepared in studies.items():
            writer.write(study, prepared)
        writer.finish()
    return open_store(path)
