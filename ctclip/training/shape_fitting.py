"""How a run's batches are cut where the machine has a say in it: micro_batch="auto" is what the checkpoint was written
with, or the largest forward pass that fits.
"""

from ctclip.config import TrainConfig
from ctclip.models.dual import DualEncoder
from ctclip.training.batch_shape import BatchShape, micro_batch_candidates, shape_batch
from ctclip.training.checkpoint import Checkpoint
from ctclip.training.distributed import World, smallest
from ctclip.training.fitting import fit_micro_batch


def fitted_shape(
    config: TrainConfig,
    world: World,
    checkpoint: Checkpoint | None,
    model: DualEncoder,
    *,
    volume_shape: tuple[int, int, int, int],
    num_texts: int,
) -> BatchShape:
    """How a batch is cut. With micro_batch="auto" the model is tried, and left as it was; ranks take the smallest of
    what fits on each.

    Args:
        config: Of the run.
        world: This rank among all.
        checkpoint: That the run goes on from, or None.
        model: On the world's device, in training mode.
        volume_shape: (C, D, H, W).
        num_texts: Texts of one study.

    Raises:
        ConfigError: Numbers that do not divide, or not even the smallest pass fits.
    """
    shape = known_shape(config, world, checkpoint)
    if shape is not None:
        return shape
    found = fit_micro_batch(
        model,
        micro_batch_candidates(config, world.size),
        volume_shape=volume_shape,
        num_tokens=config.model.text.max_length,
        num_texts=num_texts,
        precision=config.precision,
    )
    return shape_batch(config, world.size, micro_batch=smallest(found, world))


def known_shape(config: TrainConfig, world: World, checkpoint: Checkpoint | None) -> BatchShape | None:
    """How a batch is cut; None where micro_batch="auto" has still to find it.

    Raises:
        ConfigError: Numbers that do not divide.
    """
    if config.micro_batch != "auto":
        return shape_batch(config, world.size)
    candidates = micro_batch_candidates(config, world.size)
    recorded = checkpoint.environment.get("micro_batch", 0) if checkpoint else 0
    fitting = [size for size in candidates if size <= recorded]
    return shape_batch(config, world.size, micro_batch=fitting[0]) if fitting else None


def describe_shape(shape: BatchShape, world: World) -> str:
    """How a batch is cut, for the terminal."""
    words = [f"  batches of {shape.batch_size}"]
    if world.size > 1:
        words.append(f"{shape.rank_batch} on each of {world.size} ranks")
    if shape.micro_batch < shape.rank_batch:
        words.append(f"{shape.micro_batch} in a forward pass (gradient cache)")
    return ", ".join([*words, f"batch norm over {shape.bn_group}"])
