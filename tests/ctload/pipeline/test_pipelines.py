"""Pipelines execute plans alike: reference against SciPy, DALI and numba against the reference, and mutants of all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ctload.pipeline import reference
from ctload.pipeline.numba import open_numba
from ctload.pipeline.reference import blur_volume, flip_volume, open_reference, warp_volume, zoomed_warp
from ctload.pipeline.spec import Pipeline, PipelineSpec, blur_radius
from ctload.planning.plan import BatchPlan
from ctload.voxels.coarsening import coarsen_reference
from tests.ctload.plans import FILL, plain_plan, random_boxes, random_plan, random_slot, random_warp, spec_of

dali = pytest.importorskip("ctload.pipeline.dali", reason="needs nvidia-dali", exc_type=ImportError)

SHAPE = (14, 18, 22)
EXACT = 1e-6


def disagreement(expected: np.ndarray, actual: np.ndarray, plan: BatchPlan) -> str:
    """Why two executions of a plan are not the same; "" when they are. The limits are in units of the window."""
    error = np.abs(expected.astype(np.float64) - actual)
    if not np.isfinite(error).all() or expected.shape != actual.shape:
        return "not finite, or of another shape"
    if all(part is None for part in (plan.warp, plan.zoom, plan.blur_sigma, plan.coarse_shape)):
        limits = {"all": (error.max(), EXACT)}
    elif max(plan.crop_shape) <= 128:
        limits = {"all": (error.max(), 1e-3)}
    else:  # DALI computes coordinates in single precision, which shows on large slices
        limits = {
            "mean": (error.mean(), 1e-4),
            "99.9 %": (np.quantile(error, 0.999), 2e-3),
            "all": (error.max(), 4 / 255),
        }
    return "; ".join(f"{name}: {value:.2g} > {limit:.2g}" for name, (value, limit) in limits.items() if value > limit)


FAST = ["dali", "numba"]


def open_fast(name: str, spec: PipelineSpec) -> Pipeline:
    return dali.open_dali(spec) if name == "dali" else open_numba(spec)


def execute_both(
    slot: Sequence[np.ndarray], plan: BatchPlan, name: str, *, num_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    spec = spec_of(plan, len(slot[0]), num_threads=num_threads)
    expected = open_reference(spec).execute(slot, plan)
    pipeline = open_fast(name, spec)
    actual = pipeline.execute(slot, plan)
    pipeline.close()
    return expected, actual


# ---- the reference against SciPy


@pytest.mark.parametrize("seed", range(6))
def test_reference_warp_is_scipys_grid_constant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = random_slot(rng, 1, 1, SHAPE)[0, 0]
    warp = random_warp(rng, 1, SHAPE)[0]
    linear, offset = warp[:, :3], warp[:, 3]
    at_centres = linear @ np.full(3, 0.5) + offset - 0.5
    expected = ndimage.affine_transform(
        volume.astype(np.float64), linear, at_centres, order=1, mode="grid-constant", cval=FILL
    )
    np.testing.assert_allclose(warp_volume(volume, warp, FILL), expected, rtol=0, atol=2e-4)


def test_reference_warp_of_whole_voxels_is_exact_and_fills() -> None:
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    shift = np.hstack([np.eye(3), [[0], [0], [1.0]]])
    expected = np.full(volume.shape, FILL, np.float32)
    expected[:, :, :-1] = volume[:, :, 1:]
    np.testing.assert_array_equal(warp_volume(volume, shift, FILL), expected)


@pytest.mark.parametrize("sigma", [(0.3, 0.8, 1.7), (0.0, 1.0, 0.0), (2.5, 0.01, 0.34), (6.0, 0.0, 0.0)])
def test_reference_blur_is_scipys_mirror(sigma: tuple[float, float, float]) -> None:
    volume = random_slot(np.random.default_rng(0), 1, 1, SHAPE)[0, 0]
    radius = blur_radius(np.array(sigma)).tolist()
    assert radius == [int(np.ceil(3 * s)) for s in sigma]
    expected = ndimage.gaussian_filter(volume.astype(np.float64), sigma, mode="mirror", radius=radius)
    np.testing.assert_allclose(blur_volume(volume, np.array(sigma)), expected, rtol=0, atol=2e-4)


def test_reference_flip_mirrors_the_named_axes() -> None:
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.testing.assert_array_equal(flip_volume(volume, np.array([True, False, True])), volume[::-1, :, ::-1])


# ---- DALI and numba against the reference


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    channels=st.integers(1, 2),
    windows=st.integers(1, 3),
    warp=st.booleans(),
    blur=st.booleans(),
    zoom=st.booleans(),
    coarse=st.booleans(),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 24), st.integers(1, 24)),
)
def test_pipelines_agree_with_the_reference_on_random_plans(
    name: str,
    seed: int,
    batch: int,
    channels: int,
    windows: int,
    warp: bool,
    blur: bool,
    zoom: bool,
    coarse: bool,
    shape: tuple[int, int, int],
) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, batch, shape, windows=windows, warp=warp, blur=blur, zoom=zoom, coarse=coarse)
    expected, actual = execute_both(random_boxes(rng, plan, channels), plan, name)
    assert actual.shape == (batch, channels * windows, *shape)
    assert actual.dtype == np.float32
    assert not disagreement(expected, actual, plan)


@pytest.mark.parametrize("name", FAST)
def test_flips_without_noise_are_exact_to_the_bit(name: str) -> None:
    rng = np.random.default_rng(1)
    plan = random_plan(rng, 3, SHAPE, photometric=False)
    slot = random_slot(rng, 3, 1, SHAPE)
    expected, actual = execute_both(slot, plan, name)
    np.testing.assert_array_equal(expected, actual)
    by_hand = np.stack([flip_volume(slot[b, 0], plan.flip[b]) for b in range(3)])[:, None]
    np.testing.assert_allclose(actual, np.clip((by_hand + 1000.0) / 2000, 0, 1), rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", FAST)
def test_warp_agrees_on_128_cubed(name: str) -> None:
    rng = np.random.default_rng(2)
    shape = (128, 128, 128)
    plan = random_plan(rng, 1, shape, warp=True, photometric=False)
    expected, actual = execute_both(random_slot(rng, 1, 1, shape), plan, name)
    assert not disagreement(expected, actual, plan)


@pytest.mark.parametrize("name", FAST)
def test_warp_agrees_on_slices_of_512(name: str) -> None:
    rng = np.random.default_rng(3)
    shape = (6, 512, 512)
    plan = random_plan(rng, 1, shape, warp=True, photometric=False)
    expected, actual = execute_both(random_slot(rng, 1, 1, shape), plan, name)
    assert not disagreement(expected, actual, plan)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(("warp", "blur"), [(False, False), (True, False), (True, True)])
def test_the_number_of_threads_changes_no_bit(name: str, warp: bool, blur: bool) -> None:
    rng = np.random.default_rng(4)
    shape = (37, 18, 22)
    plan = random_plan(rng, 3, shape, windows=2, warp=warp, blur=blur, coarse=blur)
    slot = random_slot(rng, 3, 1, shape)
    np.testing.assert_array_equal(*(execute_both(slot, plan, name, num_threads=n)[1] for n in (1, 3)))


@pytest.mark.parametrize("name", FAST)
def test_a_study_does_not_depend_on_the_batch_it_is_in(name: str) -> None:
    rng = np.random.default_rng(5)
    plan = random_plan(rng, 4, SHAPE, warp=True, blur=True, coarse=True)
    slot = random_slot(rng, 4, 2, SHAPE)
    pipeline = open_fast(name, spec_of(plan, 2))
    whole = pipeline.execute(slot, plan)
    halves = [pipeline.execute(slot[part].copy(), plan.take(part)) for part in (slice(0, 1), slice(1, 4))]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_studies_without_blur_or_warp_pass_unchanged_through_a_pipeline_that_has_both() -> None:
    rng = np.random.default_rng(6)
    plan = random_plan(rng, 1, SHAPE, warp=True, blur=True, photometric=False)
    still = np.hstack([np.eye(3), np.zeros((3, 1))])[None]
    plan = replace(plan, warp=still, blur_sigma=np.zeros((1, 3), np.float32), flip=np.array([[True, False, True]]))
    slot = random_slot(rng, 1, 1, SHAPE)
    plan = replace(plan, coarse_shape=np.array([SHAPE]))
    spec = spec_of(plan)
    for pipeline in (open_reference(spec), *(open_fast(name, spec) for name in FAST)):
        got = pipeline.execute(slot, plan)
        window = (slot[:, :, ::-1, :, ::-1].astype(np.float32) + 1000) / 2000
        np.testing.assert_allclose(got, np.clip(window, 0, 1), rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["reference", *FAST])
@pytest.mark.parametrize("kind", ["window", "flip", "warp"])
def test_a_slot_is_free_and_a_batch_stays_when_execute_returns(name: str, kind: str) -> None:
    rng = np.random.default_rng(7)
    plan = plain_plan(2, SHAPE) if kind == "window" else random_plan(rng, 2, SHAPE, warp=kind == "warp")
    spec = spec_of(plan)
    pipeline = open_reference(spec) if name == "reference" else open_fast(name, spec)
    slot = pipeline.allocate(2 * int(np.prod(SHAPE))).reshape(2, 1, *SHAPE)
    contents = [random_slot(rng, 2, 1, SHAPE) for _ in range(6)]
    batches = []
    for content in contents:
        slot[:] = content
        batches.append(pipeline.execute(slot, plan))
        slot[:] = -32768  # whatever still reads the slot would see this
    pipeline.close()
    fresh = open_reference(spec)
    for content, batch in zip(contents, batches, strict=True):
        assert not disagreement(fresh.execute(content, plan), batch, plan)


# ---- mutants: each must make the agreement fail


def half_voxel_shift(plan: BatchPlan) -> BatchPlan:
    """Read the warp as if it mapped indices instead of voxel centres."""
    assert plan.warp is not None
    warp = plan.warp.copy()
    warp[:, :, 3] += 0.5 - warp[:, :, :3] @ np.full(3, 0.5)
    return replace(plan, warp=warp)


def swapped_axes(plan: BatchPlan) -> BatchPlan:
    """Give the warp in (x, y, z)."""
    assert plan.warp is not None
    return replace(plan, warp=plan.warp[:, ::-1][:, :, [2, 1, 0, 3]])


def inverse_warp(plan: BatchPlan) -> BatchPlan:
    """Map input to output."""
    assert plan.warp is not None
    square = np.concatenate([plan.warp, np.tile([[[0.0, 0, 0, 1]]], (plan.batch_size, 1, 1))], axis=1)
    return replace(plan, warp=np.linalg.inv(square)[:, :3])


def swapped_flip(plan: BatchPlan) -> BatchPlan:
    """Give the flips in (x, y, z)."""
    return replace(plan, flip=plan.flip[:, ::-1])


def blur_in_other_order(plan: BatchPlan) -> BatchPlan:
    """Give sigma in (x, y, z)."""
    assert plan.blur_sigma is not None
    return replace(plan, blur_sigma=plan.blur_sigma[:, ::-1])


def unzoomed(plan: BatchPlan) -> BatchPlan:
    """Take the box's first corner for the region's."""
    assert plan.zoom is not None
    zoom = plan.zoom.copy()
    zoom[:, :, 1] = 0
    return replace(plan, zoom=zoom)


def zoom_of_indices(plan: BatchPlan) -> BatchPlan:
    """Read the zoom as if it mapped indices instead of voxel centres."""
    assert plan.zoom is not None
    zoom = plan.zoom.copy()
    zoom[:, :, 1] += 0.5 - 0.5 * zoom[:, :, 0]
    return replace(plan, zoom=zoom)


def uncoarsened(plan: BatchPlan) -> BatchPlan:
    """Forget one axis of the coarse grid."""
    assert plan.coarse_shape is not None
    coarse = plan.coarse_shape.copy()
    coarse[:, 2] = plan.crop_shape[2]
    return replace(plan, coarse_shape=coarse)


def shifted_noise_key(plan: BatchPlan) -> BatchPlan:
    """Give each study the noise of the next."""
    return replace(plan, noise_key=np.roll(plan.noise_key, 1))


PLAN_MUTANTS = [
    half_voxel_shift,
    swapped_axes,
    inverse_warp,
    swapped_flip,
    blur_in_other_order,
    unzoomed,
    zoom_of_indices,
    uncoarsened,
    shifted_noise_key,
]


def mutant_plan() -> BatchPlan:
    """A plan in which every number matters: shape with three sizes, one flip along z, all three sigmas different."""
    plan = random_plan(np.random.default_rng(8), 2, SHAPE, warp=True, blur=True, zoom=True)
    return replace(
        plan,
        flip=np.array([[True, False, False]] * 2),
        blur_sigma=np.array([[0.5, 0.9, 1.4]] * 2, np.float32),
        coarse_shape=np.array([[12, 13, 15]] * 2),
        noise_sigma=np.full(2, 0.05, np.float32),
        window=np.array([[[-160, 240]]] * 2, np.float32),
        contrast=np.full(2, 1.2, np.float32),
        gamma=np.full(2, 1.3, np.float32),
    )


def mutant_boxes() -> list[np.ndarray]:
    return random_boxes(np.random.default_rng(9), mutant_plan(), 1)


@pytest.fixture(params=FAST)
def fast_batch(request: pytest.FixtureRequest) -> Iterator[Callable[[BatchPlan], np.ndarray]]:
    pipeline = open_fast(request.param, spec_of(mutant_plan()))
    slot = mutant_boxes()
    yield lambda plan: pipeline.execute(slot, plan)
    pipeline.close()


def reference_batch() -> np.ndarray:
    plan = mutant_plan()
    return open_reference(spec_of(plan)).execute(mutant_boxes(), plan)


@pytest.mark.parametrize("mutate", PLAN_MUTANTS)
def test_reading_a_number_wrongly_is_noticed(
    mutate: Callable[[BatchPlan], BatchPlan], fast_batch: Callable[[BatchPlan], np.ndarray]
) -> None:
    plan = mutant_plan()
    expected = reference_batch()
    assert not disagreement(expected, fast_batch(plan), plan)
    assert disagreement(expected, fast_batch(mutate(plan)), plan)


def warped(volume: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    return warp_volume(volume, zoomed_warp(plan, study, volume.shape), FILL, plan.crop_shape)


def in_order(volume: np.ndarray, plan: BatchPlan, study: int, *steps: str) -> np.ndarray:
    assert plan.blur_sigma is not None
    assert plan.coarse_shape is not None
    for step in steps:
        if step == "flip":
            volume = flip_volume(volume, plan.flip[study])
        elif step == "warp":
            volume = warped(volume, plan, study)
        elif step == "blur":
            volume = blur_volume(volume, plan.blur_sigma[study])
        else:
            volume = coarsen_reference(volume, plan.coarse_shape[study])
    return volume


def warp_before_flip(volume: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    return in_order(volume, plan, study, "warp", "flip", "blur", "coarsen")


def blur_before_warp(volume: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    return in_order(volume, plan, study, "flip", "blur", "warp", "coarsen")


def coarsen_before_blur(volume: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    return in_order(volume, plan, study, "flip", "warp", "coarsen", "blur")


def fill_with_zero(volume: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    return reference.geometry(volume, plan, study, 0)


def window_before_warp(volume: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    low, high = plan.window[study, 0]
    return reference.geometry(np.clip(volume, low, high), plan, study, FILL)


@pytest.mark.parametrize(
    "mutant", [warp_before_flip, blur_before_warp, coarsen_before_blur, fill_with_zero, window_before_warp]
)
def test_another_order_of_the_geometry_is_noticed(
    mutant: Callable[..., np.ndarray],
    fast_batch: Callable[[BatchPlan], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = mutant_plan()
    actual = fast_batch(plan)
    assert not disagreement(reference_batch(), actual, plan)
    slot = mutant_boxes()
    mutated = [mutant(slot[study][0], plan, study) for study in range(2)]
    monkeypatch.setattr(reference, "geometry", lambda volume, plan, study, fill_value: mutated[study])
    assert disagreement(reference_batch(), actual, plan)


def test_a_zoom_onto_the_box_itself_changes_nothing() -> None:
    """Scale 1 behind a margin of one voxel is the crop without a zoom, to the bit."""
    rng = np.random.default_rng(11)
    plan = random_plan(rng, 2, SHAPE, photometric=False)
    boxes = random_boxes(rng, replace(plan, box_shape=np.array([SHAPE] * 2) + 2), 1)
    zoom = np.tile([1.0, 1.0], (2, 3, 1))
    zoomed = replace(plan, box_shape=np.array([SHAPE] * 2) + 2, zoom=zoom)
    inner = [box[:, 1:-1, 1:-1, 1:-1] for box in boxes]
    for name in FAST:
        expected, _ = execute_both(inner, plan, name)
        np.testing.assert_allclose(execute_both(boxes, zoomed, name)[1], expected, rtol=0, atol=EXACT)


def test_the_zoomed_ramp_is_a_ramp() -> None:
    """HU that rise linearly stay linear under zoom, at the places the numbers say, rim included."""
    ramp = (40 * np.arange(30) - 500).astype(np.int16)
    box = np.broadcast_to(ramp, (1, 8, 9, 30)).copy()
    shape = (6, 7, 20)
    zoom = np.array([[[1.0, 1.0], [1.0, 1.0], [1.25, 2.5]]])
    plan = replace(plain_plan(1, shape), box_shape=np.array([[8, 9, 30]]), zoom=zoom)
    where = 1.25 * (np.arange(20) + 0.5) + 2.5 - 0.5
    for pipeline in (open_reference(spec_of(plan)), *(open_fast(name, spec_of(plan)) for name in FAST)):
        got = pipeline.execute([box], plan)[0, 0] * 2000 - 1000
        np.testing.assert_allclose(got, np.broadcast_to(40 * where - 500, shape), rtol=0, atol=0.05)


def test_coarsening_averages_thick_slices_and_keeps_the_mean() -> None:
    """A stripe of two slices, seen through slices twice as thick, is one of half the height and twice the width."""
    volume = np.zeros((1, 1, 16, 4, 4), np.int16)
    volume[:, :, 8:10] = 400
    plan = replace(plain_plan(1, (16, 4, 4)), coarse_shape=np.array([[8, 4, 4]]))
    plan = replace(plan, window=np.array([[[-1000, 1000]]], np.float32))
    for pipeline in (open_reference(spec_of(plan)), *(open_fast(name, spec_of(plan)) for name in FAST)):
        got = pipeline.execute(list(volume), plan)[0, 0, :, 0, 0] * 2000 - 1000
        assert 150 < got.max() < 330
        np.testing.assert_allclose(got.sum(), 800, rtol=0.05)
        assert (got[:5] < 1).all()
        assert (got[13:] < 1).all()


@pytest.mark.parametrize("name", FAST)
def test_mutants_without_the_operators_are_noticed(name: str) -> None:
    rng = np.random.default_rng(10)
    plan = random_plan(rng, 2, SHAPE, photometric=False)
    plan = replace(plan, flip=np.array([[True, False, False], [False, True, False]]))
    slot = random_slot(rng, 2, 1, SHAPE)
    expected = open_reference(spec_of(plan)).execute(slot, plan)
    unflipped = replace(plan, flip=np.zeros_like(plan.flip))
    without_flip = open_fast(name, replace(spec_of(plan), has_flip=False)).execute(slot, unflipped)
    assert disagreement(expected, without_flip, plan)
