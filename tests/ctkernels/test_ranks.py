"""Ranks over gloo, each with its local rows of gathered features, against one process with all rows."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ctkernels import infonce
from ctkernels.pairing import Pairing
from tests.ctkernels.contrast import gradients, pairs
from tests.ctkernels.test_operator import everything, step_of

ROOT = Path(__file__).resolve().parents[2]
BATCH = 8


def on_rank(rank: int, world: int) -> None:
    """Assert that this rank's gradient is its rows of the whole one, and that all ranks agree on the scalars."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    share = BATCH // world
    mine = slice(rank * share, (rank + 1) * share)
    for pairing in (Pairing(), everything(BATCH)):
        whole, scale = pairs(BATCH)[:2], pairs(BATCH)[2]
        local = [features.detach()[mine].clone().requires_grad_() for features in whole]
        gathered = []
        for features in local:
            parts = [torch.empty_like(features) for _ in range(world)]
            dist.all_gather(parts, features.detach())
            parts[rank] = features
            gathered.append(torch.cat(parts))
        options = {name: getattr(pairing, name) for name in pairing.__dataclass_fields__}
        loss = infonce(*gathered, scale, **options, local_rows=(mine.start, mine.stop))
        made = torch.autograd.grad(2 * loss, [*local, scale])
        wanted_loss, wanted = gradients(step_of(pairing), [*whole, scale])  # 3 x 2 x the loss
        torch.testing.assert_close(2 * loss.detach(), wanted_loss)
        for ours, right in zip(made[:2], wanted[:2], strict=True):
            torch.testing.assert_close(ours, right[mine] / 3)
        torch.testing.assert_close(made[2], wanted[2] / 3)
        both = [torch.empty_like(loss) for _ in range(world)]
        dist.all_gather(both, loss.detach())
        assert all(torch.equal(both[0], one) for one in both)
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_equal_one_process(world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.ctkernels.test_ranks"]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(world)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(world)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors


if __name__ == "__main__":
    on_rank(int(sys.argv[1]), int(sys.argv[2]))
