"""nnU-Net's own loaders over a store: the patches that its blosc2 data set gives, in forked workers too."""

import functools
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ctload
from ctload.errors import CtloadError, ForkAfterOpenError
from ctload.testing import synthetic_store

pytest.importorskip("torch", reason="needs torch (the train extra)")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what nnU-Net imports
    pytest.importorskip("nnunetv2", reason="needs nnunetv2 (the nnunet extra)")
    data_loader = pytest.importorskip("nnunetv2.training.dataloading.data_loader", exc_type=ImportError)
    nnunet_dataset = pytest.importorskip("nnunetv2.training.dataloading.nnunet_dataset")
    normalization = pytest.importorskip("nnunetv2.preprocessing.normalization.default_normalization_schemes")
    adapter = pytest.importorskip("ctload.adapters.nnunet")

INTENSITIES = {"mean": 40.0, "std": 130.0, "percentile_00_5": -900.0, "percentile_99_5": 350.0}
PATCH, CLASSES = (16, 24, 20), (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nnunet") / "four.zarr"
    shapes = [(30, 40, 36), (12, 30, 40), (40, 70, 60), (20, 20, 20)]
    return synthetic_store(path, 4, shapes, labels=("organs",)).path


def dataset_of(path: Path, **options: Any):
    chosen: dict[str, Any] = {"label": "organs", "intensities": INTENSITIES, "classes": CLASSES}
    return adapter.StoreDataset(str(path), **(chosen | options))


@pytest.fixture(scope="module")
def own(path: Path, tmp_path_factory: pytest.TempPathFactory):
    """The same studies as nnU-Net preprocesses and stores them."""
    folder, store, ours = tmp_path_factory.mktemp("blosc2"), ctload.open_store(path), dataset_of(path)
    normalise = normalization.CTNormalization(intensityproperties=INTENSITIES)
    for study in store.studies.ids:
        data, segmentation = normalise.run(store.read(study))[None], store.read(study, array="labels/organs")[None]
        blocks, chunks = nnunet_dataset.comp_blosc2_params(data.shape, PATCH)
        nnunet_dataset.nnUNetDatasetBlosc2.save_case(
            data, segmentation, ours.load_case(study)[3], str(folder / study), chunks=chunks, blocks=blocks
        )
    return nnunet_dataset.nnUNetDatasetBlosc2(str(folder))


def loader_over(dataset: Any, foreground: float):
    labels = SimpleNamespace(all_labels=[0, *CLASSES], has_ignore_label=False)
    return data_loader.nnUNetDataLoader(dataset, 2, PATCH, PATCH, labels, foreground)


@pytest.mark.parametrize("foreground", [0.0, 1.0])
def test_nnunets_loader_gives_the_patches_of_a_store_that_it_gives_of_its_own_files(path, own, foreground):
    ours, theirs = loader_over(dataset_of(path), foreground), loader_over(own, foreground)
    for seed in range(5):
        batches = []
        for loader in (ours, theirs):
            np.random.seed(seed)
            batches.append(loader.generate_train_batch())
        assert list(batches[0]["keys"]) == list(batches[1]["keys"])
        for name in ("data", "target"):
            np.testing.assert_array_equal(batches[0][name].numpy(), batches[1][name].numpy())
        assert batches[0]["data"].shape == (2, 1, *PATCH)
        assert not foreground or (batches[0]["target"] > 0).any()


def test_locations_are_voxels_of_their_class(path):
    _, segmentation, _, properties = dataset_of(path).load_case("synthetic-0002")
    for value, places in properties["class_locations"].items():
        assert len(places) == min(10_000, (segmentation[...] == value).sum())
        assert (segmentation[...][tuple(places.T)] == value).all()


def forked_batch(dataset: Any, queue: Any) -> None:
    try:
        queue.put(loader_over(dataset, 1.0).generate_train_batch()["data"].shape)
    except ForkAfterOpenError as error:
        queue.put(str(error))


def test_ids_are_told_without_starting_threads_so_that_workers_may_be_forked(path):
    # In a process of its own: this one has opened stores.
    code = (
        "import multiprocessing, sys, warnings; warnings.simplefilter('ignore')\n"
        "from tests.ctload.adapters.test_nnunet import dataset_of, forked_batch\n"
        "dataset = dataset_of(sys.argv[1]); assert len(dataset.identifiers) == 4\n"
        "fork = multiprocessing.get_context('fork'); queue = fork.Queue()\n"
        "for _ in range(2):\n"
        "    worker = fork.Process(target=forked_batch, args=(dataset, queue)); worker.start()\n"
        "    print(queue.get(timeout=60)); worker.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [f"torch.Size([2, 1, {', '.join(map(str, PATCH))}])"] * 2, done.stderr


def test_a_used_dataset_may_be_pickled(path):
    dataset = dataset_of(path)
    whole = dataset.load_case("synthetic-0000")[0][...]
    copied = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copied.load_case("synthetic-0000")[0][...], whole)


def test_slices_are_those_of_an_array(path):
    data = dataset_of(path).load_case("synthetic-0001")[0]
    whole = data[...]
    assert data.shape == whole.shape == (1, 12, 30, 40)
    assert data.ndim == 4
    np.testing.assert_array_equal(data[:, 2:5, 3:, -7:], whole[:, 2:5, 3:, -7:])
    np.testing.assert_array_equal(data[0:1, 4:9], whole[:, 4:9])
    with pytest.raises(IndexError, match="step 1"):
        data[:, ::2]


def test_what_a_store_cannot_do_is_refused_with_the_way_out(path):
    make = functools.partial(dataset_of, path)
    with pytest.raises(CtloadError, match="cascade"):
        make(folder_with_segs_from_previous_stage="segs")
    with pytest.raises(CtloadError, match="'std'"):
        make(intensities={"mean": 1, "percentile_00_5": 0, "percentile_99_5": 2})
    with pytest.raises(CtloadError, match="ctload pack"):
        make().save_case(np.zeros(1), np.zeros(1), {}, "a")
