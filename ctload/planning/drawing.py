"""Drawing: a bound sampler, a crop, windows and an augmentation enter; the BatchPlan of one step leaves.

draw_plan is pure: the same arguments give the same plan, in any order of calls, on any number of ranks. It reads
shapes and spacings of the drawn studies and no voxel.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ctload.errors import PlanError
from ctload.geometry import Triple
from ctload.planning.augment import Augment, Changes
from ctload.planning.crop import Boxes, Crop
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.sampling.bound import BoundSampler, Draw
from ctload.sampling.draw import derive_key, derive_keys
from ctload.storage.manifest import Studies

_UNCHANGED = Augment()


def generator(seed: int, epoch: int, step: int, kind: str) -> np.random.Generator:
    """The generator of one kind of decision ("crop", "flip", ...) of one batch.

    Philox keyed by splitmix64 of the coordinates. Only `Generator.random` is used on it: that stream is the raw
    bits of Philox4x64-10 (Salmon et al., SC 2011) and does not change between NumPy versions.
    """
    key = derive_key(seed, "draw", kind, epoch, step)
    return np.random.Generator(np.random.Philox(key=int(key)))


def _crop_shape(crop: Crop, studies: Studies, rows: np.ndarray, shapes: np.ndarray) -> Triple:
    if crop.shape is not None:
        return crop.shape
    different = np.flatnonzero((shapes != shapes[0]).any(axis=1))
    if len(different):
        first = int(different[0])
        raise PlanError(
            f"this volume is {tuple(shapes[first].tolist())} (D, H, W) and another of its batch "
            f"{tuple(shapes[0].tolist())}; without a crop all must be equal, use CenterCrop or RandomCrop",
            study=studies.table["study"][int(rows[first])].as_py(),
        )
    return (int(shapes[0, 0]), int(shapes[0, 1]), int(shapes[0, 2]))


def draw_plan(
    bound: BoundSampler,
    studies: Studies,
    crop: Crop,
    windows: Sequence[HuWindow],
    augment: Augment | None = None,
    *,
    epoch: int,
    step: int,
    num_views: int = 1,
) -> BatchPlan:
    """Draw every random decision of one global batch.

    Args:
        bound: A sampler bound to `studies`.
        studies: What the rows of the plan count.
        crop: Policy of the boxes; `crop.check(studies)` was called once before.
        windows: One per output channel and stored channel.
        augment: None for none.
        epoch: Counts from 0.
        step: Batch within the epoch, 0..bound.num_batches-1.
        num_views: Views of each study, every one with a crop and changes of its own. View 0 is what is drawn with
            one view.

    Raises:
        SamplerError: A step out of range.
        PlanError: No window, or volumes of different shapes without a crop.
    """
    if not windows:
        raise PlanError("a plan needs at least one HuWindow; the usual one for a body CT is HuWindow(-1000, 1000)")
    draw = bound.draw(epoch, step)
    shapes = studies.shapes[draw.rows]
    crop_shape = _crop_shape(crop, studies, draw.rows, shapes)

    def of_view(kind: str, view: int) -> np.random.Generator:
        return generator(bound.seed, epoch, step, kind if view == 0 else f"{kind} of view {view}")

    boxes = crop.draw(studies, draw.rows, lambda view: of_view("crop", view), num_views)
    spacings_mm = studies.spacings_mm[draw.rows]
    plans = []
    for view in range(num_views):
        changes = (augment or _UNCHANGED).draw(
            len(draw.rows), crop_shape, spacings_mm, lambda kind, view=view: of_view(kind, view)
        )
        noise_key = np.empty(len(draw.rows), np.uint64)
        derive_keys(noise_key, derive_key(bound.seed, "noise", epoch, step, *([view] if view else [])))
        plans.append(_view_plan(draw, (epoch, step), crop_shape, boxes[view], changes, windows, noise_key))
    return replace(plans[0], other_views=tuple(plans[1:]))


def _view_plan(
    draw: Draw,
    at: tuple[int, int],
    crop_shape: Triple,
    boxes: Boxes,
    changes: Changes,
    windows: Sequence[HuWindow],
    noise_key: np.ndarray,
) -> BatchPlan:
    """The plan of one view, `at` (epoch, step)."""
    return BatchPlan(
        epoch=at[0],
        step=at[1],
        unit=draw.unit,
        rows=draw.rows,
        box_start=boxes.start,
        crop_shape=crop_shape,
        box_shape=boxes.shape,
        zoom=boxes.zoom,
        coarse_shape=changes.coarse_shape,
        flip=changes.flip,
        warp=changes.warp,
        blur_sigma=changes.blur_sigma,
        window=_windows(windows, changes),
        brightness=changes.brightness,
        contrast=changes.contrast,
        gamma=changes.gamma,
        noise_sigma=changes.noise_sigma,
        noise_key=noise_key,
    )


def _windows(windows: Sequence[HuWindow], changes: Changes) -> np.ndarray:
    """(B, W, 2) float32 HU: the windows, moved by each study's jitter of (low, high)."""
    ends = np.array([(window.low, window.high) for window in windows], np.float64)
    moved = ends[None, :, :] + changes.window_shift_hu[:, None, :]
    # Jitter wider than a narrow window must not turn it over: a tenth of its width is kept.
    width = (ends[:, 1] - ends[:, 0])[None, :]
    moved[:, :, 1] = np.maximum(moved[:, :, 1], moved[:, :, 0] + 0.1 * width)
    return moved.astype(np.float32)


