"""The DALI pipeline on a GPU against the reference. Needs a CUDA device, nvidia-dali and CuPy."""

from typing import Any

import numpy as np
import pytest

from ctload.augment import Augment
from ctload.crop import RandomCrop
from ctload.loader import Loader
from ctload.pipeline.reference import open_reference
from ctload.sampler import ShuffleSampler
from ctload.testing import assert_resumes_identically, synthetic_store
from tests.ctload.plans import random_plan, random_slot, spec_of
from tests.ctload.test_pipelines import SHAPE, disagreement

pytestmark = pytest.mark.gpu

cupy: Any = pytest.importorskip("cupy", reason="needs CuPy", exc_type=ImportError)
dali: Any = pytest.importorskip("ctload.pipeline.dali", reason="needs nvidia-dali", exc_type=ImportError)


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
