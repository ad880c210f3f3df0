"""From an executed batch to what the caller of a loader gets. Knows nothing of threads, slots or counters."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ctload.loading.batch import Batch, View, batch_affine
from ctload.loading.prefetch import Executed


def assemble_batch(
    executed: Executed,
    *,
    ids: pa.ChunkedArray,
    affines: np.ndarray,
    convert: Callable[[Any], Any],
    labels: Sequence[str],
) -> Batch:
    """The batch of executed views.

    Args:
        executed: With volumes (B, C, D, H, W) and label maps (B, L, D, H, W) of each view.
        ids: Of all the loader's studies.
        affines: (N, 4, 4) of the stored volumes of all of them.
        convert: What turns a pipeline's array into the caller's kind.
        labels: Names of the L label maps.
    """
    plan = executed.read.plan
    of_rows = affines[plan.rows]
    views = []
    for number, (volume, view) in enumerate(zip(executed.volumes, plan.views, strict=True)):
        maps = convert(executed.labels[number]) if labels else None
        named = {name: maps[:, at] for at, name in enumerate(labels)} if maps is not None else {}
        views.append(View(convert(volume), batch_affine(of_rows, view), named))
    return Batch(
        volume=views[0].volume,
        study=tuple(ids.take(plan.rows).to_pylist()),
        rows=plan.rows,
        affine=views[0].affine,
        unit=plan.unit,
        plan=plan,
        num_replaced=executed.read.num_replaced,
        views=tuple(views),
        labels=views[0].labels,
    )