def describe(plan: BatchPlan, studies: Studies) -> str:
    """A plan as text: a line for the batch, then one line per study with what differs from neutral.

    Example:
        epoch 0 step 3, unit liver, 2 studies, crop 32x64x64 (D, H, W)
          s000017  z 4:36 y 0:64 x 9:73  HU -1000..1000  flip y  turn 7.3 deg  scale 1.04
          s000004  z 0:32 y 2:66 x 0:64  HU -1000..1000  noise 0.013
    """
    unit = f", unit {plan.unit}" if plan.unit else ""
    shape = "x".join(str(size) for size in plan.crop_shape)
    ids = studies.table["study"].take(plan.rows.tolist()).to_pylist()
    lines = [f"epoch {plan.epoch} step {plan.step}{unit}, {plan.batch_size} studies, crop {shape} (D, H, W)"]
    for place, name in enumerate(ids):
        lines.append(f"  {name}  {_describe_study(plan, place)}")
        lines += [
            f"    view {number}  {_describe_study(view, place)}" for number, view in enumerate(plan.other_views, 1)
        ]
    return "\n".join(lines)


def _describe_study(plan: BatchPlan, place: int) -> str:
    starts = plan.box_start[place].tolist()
    box = " ".join(f"{a} {x}:{x + n}" for a, x, n in zip("zyx", starts, plan.box_shapes[place].tolist(), strict=True))
    windows = ", ".join(f"{low:.0f}..{high:.0f}" for low, high in plan.window[place])
    parts = [box, f"HU {windows}"]
    if plan.zoom is not None:
        parts.append(f"zoom {' '.join(f'{1 / scale:.2f}' for scale in plan.zoom[place, :, 0])}")
    flipped = "".join(axis for axis, flip in zip("zyx", plan.flip[place], strict=True) if flip)
    if flipped:
        parts.append(f"flip {flipped}")
    if plan.warp is not None:
        parts += _describe_warp(plan.warp[place], plan.crop_shape)
    if plan.blur_sigma is not None and plan.blur_sigma[place].any():
        parts.append(f"blur {plan.blur_sigma[place].max():.2f}")
    if plan.coarse_shape is not None and (plan.coarse_shape[place] != plan.crop_shape).any():
        parts.append(f"coarse {'x'.join(map(str, plan.coarse_shape[place]))}")
    neutral = {"brightness": 0.0, "contrast": 1.0, "gamma": 1.0, "noise_sigma": 0.0}
    for name, value in neutral.items():
        drawn = getattr(plan, name)[place]
        if drawn != value:
            parts.append(f"{name.removesuffix('_sigma')} {drawn:.3f}")
    return "  ".join(parts)


def _describe_warp(warp: np.ndarray, crop_shape: Triple) -> list[str]:
    """Angle, magnification and shift of one (3, 4) warp: A = S^-1 R^T S / s has det 1/s^3 and trace tr(R)/s."""
    linear, center = warp[:, :3], np.array(crop_shape) / 2
    scale = np.linalg.det(linear) ** (-1 / 3)
    angle = np.rad2deg(np.arccos(np.clip((np.trace(linear) * scale - 1) / 2, -1, 1)))
    shift = np.linalg.solve(linear, center - warp[:, 3]) - center
    parts = [f"turn {angle:.1f} deg"] if angle > 0.05 else []
    parts += [f"scale {scale:.2f}"] if abs(scale - 1) > 0.005 else []
    return parts + ([f"shift {' '.join(f'{part:.1f}' for part in shift)}"] if np.abs(shift).max() > 0.05 else [])
