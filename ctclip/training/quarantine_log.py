"""Damaged studies of a run with on_corrupt="replace": every rank's quarantine as one, in its checkpoints and folder."""

import json
from pathlib import Path
from typing import Any

from ctclip.training.distributed import World, gather_objects
from ctload.loading.quarantine import merge
from ctload.storage.durable import replace_file

FILE = "quarantine.json"


class QuarantineLog:
    """Merges what the ranks' loaders hold.

    Args:
        run: Folder of the run; gets quarantine.json once there is something to write.
        world: This rank among all.
    """

    def __init__(self, run: Path, world: World) -> None:
        self._path, self._world = run / FILE, world
        self._merged: list[dict[str, Any]] = []

    def merged(self, loader_state: dict[str, Any]) -> dict[str, Any]:
        """A loader's state with the quarantine of all ranks, which each of them may go on from. Every rank calls it."""
        self._merged = merge(gather_objects(loader_state["quarantine"], self._world))
        if self._world.is_first and self._merged:
            replace_file(self._path, json.dumps(self._merged, indent=1).encode())
        return {**loader_state, "quarantine": self._merged}

    def metrics(self, loader_state: dict[str, Any]) -> dict[str, int]:
        """num_quarantined where there are any: of all ranks at the last checkpoint, and of this one since then."""
        known = merge([self._merged, loader_state["quarantine"]])
        return {"num_quarantined": len(known)} if known else {}
