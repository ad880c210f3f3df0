"""A run of given weights that are not trained: what `steps=0` makes, so that they can be embedded and evaluated.

Enter a configuration whose `init` names weights; leaves a run's folder with one checkpoint of step 0. No study is
read, so neither a training split nor a store is needed.
"""

import json
import math
from pathlib import Path

import torch

from ctclip.config import TrainConfig
from ctclip.config_json import to_json
from ctclip.data import num_channels
from ctclip.errors import ConfigError
from ctclip.models.dual import build_dual_encoder
from ctclip.models.initial_weights import InitialWeights, begin_text_folder
from ctclip.training.checkpoint import Checkpoint
from ctclip.training.checkpoint_writer import take_snapshot, write_snapshot
from ctclip.training.distributed import World, wait_for_all
from ctclip.training.optim import make_optimizer
from ctclip.training.runlog import machine_facts
from ctclip.training.session import TrainResult
from ctload.storage.durable import replace_file


def write_untrained(
    config: TrainConfig, world: World, checkpoint: Checkpoint | None, initial: InitialWeights | None
) -> TrainResult:
    """Write the run, or leave the one that is there; the first rank writes.

    Args:
        config: Of the run; its model is that of the weights.
        world: This rank among all.
        checkpoint: Of the folder, where it has one.
        initial: What config.init names; not read again where there is a checkpoint.

    Raises:
        ConfigError: Another objective than clip; the text tower would need a vocabulary of a cohort's reports; or the
            folder holds a trained run.
        CheckpointError: The weights are of another architecture.
    """
    run = Path(config.out)
    if checkpoint is not None and checkpoint.step > 0:
        raise ConfigError(f"holds a run of {checkpoint.step} steps; give another --out for steps=0", path=run)
    if checkpoint is None and world.is_first:
        _write(run, config, initial)
    wait_for_all(world)
    return TrainResult(run, 0, math.nan, run / "checkpoints" / f"step-{0:08d}", was_stopped=False)


def _write(run: Path, config: TrainConfig, initial: InitialWeights | None) -> None:
    if config.objective != ("clip",):
        raise ConfigError(f"objective={config.objective} with steps=0, which minimises nothing; leave it clip")
    if not config.model.text.name and (initial is None or initial.run is None):
        raise ConfigError(
            "steps=0 with a text tower whose vocabulary would be trained on a cohort; name the encoder that the "
            "weights were trained with, as --model.text.name yikuan8/Clinical-Longformer (--preset merlin does)"
        )
    begin_text_folder(run / "text", config.model.text, (), initial)
    model = build_dual_encoder(
        config.model,
        run / "text",
        num_channels=num_channels(config.data),
        seed=config.seed,
        is_pretrained=True,
        initial=initial,
    )
    replace_file(run / "config.json", to_json(config).encode())
    facts = {"first_step": 0, **machine_facts(torch.device("cpu"))}
    replace_file(run / "machine.json", json.dumps([facts], indent=2).encode())
    snapshot = take_snapshot(
        step=0,
        model=model,
        optimizer=make_optimizer(model, config.optim),
        average=None,
        config=config,
        num_channels=num_channels(config.data),
        environment={"torch": torch.__version__},
        loader_state={},
    )
    write_snapshot(run, snapshot)
