"""Datasets for torch.utils.data: items of single studies (map style), and a Loader's batches (iterable).

Both give dictionaries, which PyTorch's and Lightning's collating, pinning and moving to devices understand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ctload.adapters.item import ItemReader
from ctload.errors import LoaderError
from ctload.loading.batch import Batch
from ctload.loading.loader import Loader
from ctload.planning.augment import Augment
from ctload.planning.crop import Crop
from ctload.planning.window import HuWindow
from ctload.storage.manifest import Studies


class StudyDataset(Dataset):
    """Map style: an index is a study, an item is one crop of it. For a DataLoader of your own, with workers by "spawn".

    An item depends on (seed, epoch, index) alone, not on workers or order. A Loader is faster and needs no workers.

    Args:
        studies: Rows of a store.
        crop: Where in each volume; None is all of it, and batches then need studies of one shape.
        window: One HuWindow, or several, which become channels; None for HU.
        augment: Random changes; needs a window.
        channels, labels: Stored arrays, as of a Loader.
        seed: Of every random decision.

    Raises:
        LoaderError: augment without a window, or studies without a store.
        PlanError: A study that the crop does not fit, or without one of the arrays.

    Example:
        >>> dataset = StudyDataset(studies, crop=ctload.RandomCrop((96, 96, 96)))       # doctest: +SKIP
        >>> DataLoader(dataset, 4, shuffle=True, num_workers=2, multiprocessing_context="spawn")  # doctest: +SKIP
    """

    def __init__(
        self,
        studies: Studies,
        *,
        crop: Crop | None = None,
        window: HuWindow | Sequence[HuWindow] | None = HuWindow(-1000, 1000),  # noqa: B008 - frozen
        augment: Augment | None = None,
        channels: Sequence[str] = ("0",),
        labels: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        windows = () if window is None else (window,) if isinstance(window, HuWindow) else tuple(window)
        self._reader = ItemReader(
            studies,
            crop=crop,
            windows=windows,
            augment=augment,
            channels=channels,
            labels=labels,
            seed=seed,
        )
        # Shared, so that worker processes that live on over the epochs see it.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._reader.studies)

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops and changes of this epoch; call it before each pass, as of a DistributedSampler."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"volume": (C, D, H, W) float32, "affine": (4, 4) float64, "study": id, "row": index,
        "labels": {name: (D, H, W) int16}}; without "labels" where none were asked for.

        Raises:
            ForkAfterOpenError: A worker process by "fork"; take multiprocessing_context="spawn".
        """
        item = self._reader.read(int(index), int(self._epoch))
        found: dict[str, Any] = {
            "volume": torch.from_numpy(item.volume),
            "affine": torch.from_numpy(item.affine),
            "study": item.study,
            "row": item.row,
        }
        if item.labels:
            found["labels"] = {name: torch.from_numpy(labels) for name, labels in item.labels.items()}
        return found


class BatchDataset(IterableDataset):
    """Iterable: a Loader's batches as dictionaries, one epoch per pass, with its state.

    Give it to Lightning's Trainer as it is: checkpoints hold its state and resume in mid-epoch. In a DataLoader take
    batch_size=None and at most one worker by "spawn"; the state lives in the process that iterates.

    Args:
        make_loader: Makes a Loader with to="torch" at its first use; it is pickled where a worker process is started.

    Example:
        >>> batches = BatchDataset(functools.partial(ctload.Loader, studies, sampler=..., to="torch"))  # doctest: +SKIP
        >>> trainer.fit(model, batches)                                                                 # doctest: +SKIP
    """

    def __init__(self, make_loader: Callable[[], Loader]) -> None:
        self._make_loader = make_loader
        self._loader: Loader | None = None
        self._batches: Iterator[Batch] | None = None

    @property
    def loader(self) -> Loader:
        if self._loader is None:
            self._loader = self._make_loader()
        return self._loader

    def __getstate__(self) -> dict[str, Any]:
        if self._loader is not None:
            raise LoaderError("a Loader that was used cannot go to another process; make a new BatchDataset for it")
        return self.__dict__.copy()

    def __len__(self) -> int:
        return self.loader.num_batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise LoaderError(
                f"{worker.num_workers} workers would each give every batch; a Loader has threads of its own: take "
                "num_workers=0 or 1, or StudyDataset"
            )
        self._stop()  # a trainer that counts leaves the last iterator unfinished
        self._batches = iter(self.loader)
        return map(dict_of, self._batches)

    def state_dict(self) -> dict[str, Any]:
        """As of the Loader: the next batch after the last that was handed out."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where a state was saved.

        Raises:
            ResumeMismatchError: The state is of another loader.
        """
        self._stop()
        self.loader.load_state_dict(state)

    def close(self) -> None:
        """Release the loader's threads and memory."""
        if self._loader is not None:
            self._stop()
            self._loader.close()

    def _stop(self) -> None:
        if self._batches is not None:
            self._batches.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator
            self._batches = None


def dict_of(batch: Batch) -> dict[str, Any]:
    """A batch as a dictionary with the keys of StudyDataset, each with a first axis B; "unit" beside them."""
    found: dict[str, Any] = {
        "volume": batch.volume,
        "affine": torch.from_numpy(batch.affine),
        "study": list(batch.study),
        "row": torch.from_numpy(batch.rows),
        "unit": batch.unit,
    }
    if batch.labels:
        found["labels"] = dict(batch.labels)
    return found
