"""Augmentations: what is drawn, that kinds do not disturb each other, and the geometry of the warp."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from ctload.errors import PlanError
from ctload.planning.augment import Augment, Changes, warp_matrices
from ctload.planning.drawing import generator

EVERYTHING = Augment(
    flip=(0.5, 0.5, 0.5), rotate_deg=(10, 5, 5), scale=(0.8, 1.25), translate_voxels=(2, 4, 4),
    blur_sigma=(0.1, 1.0), brightness=0.1, contrast=(0.8, 1.2), gamma=(0.7, 1.5), noise_sigma=(0, 0.02),
    window_jitter_hu=20,
)  # fmt: skip
FIELDS = ("flip", "blur_sigma", "brightness", "contrast", "gamma", "noise_sigma", "window_shift_hu")


def draw(augment: Augment, num: int = 64, *, step: int = 0, shape=(8, 12, 10), spacing=(3.0, 1.5, 1.0)) -> Changes:
    spacings = np.broadcast_to(np.array(spacing), (num, 3))
    return augment.draw(num, shape, spacings, lambda kind: generator(7, 2, step, kind))


def warped(volume: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The plan's half-voxel warp through SciPy, whose coordinates are voxel indices."""
    linear, offset = matrix[:, :3], matrix[:, 3]
    return affine_transform(
        volume, linear, offset=offset + linear @ np.full(3, 0.5) - 0.5, order=1, mode="grid-constant"
    )


def one_warp(shape, *, angles=(0, 0, 0), scale=1.0, shift=(0, 0, 0), spacing=(1, 1, 1)) -> np.ndarray:
    return warp_matrices(shape, np.array([spacing]), np.array([angles]), np.array([scale]), np.array([shift]))[0]


def test_no_augmentation_draws_neutral_values() -> None:
    changes = draw(Augment())
    assert changes.warp is None
    assert changes.blur_sigma is None
    for name, neutral in [("flip", False), ("brightness", 0), ("contrast", 1), ("gamma", 1), ("noise_sigma", 0)]:
        assert (getattr(changes, name) == neutral).all()
    assert (changes.window_shift_hu == 0).all()


def test_values_lie_in_their_ranges_and_fill_them() -> None:
    changes = draw(EVERYTHING, 4000)
    ranges = {"brightness": (-0.1, 0.1), "contrast": (0.8, 1.2), "gamma": (0.7, 1.5), "noise_sigma": (0, 0.02)}
    for name, (low, high) in ranges.items():
        values = getattr(changes, name)
        assert values.dtype == np.float32
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
    assert changes.blur_sigma is not None
    assert (changes.blur_sigma == changes.blur_sigma[:, :1]).all()
    assert np.abs(changes.window_shift_hu).max() <= 20
    assert abs(np.median(changes.gamma) - np.sqrt(0.7 * 1.5)) < 0.02
    assert np.abs(changes.flip.mean(axis=0) - 0.5).max() < 0.05


@given(st.sampled_from(FIELDS), st.floats(0.05, 0.95))
def test_a_probability_is_the_share_of_changed_studies(name: str, probability: float) -> None:
    names = {"flip": "flip", "window_shift_hu": "window_jitter_probability", "blur_sigma": "blur_probability"}
    field = names.get(name, f"{name.removesuffix('_sigma')}_probability")
    value = (probability,) * 3 if name == "flip" else probability
    drawn = getattr(draw(replace(EVERYTHING, **{field: value}), 3000), name)
    changed = drawn != (1 if name in ("contrast", "gamma") else 0)
    share = changed.mean() if name == "flip" else changed.reshape(3000, -1).any(axis=1).mean()
    assert abs(share - probability) < 6 * np.sqrt(0.25 / 3000)


@pytest.mark.parametrize(
    ("field", "value", "touched"),
    [
        ("flip", (0, 0, 0), {"flip"}),
        ("rotate_deg", (0, 0, 0), {"warp"}),
        ("scale_probability", 0.5, {"warp"}),
        ("translate_voxels", (9, 9, 9), {"warp"}),
        ("blur_sigma", (0, 0), {"blur_sigma"}),
        ("brightness", 0.0, {"brightness"}),
        ("contrast_probability", 0.3, {"contrast"}),
        ("gamma", (1, 1), {"gamma"}),
        ("noise_sigma", (0, 0.5), {"noise_sigma"}),
        ("window_jitter_hu", 0.0, {"window_shift_hu"}),
    ],
)
def test_changing_one_kind_leaves_the_draws_of_the_others(field: str, value, touched: set[str]) -> None:
    before, after = draw(EVERYTHING), draw(replace(EVERYTHING, **{field: value}))
    different = {name for name in (*FIELDS, "warp") if not np.array_equal(getattr(before, name), getattr(after, name))}
    assert different == touched


def test_kinds_are_drawn_independently() -> None:
    num = 4000
    changes = draw(EVERYTHING, num)
    assert changes.warp is not None
    assert changes.blur_sigma is not None
    columns = [changes.brightness, changes.contrast, changes.gamma, changes.noise_sigma, changes.blur_sigma[:, 0]]
    columns += [changes.window_shift_hu[:, end] for end in range(2)] + [changes.flip[:, axis] for axis in range(3)]
    linear, center = changes.warp[:, :, :3], np.array([8, 12, 10]) / 2
    shift = np.linalg.solve(linear, (center - changes.warp[:, :, 3])[:, :, None])[:, 0, 0] - center[0]
    columns += [np.linalg.det(linear), linear[:, 1, 2], shift]
    between = np.corrcoef(np.stack(columns).astype(np.float64))
    assert np.abs(between[~np.eye(len(columns), dtype=bool)]).max() < 6 / np.sqrt(num)


