"""draw_plan: pure, the same on any number of ranks, and readable."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import PlanError, SamplerError
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop, RandomCrop, WholeVolume
from ctload.planning.drawing import describe, draw_plan
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.sampling.units import AlternatingUnits
from tests.ctload.studies import make_studies

WINDOWS = (HuWindow(-1000, 1000), HuWindow(-160, 240))
AUGMENT = Augment(flip=(0, 0.5, 0), rotate_deg=(10, 0, 0), noise_sigma=(0, 0.1), window_jitter_hu=10, blur_sigma=(0, 1))
UNITS = AlternatingUnits(("liver", "spleen"))


def studies_with_units(num: int = 48):
    columns = {f"abnormal:{unit}": [0, 1] * (num // 2) for unit in ("report", "liver", "spleen")}
    shapes = [(30 + row % 5, 40 + row % 7, 44) for row in range(num)]
    return make_studies(num, shapes=shapes, columns=columns)


def make_plan(epoch: int, step: int, *, augment: Augment | None = AUGMENT, seed: int = 0) -> BatchPlan:
    studies = studies_with_units()
    bound = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 3}, 8, seed, UNITS).bind(studies)
    return draw_plan(bound, studies, RandomCrop((16, 24, 24)), WINDOWS, augment, epoch=epoch, step=step)


def assert_plans_equal(first: BatchPlan, second: BatchPlan) -> None:
    for field in fields(BatchPlan):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(0, 5), st.integers(0, 2**40))
def test_a_plan_is_a_function_of_seed_epoch_and_step(epoch: int, step: int, seed: int) -> None:
    assert_plans_equal(make_plan(epoch, step, seed=seed), make_plan(epoch, step, seed=seed))


def test_other_coordinates_draw_other_plans() -> None:
    plans = [make_plan(0, 0), make_plan(0, 1), make_plan(1, 0), make_plan(0, 0, seed=1)]
    for name in ("rows", "box_start", "warp", "noise_key", "noise_sigma"):
        assert len({getattr(plan, name).tobytes() for plan in plans}) == 4, name


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 50), st.integers(0, 5))
def test_rank_slices_are_disjoint_and_make_up_the_plan(world_size: int, epoch: int, step: int) -> None:
    plan = make_plan(epoch, step)
    slices = [plan.rank_slice(rank, world_size) for rank in range(world_size)]
    assert all(part.batch_size == 8 // world_size for part in slices)
    for field in fields(BatchPlan):
        value = getattr(plan, field.name)
        if isinstance(value, np.ndarray):
            parts = np.concatenate([getattr(part, field.name) for part in slices])
            np.testing.assert_array_equal(parts, value)
    assert len({int(row) for part in slices for row in part.rows}) == 8


def test_a_world_size_that_does_not_divide_the_batch_is_refused() -> None:
    with pytest.raises(SamplerError, match="world_size=3 does not divide batch_size=8"):
        make_plan(0, 0).rank_slice(0, 3)


def test_shapes_and_types_are_those_of_batch_plan() -> None:
    plan = make_plan(0, 1)
    assert plan.unit in ("liver", "spleen")
    assert plan.crop_shape == (16, 24, 24)
    wanted = {
        "rows": ((8,), np.int64), "box_start": ((8, 3), np.int64), "flip": ((8, 3), np.bool_),
        "warp": ((8, 3, 4), np.float64), "blur_sigma": ((8, 3), np.float32), "window": ((8, 2, 2), np.float32),
        "brightness": ((8,), np.float32), "contrast": ((8,), np.float32), "gamma": ((8,), np.float32),
        "noise_sigma": ((8,), np.float32), "noise_key": ((8,), np.uint64),
    }  # fmt: skip
    for name, (shape, dtype) in wanted.items():
        value = getattr(plan, name)
        assert (value.shape, value.dtype) == (shape, dtype), name
    assert len(set(plan.noise_key.tolist())) == 8


def test_without_augmentation_nothing_changes_and_rows_and_crops_stay() -> None:
    plain, changed = make_plan(2, 3, augment=None), make_plan(2, 3)
    assert plain.warp is None
    assert plain.blur_sigma is None
    assert not plain.flip.any()
    np.testing.assert_array_equal(plain.window, np.broadcast_to([(-1000, 1000), (-160, 240)], (8, 2, 2)))
    for name in ("rows", "box_start", "noise_key"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(changed, name))


def test_window_jitter_moves_all_windows_of_a_study_alike_and_never_turns_one_over() -> None:
    plan = make_plan(0, 0)
    moved = plan.window - np.array([(-1000, 1000), (-160, 240)], np.float32)
    np.testing.assert_allclose(moved[:, 0], moved[:, 1], atol=1e-4)
    assert 0 < np.abs(moved).max() <= 10
    studies = studies_with_units()
    bound = ShuffleSampler(48, 0).bind(studies)
    wild = Augment(window_jitter_hu=500)
    plan = draw_plan(bound, studies, RandomCrop((8, 8, 8)), (HuWindow(0, 50),), wild, epoch=0, step=0)
    widths = plan.window[:, 0, 1] - plan.window[:, 0, 0]
    assert widths.min() >= 4.99
    assert (widths < 5.01).any()


def test_whole_volumes_take_their_shape_from_the_studies() -> None:
    studies = make_studies(4, shape=(5, 6, 7))
    bound = SequentialSampler(4).bind(studies)
    plan = draw_plan(bound, studies, WholeVolume(), WINDOWS, epoch=0, step=0)
    assert plan.crop_shape == (5, 6, 7)
    assert not plan.box_start.any()
    mixed = make_studies(4, shapes=[(5, 6, 7)] * 3 + [(5, 6, 8)])
    with pytest.raises(PlanError, match="all must be equal") as caught:
        draw_plan(SequentialSampler(4).bind(mixed), mixed, WholeVolume(), WINDOWS, epoch=0, step=0)
    assert caught.value.study == "s000003"


def test_no_window_is_refused() -> None:
    studies = make_studies(4)
    with pytest.raises(PlanError, match="at least one HuWindow"):
        draw_plan(SequentialSampler(2).bind(studies), studies, CenterCrop((4, 4, 4)), (), epoch=0, step=0)


def test_the_description_names_every_study_and_every_change() -> None:
    studies = studies_with_units()
    plan = make_plan(0, 1)
    lines = describe(plan, studies).splitlines()
    assert lines[0] == f"epoch 0 step 1, unit {plan.unit}, 8 studies, crop 16x24x24 (D, H, W)"
    assert len(lines) == 9
    for place, line in enumerate(lines[1:]):
        z, y, x = plan.box_start[place]
        assert line.startswith(f"  {studies.ids[plan.rows[place]]}  z {z}:{z + 16} y {y}:{y + 24} x {x}:{x + 24}  HU ")
        assert ("flip y" in line) == plan.flip[place, 1]
        assert plan.warp is not None
        angle = np.rad2deg(np.arccos(plan.warp[place, 1, 1]))
        assert (f"turn {angle:.1f} deg" in line) == (angle > 0.05)
        assert f"noise {plan.noise_sigma[place]:.3f}" in line
        assert "scale" not in line
        assert "shift" not in line


def test_the_description_recovers_scale_and_shift_of_a_warp() -> None:
    studies = make_studies(8)
    bound = SequentialSampler(8).bind(studies)
    augment = Augment(scale=(1.25, 1.25), translate_voxels=(3, 3, 3), rotate_deg=(5, 5, 5))
    plan = draw_plan(bound, studies, RandomCrop((16, 24, 24)), WINDOWS, augment, epoch=0, step=0)
    for line in describe(plan, studies).splitlines()[1:]:
        assert "scale 1.25" in line
        shift = [float(part) for part in line.split("shift ")[1].split()]
        assert max(abs(part) for part in shift) <= 3
