"""Providers of the loading benchmark deliver what they say, on a small synthetic store; CPU time and memory count."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import loading, usage
from benchmarks.rivals_loading import Work
from ctload.testing import synthetic_store

CROP = (8, 16, 16)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def metadata_tracking():
    """The benchmark turns MONAI's metadata off for its whole process; other tests need it."""
    yield
    if "monai" in sys.modules:
        sys.modules["monai.data.meta_obj"].set_track_meta(True)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("rivals")
    synthetic_store(folder / "native.zarr", 4, (12, 24, 20))
    return Work("small", folder / "native.zarr", CROP, folder, repeats=2)


@pytest.mark.parametrize(
    "name", [name for name in loading.providers(Work("", Path(), CROP, Path())) if "=2" not in name]
)
def test_a_provider_delivers_every_study_of_its_round(work, name):
    if name == loading.RAW:
        pytest.skip("needs two worker processes of its own; too long for a test")
    try:
        epoch = loading.providers(work)[name]()
    except ImportError as error:
        pytest.skip(f"needs a rival's package: {error}")
    is_slow = name.startswith(("torchio", "monai Persistent", "ctload reference", "zarr-python"))
    assert epoch() == (4 if is_slow else 8)


def test_cpu_time_and_memory_are_those_of_the_process():
    cpu, before = usage.cpu_seconds(), usage.memory_mib()
    with usage.PeakMemory() as peak:
        held = np.ones((256, 1 << 20), np.uint8)
        while usage.cpu_seconds() - cpu < 0.2:
            held.sum()
    assert peak.mib > before + 192