def test_studies_keep_their_draws_when_the_batch_grows() -> None:
    small, large = draw(EVERYTHING, 4), draw(EVERYTHING, 9)
    for name in (*FIELDS, "warp"):
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name)[:4])


def test_steps_draw_differently() -> None:
    first, second = draw(EVERYTHING, step=0), draw(EVERYTHING, step=1)
    assert not any(np.array_equal(getattr(first, name), getattr(second, name)) for name in (*FIELDS, "warp"))


def test_no_angle_no_scale_no_shift_is_exactly_the_identity() -> None:
    matrices = warp_matrices((7, 8, 9), np.array([[3.1, 0.7, 1.3]]), np.zeros((1, 3)), np.ones(1), np.zeros((1, 3)))
    assert np.array_equal(matrices[0], np.eye(3, 4))
    never = replace(EVERYTHING, rotate_probability=0.0, scale_probability=0.0, translate_probability=1e-12)
    assert np.array_equal(draw(never).warp, np.broadcast_to(np.eye(3, 4), (64, 3, 4)))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_are_index_permutations(axis: int, quarter: int) -> None:
    shape = (6, 6, 6)
    volume = np.random.default_rng(0).random(shape)
    angles = [0.0, 0.0, 0.0]
    angles[axis] = 90.0 * quarter
    low, high = (other for other in range(3) if other != axis)
    turned = warped(volume, one_warp(shape, angles=angles))
    np.testing.assert_allclose(turned, np.rot90(volume, quarter, axes=(low, high)), atol=1e-10)


def test_a_turn_is_rigid_in_mm_where_voxels_are_not_cubes() -> None:
    # A bar of 12 mm along y (1 mm voxels) becomes a bar of 12 mm along z (3 mm voxels): 4 voxels.
    shape = (12, 36, 1)
    volume = np.zeros(shape)
    volume[5:7, 12:24, 0] = 1.0  # 6 mm by 12 mm
    turned = warped(volume, one_warp(shape, angles=(0, 0, 90), spacing=(3.0, 1.0, 1.0)))
    wanted = np.zeros(shape)
    wanted[4:8, 15:21, 0] = 1.0  # 12 mm by 6 mm; the edges along y are soft, since 3 mm voxels were interpolated
    np.testing.assert_array_equal(turned > 0.5, wanted > 0.5)
    np.testing.assert_allclose(turned.sum(), 24, atol=1e-9)


@settings(deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.floats(0.5, 2),
    st.tuples(*[st.floats(0.5, 4)] * 3),
    st.tuples(*[st.integers(1, 50)] * 3),
)
def test_warps_keep_angles_and_lengths_in_mm(angles: tuple, scale: float, spacing: tuple, shape: tuple) -> None:
    matrix = one_warp(shape, angles=angles, scale=scale, spacing=spacing)
    in_mm = np.diag(spacing) @ matrix[:, :3] @ np.diag(1 / np.array(spacing))
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3) / scale**2, atol=1e-9)
    assert np.linalg.det(in_mm) > 0
    center = np.array(shape) / 2
    np.testing.assert_allclose(matrix[:, :3] @ center + matrix[:, 3], center, atol=1e-9)


def test_a_shift_moves_content_towards_higher_indices() -> None:
    volume = np.random.default_rng(1).random((5, 6, 7))
    moved = warped(volume, one_warp(volume.shape, shift=(1, 0, 2)))
    np.testing.assert_allclose(moved[1:, :, 2:], volume[:-1, :, :-2], atol=1e-12)
    assert (moved[0] == 0).all()
    assert (moved[:, :, :2] == 0).all()


def test_a_magnification_shows_the_middle_larger() -> None:
    volume = np.zeros((1, 16, 16))
    volume[0, 6:10, 6:10] = 1.0
    larger = warped(volume, one_warp(volume.shape, scale=2.0))
    assert (larger[0, 5:11, 5:11] == 1).all()
    assert 50 < larger.sum() < 78  # 64 voxels with a soft edge


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flip": (0, 1.5, 0)}, r"probabilities in \[0, 1\], got flip"),
        ({"flip": (0.5, 0.5)}, "one flip probability per axis"),
        ({"blur_probability": -0.1}, r"probabilities in \[0, 1\], got blur_probability"),
        ({"rotate_deg": (10, 10)}, "rotate_deg as three largest values"),
        ({"translate_voxels": (1, -1, 1)}, "translate_voxels as three largest values"),
        ({"scale": (0.0, 1.0)}, r"scale as a range .* 0.0 < low"),
        ({"gamma": (1.5, 0.7)}, "gamma as a range"),
        ({"contrast": (1.0, float("nan"))}, "contrast as a range"),
        ({"noise_sigma": (-0.1, 0.1)}, r"noise_sigma as a range .* 0.0 <= low"),
        ({"brightness": -0.1}, "brightness >= 0"),
        ({"window_jitter_hu": float("inf")}, "window_jitter_hu >= 0"),
    ],
)
def test_senseless_ranges_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Augment(**fields)
