"""Studies of a store for MONAI: dictionaries of MetaTensors as LoadImaged, EnsureChannelFirstd and Orientationd("RAS")
leave them. Axes are MONAI's: (C, X, Y, Z), and affines map the voxel index (x, y, z) to RAS+ mm.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch.utils.data import Dataset

from ctload.adapters.item import ItemReader
from ctload.errors import LoaderError
from ctload.loading.batch import Batch
from ctload.planning.crop import Crop
from ctload.storage.manifest import Studies


class MetaDataset(Dataset):
    """Map style, in the place of monai.data.Dataset: the transforms that follow the loading stay as they are.

    Nothing is drawn but the crop; random transforms are MONAI's own. Under monai.data.DataLoader take
    multiprocessing_context="spawn" for workers.

    Args:
        studies: Rows of a store.
        transform: What follows, such as a monai.transforms.Compose.
        crop: Where in each volume, as of a Loader; only that is read. None is all of it. A RandomCrop is drawn by
            (seed, epoch, index); see set_epoch.
        labels: Label maps by the keys that they get, as {"label": "organs"}.
        image_key: Key of the volume.
        seed: Of the crop.

    Raises:
        PlanError: A study that the crop does not fit, or without one of the label maps.
        LoaderError: Studies without a store.

    Example:
        >>> dataset = MetaDataset(studies, Compose([...]), labels={"label": "organs"})  # doctest: +SKIP
        >>> monai.data.DataLoader(dataset, batch_size=2, shuffle=True)                  # doctest: +SKIP
    """

    def __init__(
        self,
        studies: Studies,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        *,
        crop: Crop | None = None,
        labels: Mapping[str, str] | None = None,
        image_key: str = "image",
        seed: int = 0,
    ) -> None:
        self.transform = transform
        self._keys, self._image_key = dict(labels or {}), image_key
        self._reader = ItemReader(
            studies,
            crop=crop,
            windows=(),
            augment=None,
            channels=("0",),
            labels=tuple(dict.fromkeys(self._keys.values())),
            seed=seed,
        )
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._reader.studies)

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops of this epoch; workers that live on see it too."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Any:
        """What `transform` makes of {image_key: MetaTensor (1, X, Y, Z) float32 in HU, key of a label map: MetaTensor
        (1, X, Y, Z) float32, ...}; meta["filename_or_obj"] is the study's id.

        Raises:
            ForkAfterOpenError: A worker process by "fork"; take multiprocessing_context="spawn".
        """
        item = self._reader.read(int(index), int(self._epoch))
        affine = _in_xyz(item.affine)
        found: dict[str, Any] = {self._image_key: _meta_tensor(item.volume, affine, item.study)}
        for key, name in self._keys.items():
            found[key] = _meta_tensor(item.labels[name][None].astype(np.float32), affine, item.study)
        return found if self.transform is None else self.transform(found)


def meta_batch(batch: Batch, *, labels: Mapping[str, str] | None = None, image_key: str = "image") -> dict[str, Any]:
    """A Loader's batch as monai.data.DataLoader would collate it, without a copy. The Loader needs to="torch".

    Args:
        batch: Of a Loader.
        labels: Label maps of the batch by the keys that they get.
        image_key: Key of the volume.

    Returns:
        MetaTensors (B, C, X, Y, Z): the volume in [0, 1], label maps int16; `.affine` is (B, 4, 4).

    Raises:
        LoaderError: The Loader gives no tensors.
    """
    if not isinstance(batch.volume, torch.Tensor):
        raise LoaderError(
            f"meta_batch needs tensors, got {type(batch.volume).__name__}; make the Loader with to='torch'"
        )
    arrays = {image_key: batch.volume} | {key: batch.labels[name][:, None] for key, name in (labels or {}).items()}
    meta = {"affine": torch.from_numpy(_in_xyz(batch.affine)), "filename_or_obj": list(batch.study)}
    found = {}
    for key, array in arrays.items():
        found[key] = MetaTensor(array.permute(0, 1, 4, 3, 2), meta=dict(meta))
        found[key].is_batch = True
    return found


def _in_xyz(affine: np.ndarray) -> np.ndarray:
    """Affines (..., 4, 4) of the voxel index (x, y, z) from those of (z, y, x)."""
    return affine[..., [2, 1, 0, 3]]


def _meta_tensor(volume: np.ndarray, affine: np.ndarray, study: str) -> MetaTensor:
    """(C, X, Y, Z) over the memory of a (C, D, H, W) volume."""
    turned = torch.from_numpy(volume).permute(0, 3, 2, 1)
    meta = {
        "filename_or_obj": study,
        "original_affine": affine.copy(),
        "spatial_shape": np.array(turned.shape[1:]),
        "original_channel_dim": "no_channel",
        "space": "RAS",
    }
    return MetaTensor(turned, affine=torch.from_numpy(affine.copy()), meta=meta)
