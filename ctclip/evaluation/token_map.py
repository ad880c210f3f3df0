"""Where in a volume the image tower looks: projected tokens of studies, before they are averaged.

Enter a checkpoint and studies of a store; leaves one grid of tokens per study, with the box of stored voxels that it
covers. The mean of a study's tokens, normalised, is its embedding (`ctclip.embed`). Axis legend: d, h, w tokens;
E embedding size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ctclip.data import to_volume
from ctclip.embed import open_model, still_loader
from ctclip.training.precision import mixed_precision
from ctload.geometry import Box
from ctload.loading.reading import box_at
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class TokenMap:
    """The tokens of one study.

    Attributes:
        study: Its id.
        box: Voxels (z, y, x) of the stored volume that the model saw; may reach past it where it was padded.
        tokens: (d, h, w, E) float32, not normalised; they cover the box evenly.
    """

    study: str
    box: Box
    tokens: np.ndarray


def token_maps(
    checkpoint: str | Path,
    studies: Studies,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    pipeline: str = "auto",
) -> Iterator[TokenMap]:
    """The token map of each study, in order; volumes are read and cropped as for embedding.

    Args:
        checkpoint: A run's folder, or one of its checkpoints.
        studies: Of one store.
        device: auto | cpu | cuda.
        batch_size: Studies at once; the training's when not given.
        pipeline: auto | numba | dali | reference.

    Raises:
        CheckpointError: The checkpoint is broken.
    """
    loaded, model, place = open_model(checkpoint, device)
    data = loaded.config.data
    tower = model.encode_image.i3_resnet
    with (
        still_loader(studies, data, pipeline, place, batch_size or data.batch_size) as loader,
        torch.inference_mode(),
        mixed_precision(place, "auto"),
    ):
        for batch in loader:
            tokens_BEdhw = tower.token_map(to_volume(batch, place)).float()
            tokens = tokens_BEdhw.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
            for row, study in enumerate(batch.study):
                yield TokenMap(study, box_at(batch.plan.box_start[row], batch.plan.crop_shape), tokens[row])
