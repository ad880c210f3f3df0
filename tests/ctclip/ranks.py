"""Functions that run as one of several gloo ranks, for tests. They import late: a rank starts bare."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from ctclip.models.features import Features
from ctclip.objectives.clip import clip_loss
from ctclip.training.distributed import World, gather_features, is_any, open_world

NUM_GROUPS = 4  # groups that one rank opens at most


def run_ranks(function: Callable[[Any], None], world_size: int, argument: Any) -> None:
    """Call function(argument) in `world_size` processes that are the ranks of gloo groups, one group after another."""
    probes = [socket.socket() for _ in range(NUM_GROUPS)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    mp.spawn(_as_rank, args=(function, world_size, argument, ports), nprocs=world_size)


def next_group() -> None:
    """Before a rank opens its next world: another port, since the group before may still hold its own."""
    if "TEST_PORTS" in os.environ:
        first, _, rest = os.environ["TEST_PORTS"].partition(" ")
        os.environ |= {"MASTER_PORT": first, "TEST_PORTS": rest}


def _as_rank(rank: int, function: Callable[[Any], None], world_size: int, argument: Any, ports: list[int]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    os.environ["TEST_PORTS"] = " ".join(map(str, ports))
    function(argument)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread, as every rank does: the order of a sum, so its rounding, depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def whole_features(batch: int = 8, dim: int = 6) -> Features:
    """Features of a global batch, float64, the same in every process."""
    generator = torch.Generator().manual_seed(3)
    image, text = (torch.randn(batch, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return Features(image, text, torch.tensor(1.0, dtype=torch.float64))


def save_feature_gradients(folder: str) -> None:
    """The loss from this rank's slice and its gradients, divided by the ranks as DDP's average would."""
    next_group()
    with open_world("cpu") as world:
        whole = whole_features()
        rows = slice(world.rank * 8 // world.size, (world.rank + 1) * 8 // world.size)
        image, text = (part[rows].clone().requires_grad_() for part in (whole.image, whole.text))
        scale = whole.logit_scale.clone().requires_grad_()
        loss = clip_loss(gather_features(Features(image, text, scale), world))
        d_image, d_text, d_scale = torch.autograd.grad(loss, (image, text, scale))
        assert is_any(world.rank == world.size - 1, world)
        assert not is_any(False, world)
        saved = {"loss": loss.detach(), "image": d_image / world.size, "text": d_text / world.size, "scale": d_scale}
        torch.save(saved, Path(folder) / f"features-{world.rank}.pt")


def model_gradients(world: World, folder: str, *, is_training: bool = False, **changes: Any) -> dict[str, torch.Tensor]:
    """Gradients of every parameter of a small dual encoder for one step, and afterwards the buffers."""
    from ctclip.config import TrainConfig
    from ctclip.data import TrainBatch
    from ctclip.models.dual import build_dual_encoder
    from ctclip.models.text import TextTokenizer
    from ctclip.training.step import TrainingStep
    from tests.ctclip.learnable import learnable_config

    config: TrainConfig = learnable_config(Path(folder), **changes)
    text_folder = Path(folder) / "text"
    model = build_dual_encoder(config.model, text_folder, num_channels=1, seed=0, is_pretrained=True)
    step = TrainingStep(model.train(is_training), config, world)
    rows = slice(world.rank * 8 // world.size, (world.rank + 1) * 8 // world.size)
    volume = torch.rand(8, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))[rows]
    texts = [f"liver : {word} ." for word in ("normal", "mass", "cyst", "stone", "large", "dark", "dense", "small")]
    batch = TrainBatch(volume, TextTokenizer(text_folder, max_length=48)(texts[rows]), "report", tuple(texts[rows]))
    gradients: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    step.optimizer.step = keep  # pyright: ignore[reportAttributeAccessIssue]
    with one_thread():
        step.run(0, batch)
    return gradients | {name: buffer.clone() for name, buffer in model.named_buffers()}


def save_training_gradients(argument: tuple[str, list[dict[str, Any]]]) -> None:
    """`model_gradients` in training mode for each set of changes."""
    folder, settings = argument
    next_group()
    with open_world("cpu") as world:
        for number, changes in enumerate(settings):
            found = model_gradients(world, folder, is_training=True, **changes)
            torch.save(found, Path(folder) / f"training-{world.size}-{world.rank}-{number}.pt")


def train_on(argument: tuple) -> None:
    """A run, or the rest of one."""
    from ctclip.training.loop import train

    config, cohort, stop_at = argument
    next_group()
    train(config, cohort=cohort, stop_at=stop_at, is_quiet=True)


def train_and_save(argument: tuple) -> None:
    """One step's gradients, then a whole run and the same run in two parts; saves the studies of every batch."""
    from ctclip.training.loop import train
    from ctclip.training.loss_watch import LossWatch

    config, cohort, parts, folder = argument
    rank = os.environ.get("RANK", "0")
    next_group()
    with open_world("cpu") as world:
        torch.save(model_gradients(world, folder), Path(folder) / f"model-{world.size}-{rank}.pt")
    drawn: list[tuple[str, ...]] = []
    add = LossWatch.add

    def watched(self, step, unit, study, loss, norm):
        drawn.append((unit, *study))
        add(self, step, unit, study, loss, norm)

    LossWatch.add = watched
    try:
        next_group()
        train(config, cohort=cohort, is_quiet=True)
        torch.save(list(drawn), Path(folder) / f"drawn-{world.size}-{rank}.pt")
        for out, stop_at in parts:
            next_group()
            train(type(config)(**{**vars(config), "out": out}), cohort=cohort, stop_at=stop_at, is_quiet=True)
    finally:
        LossWatch.add = add
