"""Checks of a loader's options at its door, and what follows from them. Each refusal names the way out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctload.errors import LoaderError, PlanError, SamplerError
from ctload.pipeline.opening import device_id_of
from ctload.planning.augment import Augment
from ctload.planning.crop import Crop
from ctload.planning.window import HuWindow
from ctload.sampling.bound import BoundSampler
from ctload.sampling.elastic import BoundResumed, ListSampler, num_batches_of
from ctload.storage.manifest import Studies


def check_options(
    *,
    prefetch: int,
    num_views: int,
    on_corrupt: str,
    num_threads: int | None,
    channels: Sequence[str],
    labels: Sequence[str],
    windows: Sequence[HuWindow],
) -> None:
    """Refuse values out of range.

    Raises:
        LoaderError: One is.
    """
    if not windows:
        raise LoaderError("window needs at least one HuWindow; the usual one for a body CT is HuWindow(-1000, 1000)")
    if prefetch < 1:
        raise LoaderError(f"prefetch needs at least 1 batch, got {prefetch}; 2 hides uneven reads")
    if num_views < 1:
        raise LoaderError(
            f"num_views needs at least 1 view of each study, got {num_views}; a contrast of views takes 2"
        )
    if on_corrupt not in ("raise", "replace"):
        raise LoaderError(f"on_corrupt is 'raise' or 'replace', got {on_corrupt!r}")
    if num_threads is not None and num_threads < 1:
        raise LoaderError(
            f"num_threads must be at least 1, or None for this process's share of the cores, got {num_threads}"
        )
    if isinstance(channels, str) or not channels:
        raise LoaderError(f"channels is a sequence of array names such as ('0', '1'), got {channels!r}")
    if isinstance(labels, str) or len(set(labels)) != len(labels):
        raise LoaderError(f"labels is a sequence of different names of label maps such as ('liver',), got {labels!r}")


def check_arrays(studies: Studies, channels: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse studies without one of the channels or label maps.

    Raises:
        PlanError: A study lacks one.
    """
    for column, kind, wanted in (("channels", "channel", channels), ("labels", "label map", labels)):
        if not wanted:
            continue
        stored = studies.table[column].combine_chunks()
        names, rows = stored.flatten(), pc.call_function("list_parent_indices", [stored]).to_numpy()
        for name in wanted:
            lacks = np.ones(len(studies), bool)
            lacks[rows[pc.call_function("equal", [names, pa.scalar(name)]).to_numpy(zero_copy_only=False)]] = False
            if lacks.any():
                row = int(lacks.argmax())
                raise PlanError(
                    f"has no {kind} {name!r}, only {stored[row].as_py()}, as in {int(lacks.sum())} of {len(studies)} "
                    "studies; select studies that have it",
                    study=studies.table["study"][row].as_py(),
                )


def check_ranks(bound: BoundSampler, rank: int, world_size: int, epoch: int = 0) -> None:
    """Refuse ranks that could not share every batch, the short last one included.

    Raises:
        SamplerError: rank out of range, or world_size does not divide a batch.
    """
    sizes = [bound.batch_size]
    if isinstance(
        bound, ListSampler | BoundResumed
    ):  # the others have no short batch, and drawing one may take seconds
        sizes.append(len(bound.draw(epoch, num_batches_of(bound, epoch) - 1).rows))
    for size in sizes:
        if not 0 <= rank < world_size or size % world_size:
            raise SamplerError(
                f"rank={rank} of world_size={world_size} cannot share a batch of {size} studies; rank counts from 0, "
                "and world_size divides every batch: take another batch_size, or drop_last=True where the last "
                "batch is short"
            )


def needs_of(studies: Studies, augment: Augment, crop: Crop) -> dict[str, Any]:
    """What the pipeline of these studies needs: the fields fill_value and has_... of PipelineSpec.

    Raises:
        PlanError: A warp, and studies with different fill values.
    """
    fills = np.unique(studies.column("fill_value"))
    if (augment.is_warping or crop.is_resizing) and len(fills) > 1:
        raise PlanError(
            f"a warp fills with one value, but these studies have the fill values {fills.tolist()}; select studies of "
            "one kind with Studies.where(fill_value=...), or augment without rotation, scale and translation"
        )
    return {
        "fill_value": float(fills[0]),
        "has_flip": any(probability > 0 for probability in augment.flip),
        "has_warp": augment.is_warping,
        "has_zoom": crop.is_resizing,
        "has_blur": augment.is_blurring,
        "has_coarse": augment.is_coarsening,
    }


def converter(to: str, device: str) -> Callable[[Any], Any]:
    """What turns a pipeline's array into what the caller asked for, without a copy.

    Raises:
        LoaderError: No such device, not possible on it, or torch is not installed.
    """
    kinds = ("numpy" if device_id_of(device) is None else "cupy", "torch", "dlpack")
    if to not in kinds:
        raise LoaderError(f"to={to!r} is not possible on device={device!r}; there it is one of {kinds}")
    if to != "torch":
        return lambda array: array
    try:
        from ctload.adapters.torch import to_torch
    except ImportError as error:
        raise LoaderError(f"to='torch' needs torch, which cannot be imported ({error}); pip install torch") from error
    return to_torch
