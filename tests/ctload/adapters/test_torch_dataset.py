"""Under PyTorch's own DataLoader: the same items whatever the workers, spawn works, fork is a typed error."""

import functools
import pickle
from typing import Any

import numpy as np
import pytest

import ctload
from ctload.errors import ForkAfterOpenError, LoaderError, PlanError
from ctload.testing import synthetic_store

torch = pytest.importorskip("torch", reason="needs torch (the train extra)")
torch_dataset = pytest.importorskip("ctload.adapters.torch_dataset")
data = torch.utils.data

CROP = ctload.RandomCrop((6, 12, 10))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ctload.Store:
    return synthetic_store(tmp_path_factory.mktemp("items") / "six.zarr", 6, (10, 20, 18), labels=("organs",))


def dataset_of(store: ctload.Store, **options: Any):
    chosen: dict[str, Any] = {"crop": CROP, "labels": ("organs",), "augment": ctload.Augment(flip=(0.5, 0.5, 0.5))}
    return torch_dataset.StudyDataset(store.studies, **(chosen | options))


def volumes(batches) -> Any:
    return torch.cat([batch["volume"] for batch in batches])


def test_an_item_is_what_a_box_of_the_store_holds_at_the_place_its_affine_says(store):
    dataset = dataset_of(store, augment=None, window=None)
    item = dataset[3]
    stored = store.studies.affines[3]
    start = np.rint(np.linalg.solve(stored, item["affine"].numpy()[:, 3]))[:3].astype(int)
    box = ctload.Box(tuple(start.tolist()), tuple((start + CROP.shape).tolist()))
    assert item["study"] == store.studies.ids[3]
    np.testing.assert_array_equal(item["volume"].numpy()[0], store.read(item["study"], box))
    np.testing.assert_array_equal(
        item["labels"]["organs"].numpy(), store.read(item["study"], box, array="labels/organs")
    )


def test_windowed_items_are_what_the_loader_makes_of_the_same_box(store):
    # The whole volume leaves nothing to draw, so both must agree to the bit.
    items = dataset_of(store, augment=None, crop=None, labels=())
    with ctload.Loader(store.studies, sampler=ctload.SequentialSampler(6), to="torch") as loader:
        (batch,) = loader
    assert torch.equal(torch.stack([items[row]["volume"] for row in range(6)]), batch.volume)


def test_items_do_not_depend_on_order_and_change_with_the_epoch(store):
    dataset, again = dataset_of(store), dataset_of(store)
    first = [dataset[row]["volume"].clone() for row in range(6)]
    assert all(torch.equal(again[row]["volume"], first[row]) for row in reversed(range(6)))
    dataset.set_epoch(1)
    assert not torch.equal(dataset[0]["volume"], first[0])


def test_spawned_workers_give_the_items_of_one_process_in_every_epoch(store):
    dataset, alone = dataset_of(store), dataset_of(store)
    spawned = data.DataLoader(
        dataset, 2, num_workers=2, multiprocessing_context="spawn", persistent_workers=True, prefetch_factor=1
    )
    for epoch in range(2):
        dataset.set_epoch(epoch)
        alone.set_epoch(epoch)
        batches = list(spawned)
        assert [study for batch in batches for study in batch["study"]] == store.studies.ids
        assert torch.equal(volumes(batches), volumes(data.DataLoader(alone, 2)))
        assert batches[0]["labels"]["organs"].shape == (2, *CROP.shape)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_worker_is_told_to_spawn(store):
    loader = data.DataLoader(dataset_of(store), 2, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(ForkAfterOpenError, match="spawn"):
        list(loader)


def test_a_dataset_may_be_pickled_after_its_first_item(store):
    dataset = dataset_of(store)
    item = dataset[2]
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[2]["volume"], item["volume"])


def test_wrong_use_is_refused_with_the_way_out(store):
    with pytest.raises(LoaderError, match="window=None"):
        dataset_of(store, window=None)
    with pytest.raises(PlanError, match="no label map 'liver'"):
        dataset_of(store, labels=("liver",))
    with pytest.raises(IndexError, match=r"0\.\.5"):
        dataset_of(store)[6]


# ---- iterable


def batches_of(store: ctload.Store):
    make = functools.partial(
        ctload.Loader, store.studies, sampler=ctload.ShuffleSampler(2, seed=1), crop=CROP, to="torch", num_threads=1
    )
    return torch_dataset.BatchDataset(make)


def test_batches_under_a_data_loader_are_the_loaders_and_resume(store):
    batches = batches_of(store)
    under = data.DataLoader(batches, batch_size=None)
    assert len(under) == 3
    whole = [batch["study"] for _ in range(2) for batch in under]
    resumed, first = batches_of(store), batches_of(store)
    passing = iter(first)
    next(passing)
    resumed.load_state_dict(first.state_dict())
    assert [batch["study"] for _ in range(2) for batch in resumed] == whole[1:]
    for opened in (batches, resumed, first):
        opened.close()


def test_one_spawned_worker_makes_the_batches_and_two_are_refused(store):
    alone = batches_of(store)
    spawned = data.DataLoader(batches_of(store), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(volumes(spawned), volumes(alone))
    alone.close()


def test_two_workers_are_refused(store, monkeypatch):
    class Worker:
        num_workers = 2

    monkeypatch.setattr(torch_dataset, "get_worker_info", Worker)
    with pytest.raises(LoaderError, match="num_workers=0 or 1"):
        iter(batches_of(store))
