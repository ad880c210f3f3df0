"""The DALI pipeline on a GPU against the reference. Needs a CUDA device, nvidia-dali and CuPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctload.loading.loader import Loader
from ctload.pipeline.reference import open_reference
from ctload.planning.augment import Augment
from ctload.planning.crop import RandomCrop
from ctload.planning.resized_crop import RandomResizedCrop
from ctload.sampling.sampler import ShuffleSampler
from ctload.testing import assert_resumes_identically, synthetic_store
from tests.ctload.pipeline.test_pipelines import SHAPE, disagreement
from tests.ctload.plans import random_boxes, random_plan, random_slot, spec_of

pytestmark = pytest.mark.gpu

cupy: Any = pytest.importorskip("cupy", reason="needs CuPy", exc_type=ImportError)
dali: Any = pytest.importorskip("ctload.pipeline.dali", reason="needs nvidia-dali", exc_type=ImportError)


def to_host(array: Any) -> np.ndarray:
    return array.get().copy() if hasattr(array, "get") else np.array(array)


@pytest.fixture(autouse=True)
def device() -> None:
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        pytest.skip("needs a CUDA device")


@pytest.mark.parametrize("warp", [False, True])
@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_gpu_agrees_with_the_reference_on_random_plans(seed: int, warp: bool, blur: bool) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 3, SHAPE, windows=2, warp=warp, blur=blur)
    slot = random_slot(rng, 3, 2, SHAPE)
    pipeline = dali.open_dali(spec_of(plan, 2), 0)
    pinned = pipeline.allocate(slot.size).reshape(slot.shape)
    pinned[:] = slot
    got = pipeline.execute(pinned, plan)
    pinned[:] = -32768
    expected = open_reference(spec_of(plan, 2)).execute(slot, plan)
    assert isinstance(got, cupy.ndarray)
    assert not disagreement(expected, got.get(), plan)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [{"zoom": True}, {"zoom": True, "warp": True}, {"coarse": True}])
def test_zoom_and_coarsening_on_the_gpu_agree_with_the_reference(seed: int, kind: dict[str, bool]) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 3, SHAPE, **kind)
    boxes = random_boxes(rng, plan, 1)
    got = dali.open_dali(spec_of(plan), 0).execute(boxes, plan)
    assert not disagreement(open_reference(spec_of(plan)).execute(boxes, plan), got.get(), plan)


@pytest.mark.parametrize("options", [{}, {"num_views": 2}, {"crop": RandomResizedCrop((8, 16, 16))}])
@pytest.mark.parametrize("is_warping", [False, True])
def test_views_and_labels_on_the_gpu_are_those_of_the_reference(
    tmp_path: Path, options: dict[str, Any], is_warping: bool
) -> None:
    store = synthetic_store(tmp_path / "six.zarr", 6, (10, 24, 24), labels=("organs",))
    augment = Augment(flip=(0.5, 0.5, 0.5), rotate_deg=(15.0 * is_warping, 0, 0), coarsen=(2, 1, 1))

    def batches(**where: Any) -> list[Any]:
        chosen = {"crop": RandomCrop((8, 16, 16)), **options, **where}
        sampler = ShuffleSampler(2, seed=0)
        with Loader(store.studies, sampler=sampler, augment=augment, labels=("organs",), **chosen) as loader:
            return [(to_host(view.volume), to_host(view.labels["organs"])) for batch in loader for view in batch.views]

    expected, got = batches(pipeline="reference"), batches(pipeline="dali", device="cuda", to="cupy")
    for (volume, labels), (right, right_labels) in zip(got, expected, strict=True):
        assert np.abs(volume - right).mean() < 1e-4
        assert np.abs(volume - right).max() < 4 / 255
        # A centre that falls on the border of two voxels may round to either.
        assert (labels != right_labels).mean() < (0.01 if is_warping or "crop" in options else 1e-9)


def test_warp_on_the_gpu_agrees_on_slices_of_512() -> None:
    rng = np.random.default_rng(3)
    plan = random_plan(rng, 1, (6, 512, 512), warp=True, photometric=False)
    slot = random_slot(rng, 1, 1, (6, 512, 512))
    got = dali.open_dali(spec_of(plan), 0).execute(slot, plan)
    assert not disagreement(open_reference(spec_of(plan)).execute(slot, plan), got.get(), plan)


def test_batches_on_the_gpu_resume_stay_valid_and_become_torch_tensors(tmp_path_factory: Any) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    store = synthetic_store(tmp_path_factory.mktemp("cuda") / "six.zarr", 6, (8, 24, 24))

    def make(**options: Any) -> Loader:
        return Loader(
            store.studies,
            sampler=ShuffleSampler(2, seed=0),
            crop=RandomCrop((8, 16, 16)),
            augment=Augment(flip=(0.5, 0.5, 0.5), noise_sigma=(0, 0.1)),
            poison_slots=True,
            **options,
        )

    cuda = {"pipeline": "dali", "device": "cuda"}
    assert_resumes_identically(lambda: make(to="cupy", **cuda))
    with make(to="torch", **cuda) as loader:
        tensors = [batch.volume for _ in range(3) for batch in loader]
    with make() as loader:
        expected = [batch.volume for _ in range(3) for batch in loader]
    assert all(isinstance(tensor, torch.Tensor) and tensor.is_cuda for tensor in tensors)
    for tensor, volume in zip(tensors, expected, strict=True):
        np.testing.assert_allclose(tensor.cpu().numpy(), volume, rtol=0, atol=1e-6)
