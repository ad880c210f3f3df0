"""Lightning's Trainer: it takes a loader as it is, and a checkpoint in mid-epoch goes on with the batch after."""

import functools
from pathlib import Path
from typing import Any

import pytest

import ctload
from ctload.testing import synthetic_store

torch = pytest.importorskip("torch", reason="needs torch (the train extra)")
lightning = pytest.importorskip("lightning", reason="needs lightning (the lightning extra)")
torch_dataset = pytest.importorskip("ctload.adapters.torch_dataset")

pytestmark = [
    # The batches are made by the loader's own threads; Lightning counts workers.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning 2.6 with torch 2.13
]
NUM_STEPS = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ctload.Store:
    return synthetic_store(tmp_path_factory.mktemp("lightning") / "seven.zarr", 7, (8, 16, 16))


def batches_of(store: ctload.Store):
    """Three batches of an epoch."""
    crop, sampler = ctload.RandomCrop((6, 12, 12)), ctload.ShuffleSampler(2, seed=3)
    make = functools.partial(ctload.Loader, store.studies, sampler=sampler, crop=crop, to="torch", num_threads=1)
    return torch_dataset.BatchDataset(make)


class Network(lightning.LightningModule):
    """One weight, trained towards nothing; it remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Any, ...]] = []

    def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
        self.seen.append((*batch["study"], batch["volume"].sum().item()))
        return (self.weight * batch["volume"]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def train(folder: Path, batches: Any, *, num_steps: int, checkpoint: Path | None = None) -> Network:
    """Up to a step of the run, with a checkpoint there."""
    network = Network()
    trainer = lightning.Trainer(
        default_root_dir=folder,
        max_steps=num_steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, batches, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    trainer.save_checkpoint(folder / "last.ckpt")
    batches.close()
    return network


@pytest.mark.parametrize("stop", range(1, NUM_STEPS))
def test_a_trainer_resumes_with_the_batch_after_the_checkpoint(store, tmp_path, stop):
    whole = train(tmp_path / "whole", batches_of(store), num_steps=NUM_STEPS)
    first = train(tmp_path / "first", batches_of(store), num_steps=stop)
    rest = train(tmp_path / "rest", batches_of(store), num_steps=NUM_STEPS, checkpoint=tmp_path / "first" / "last.ckpt")
    assert len(whole.seen) == NUM_STEPS
    assert first.seen + rest.seen == whole.seen
    assert torch.equal(rest.weight, whole.weight)
