"""A store's studies open with the `ome-zarr` reader: voxels, axes, spacing and label maps."""

from pathlib import Path

import numpy as np
import pytest

import ctload
from ctload.testing import synthetic_store

reader = pytest.importorskip("ome_zarr.reader", reason="needs ome-zarr (pip install ome-zarr)", exc_type=ImportError)
io = pytest.importorskip("ome_zarr.io")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of dask and fsspec, which ome-zarr brings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ctload.Store:
    return synthetic_store(tmp_path_factory.mktemp("ome") / "two.zarr", 2, (70, 80, 300), labels=("organs",))


def nodes_of(store: ctload.Store, row: int) -> list:
    folder: Path = store.path / store.studies.table["path"][row].as_py()
    location = io.parse_url(folder, mode="r")
    assert location is not None
    return list(reader.Reader(location)())


def test_the_reader_sees_the_voxels_and_their_spacing(store):
    image, *_ = nodes_of(store, 1)
    np.testing.assert_array_equal(image.data[0].compute(), store.read(store.studies.ids[1]))
    assert [axis["name"] for axis in image.metadata["axes"]] == ["z", "y", "x"]
    scale, translation = image.metadata["coordinateTransformations"][0]
    assert scale["scale"] == pytest.approx(store.studies.spacings_mm[1])
    assert translation["translation"] == pytest.approx(store.studies.affines[1][[2, 1, 0], 3])


def test_the_reader_sees_the_label_maps(store):
    labels = [node for node in nodes_of(store, 0) if "labels" in str(node.zarr) and node.data]
    expected = store.read(store.studies.ids[0], array="labels/organs")
    assert any(np.array_equal(node.data[0].compute(), expected) for node in labels)
