"""A store as a data set of nnU-Net v2: its loaders read patches from it as they read them from blosc2 files.

The store takes the place of the preprocessed folder: pack it at the spacing of the plans. Intensities are normalised
as CTNormalization does, when a patch is read. Arrays are (C, z, y, x) in RAS+, which nnU-Net's own preprocessing does
not turn to: predict from a store too, or from files in RAS+.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numba
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset  # pyright: ignore[reportMissingImports]

from ctload.errors import CtloadError
from ctload.geometry import Box
from ctload.storage.header import read_header
from ctload.storage.layout import LABEL_PREFIX
from ctload.storage.manifest_file import read_manifest
from ctload.storage.store import Store, open_store

_MIN_LOCATIONS, _MIN_SHARE, _SEED = 10_000, 0.01, 1234  # of each class, as nnU-Net's preprocessing keeps them


class StoreDataset(nnUNetBaseDataset):
    """nnUNetBaseDataset over a store. In a trainer, make it where the data sets are made (get_tr_and_val_datasets).

    It opens the store in the process that reads first, so that it may be made before nnU-Net forks its workers; do
    not read from it in the parent before that.

    Args:
        folder: The store.
        identifiers: Study ids; None is all.
        folder_with_segs_from_previous_stage: Must be None; cascades are not read from stores.
        label: Name of the label map.
        intensities: foreground_intensity_properties_per_channel["0"] of the plans: mean, std, percentile_00_5,
            percentile_99_5, in HU.
        classes: The label values that foreground is drawn from, such as label_manager.foreground_labels.

    Raises:
        CtloadError: A cascade, or intensities without one of the four.
    """

    def __init__(
        self,
        folder: str,
        identifiers: list[str] | None = None,
        folder_with_segs_from_previous_stage: str | None = None,
        *,
        label: str,
        intensities: Mapping[str, float],
        classes: Iterable[int],
    ) -> None:
        if folder_with_segs_from_previous_stage is not None:
            raise CtloadError("a cascade's segmentations are not in a store; use nnU-Net's own folder", path=folder)
        super().__init__(str(folder), self.get_identifiers(folder) if identifiers is None else list(identifiers))
        missing = {"mean", "std", "percentile_00_5", "percentile_99_5"} - set(intensities)
        if missing:
            raise CtloadError(f"intensities have no {sorted(missing)}; take them from nnU-Net's plans", path=folder)
        self._label, self._intensities = f"{LABEL_PREFIX}{label}", dict(intensities)
        self._classes = tuple(int(value) for value in classes)
        self._store: Store | None = None
        self._locations: dict[str, dict[int, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None, "_locations": {}}

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = open_store(self.source_folder, num_threads=1)  # nnU-Net has a process for each core
        return self._store

    def load_case(self, identifier: str) -> Any:
        """A tuple: data (1, z, y, x) float32, segmentation (1, z, y, x) int16, None, and properties: `spacing` in mm
        and `class_locations`, the latter counted when a study is first loaded. Both arrays read what is sliced."""
        store = self.store
        row = store.studies.row_of(identifier)
        data = PatchArray(store, row, "0", self._intensities)
        segmentation = PatchArray(store, row, self._label)
        if identifier not in self._locations:
            self._locations[identifier] = class_locations(segmentation[...], self._classes)
        spacing = store.studies.spacings_mm[row].tolist()
        return data, segmentation, None, {"spacing": spacing, "class_locations": self._locations[identifier]}

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """Ids of all studies. It starts no reader threads, so a fork may follow."""
        return read_manifest(Path(folder), read_header(Path(folder)))["study"].to_pylist()

    @staticmethod
    def save_case(data: np.ndarray, seg: np.ndarray, properties: dict, output_filename_truncated: str) -> NoReturn:
        """A store is written by `ctload pack`.

        Raises:
            CtloadError: Always.
        """
        raise CtloadError("nnU-Net cannot write into a store; `ctload pack` does", path=output_filename_truncated)

    @staticmethod
    def unpack_dataset(folder: str, *_: Any, **__: Any) -> None:
        """Nothing to do: patches are read from the store as it is."""


class PatchArray:
    """One stored array as (1, z, y, x), of which a slice reads what it needs.

    Args:
        store, row, array: Whose it is.
        intensities: How to normalise; None leaves whole numbers, as of a label map.
    """

    def __init__(self, store: Store, row: int, array: str, intensities: Mapping[str, float] | None = None) -> None:
        depth, height, width = store.studies.shapes[row].tolist()
        self.shape = (1, depth, height, width)
        self.dtype = np.dtype(np.int16 if intensities is None else np.float32)
        self._store, self._row, self._array, self._intensities = store, row, array, intensities

    @property
    def ndim(self) -> int:
        return 4

    def __getitem__(self, index: Any) -> np.ndarray:
        """A part, read. Steps other than 1 are not possible."""
        given = () if index is Ellipsis else index if isinstance(index, tuple) else (index,)
        whole = (*given, *(slice(None),) * (4 - len(given)))
        parts = [part.indices(size) for part, size in zip(whole, self.shape, strict=True)]
        if any(step != 1 for *_, step in parts):
            raise IndexError("a stored array is sliced with step 1")
        (first, last, _), *edges = parts
        start, stop = [edge[0] for edge in edges], [max(edge[0], edge[1]) for edge in edges]
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        stored = np.empty(box.shape, np.int16)
        self._store.start_read(self._row, box, stored, array=self._array).result()
        return (stored if self._intensities is None else self._normalised(stored))[None][first:last]

    def _normalised(self, stored: np.ndarray) -> np.ndarray:
        assert self._intensities is not None
        row = self._store.studies.table.slice(self._row, 1).select(["scale", "offset"]).to_pylist()[0]
        names = ("percentile_00_5", "percentile_99_5", "mean")
        low, high, mean = (np.float32(self._intensities[name]) for name in names)
        std = np.float32(max(self._intensities["std"], 1e-8))
        out = np.empty(stored.shape, np.float32)
        scale, offset = np.float32(row["scale"]), np.float32(row["offset"])
        normalise(stored.reshape(-1), scale, offset, low, high, mean, std, out.reshape(-1))
        return out


@numba.njit(cache=True, nogil=True)
def normalise(stored, scale, offset, low, high, mean, std, out):
    """nnU-Net's CTNormalization of stored values: clip to [low, high] HU, subtract the mean, divide by std; float32.

    Args:
        stored: (N,) int16.
        scale: float32, value = stored * scale + offset.
        offset: float32.
        low: float32.
        high: float32.
        mean: float32.
        std: float32.
        out: (N,) float32, written.
    """
    for at in range(stored.size):
        value = np.float32(stored[at]) * scale + offset
        out[at] = (min(max(value, low), high) - mean) / std


def class_locations(segmentation: np.ndarray, classes: Iterable[int]) -> dict[int, np.ndarray]:
    """Voxels of each class to draw from, as nnU-Net's preprocessing keeps them: 10,000 or 1 %, whichever is more.

    Args:
        segmentation: (1, z, y, x).
        classes: Values.

    Returns:
        (n, 4) int64 of each class: 0, z, y, x.
    """
    rng = np.random.default_rng(_SEED)
    found = {}
    for value in classes:
        places = np.flatnonzero(segmentation == value)
        number = max(min(_MIN_LOCATIONS, len(places)), int(np.ceil(len(places) * _MIN_SHARE)))
        places = rng.choice(places, number, replace=False)
        found[value] = np.stack(np.unravel_index(places, segmentation.shape), axis=1)
    return found
