"""Public helpers for tests of code that loads volumes: synthetic stores, and a check that resuming repeats a run.

The volumes are made up and look like nothing but rough body CT: air, an ellipsoid of soft tissue, smaller ones of
fat and bone, and noise.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ctload.geometry import Triple
from ctload.loading.batch import Batch
from ctload.loading.loader import Loader
from ctload.packing.writer import StoreWriter
from ctload.storage.prepared import Prepared
from ctload.storage.preset import Preset
from ctload.storage.store import Store, open_store

_TISSUES_HU = (40, 60, -90, 400, -600)


def synthetic_volume(shape: Triple, seed: int) -> np.ndarray:
    """(D, H, W) int16 HU, a pure function of its arguments."""
    rng = np.random.default_rng((seed, *shape))
    z, y, x = np.ogrid[tuple(slice(-1, 1, 1j * size) for size in shape)]
    volume = np.full(shape, -1000, np.int16)
    volume[y**2 / 0.6 + x**2 / 0.8 + 0 * z < 1] = 30
    for tissue, inside in zip(_TISSUES_HU, _ellipsoids(shape, rng), strict=True):
        volume[inside] = tissue
    volume += rng.integers(-25, 26, shape, dtype=np.int16)
    return volume


def synthetic_labels(shape: Triple, seed: int) -> np.ndarray:
    """(D, H, W) uint8: which ellipsoid of synthetic_volume each voxel lies in, 1 to 5; 0 for none."""
    labels = np.zeros(shape, np.uint8)
    for number, inside in enumerate(_ellipsoids(shape, np.random.default_rng((seed, *shape))), 1):
        labels[inside] = number
    return labels


def _ellipsoids(shape: Triple, rng: np.random.Generator) -> Iterator[np.ndarray]:
    axes = np.ogrid[tuple(slice(-1, 1, 1j * size) for size in shape)]
    for _ in _TISSUES_HU:
        middle, radius = rng.uniform(-0.4, 0.4, 3), rng.uniform(0.15, 0.4, 3)
        squares = [((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radius, strict=True)]
        yield np.asarray(sum(squares)) < 1


def synthetic_prepared(
    shape: Triple,
    seed: int,
    *,
    num_channels: int = 1,
    labels: Sequence[str] = (),
    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 1.5),
) -> Prepared:
    """One made-up study, ready for StoreWriter.write.

    Args:
        shape: (D, H, W) in voxels.
        seed: Of its voxels.
        num_channels: Arrays "0", "1", ...
        labels: Names of label maps, alike but for the seed; the first is that of the volume.
        spacing_mm: Along (z, y, x).
    """
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = (*spacing_mm, 1.0)
    affine[:3, 3] = -np.array(shape[::-1]) * np.array(spacing_mm[::-1]) / 2
    return Prepared(
        arrays={str(channel): synthetic_volume(shape, seed + 100_003 * channel) for channel in range(num_channels)},
        labels={name: synthetic_labels(shape, seed + 100_003 * number) for number, name in enumerate(labels)},
        affine=affine,
        unit="HU",
        scale=1.0,
        offset=0.0,
        fill_value=-1024,
        num_clipped_low=0,
        num_clipped_high=0,
        max_rounding=0.0,
        source_affine=affine,
    )


def synthetic_store(
    path: str | Path,
    num_studies: int,
    shape: Triple | Sequence[Triple] = (24, 48, 48),
    seed: int = 0,
    *,
    preset: str = "native",
    num_channels: int = 1,
    labels: Sequence[str] = (),
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Store:
    """Write a store of made-up studies "synthetic-0000", ... and open it.

    Args:
        path: Where; a new folder.
        num_studies: How many.
        shape: (D, H, W) of all, or one of each study.
        seed: Of the voxels; study i is made from seed + i.
        preset: Name of the preset that the store is labelled with. It decides the chunks; nothing is resampled.
        num_channels: Arrays "0", "1", ... of each study.
        labels: Names of label maps of each study.
        columns: Further columns of the manifest, one value per study.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = synthetic_store(folder + "/demo.zarr", 2, (8, 16, 16), columns={"split": ["train", "val"]})
        ...     len(store.where(split="train"))
        1
    """
    shapes = np.broadcast_to(np.array(shape), (num_studies, 3)).tolist()
    with StoreWriter(path, Preset.from_name(preset)) as writer:
        for number, (depth, height, width) in enumerate(shapes):
            extra = {name: values[number] for name, values in (columns or {}).items()}
            shape_of = (depth, height, width)
            prepared = synthetic_prepared(shape_of, seed + number, num_channels=num_channels, labels=labels)
            writer.write(f"synthetic-{number:04d}", prepared, extra=extra)
        writer.finish()
    return open_store(path)


def batch_digest(batch: Batch) -> str:
    """xxh3_128 over everything a training step sees of a batch."""
    digest = xxhash.xxh3_128(repr((batch.study, batch.unit, batch.plan.epoch, batch.plan.step)).encode())
    for view in batch.views:
        volume = view.volume.get() if hasattr(view.volume, "get") else view.volume  # CuPy
        digest.update(np.ascontiguousarray(np.asarray(volume)).data)
        digest.update(np.ascontiguousarray(view.affine).data)
        for name, labels in view.labels.items():
            maps = labels.get() if hasattr(labels, "get") else labels
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(np.asarray(maps)).data)
    return digest.hexdigest()


def assert_resumes_identically(make_loader: Callable[[], Loader], num_epochs: int = 2) -> None:
    """Interrupt a run after every batch, resume it in a new loader, and compare all remaining batches bit for bit.

    The states are chained: each one is saved by a loader that was itself resumed. They go through JSON.

    Args:
        make_loader: Makes a loader at its beginning, the same each time.
        num_epochs: Epochs of the run, beyond whose end no state is saved.

    Raises:
        AssertionError: A resumed run differs; the message names the step.
    """
    with make_loader() as loader:
        state = json.dumps(loader.state_dict())
        whole = _remaining(loader, num_epochs)
    for done in range(len(whole) + 1):
        with _resumed(make_loader, state) as loader:
            rest = _remaining(loader, num_epochs)
        for number, (expected, got) in enumerate(zip(whole[done:], rest, strict=False)):
            assert expected == got, f"resumed after {done} batches, batch {done + number} is another one"
        assert len(rest) == len(whole) - done, f"resumed after {done} of {len(whole)} batches, got {len(rest)}"
        with _resumed(make_loader, state) as loader:
            for _ in loader:
                state = json.dumps(loader.state_dict())
                break


def _resumed(make_loader: Callable[[], Loader], state: str) -> Loader:
    loader = make_loader()
    loader.load_state_dict(json.loads(state))
    return loader


def _remaining(loader: Loader, num_epochs: int) -> list[str]:
    digests = []
    while loader.epoch < num_epochs:
        digests += [batch_digest(batch) for batch in loader]
    return digests
