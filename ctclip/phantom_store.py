"""Phantoms and their store on disk, made where they are missing: for commands that go from nothing to a result.

What an interrupted call left is thrown away (phantoms) or gone on with (the store). All of it is synthetic.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.phantom import TABLE_NAME, make_phantom_cohort, read_phantom
from ctclip.errors import ConfigError
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import DEMO_SECTIONS, PLANTED, PRESETS, Knobs
from ctclip.reports.sections import SECTIONS
from ctload.packing.packer import pack

# 28 x 38 x 38 cm of abdomen at a resolution where a step takes half a second on two cores.
GRID = Grid((40, 64, 64), (7.0, 6.0, 6.0))
WAIT_S = 600.0


@dataclass(frozen=True)
class PhantomOrder:
    """What a cohort of phantoms shall be.

    Attributes:
        folder: Of the cohort.
        num_train, num_val, num_test: Phantoms of each split.
        seed: Of all phantoms.
        knobs: demo | study | realistic | null, or study's with a ratio that wins by construction: planted:75:25.
        workers: Processes.
    """

    folder: Path
    num_train: int
    num_val: int
    num_test: int
    seed: int = 0
    knobs: str = "demo"
    workers: int = 2

    def chosen_knobs(self) -> Knobs:
        """The knobs by their name.

        Raises:
            ConfigError: No such name.
        """
        name, _, planted = self.knobs.partition(":")
        if name == "planted" and planted in PLANTED:
            return Knobs.study().changed(planted=planted)
        if name not in PRESETS or planted:
            raise ConfigError(
                f"no phantom knobs {self.knobs!r}; there are {', '.join(PRESETS)} and planted:RATIO with a ratio of "
                f"{', '.join(PLANTED[1:])}"
            )
        return PRESETS[name]()

    def sections(self) -> tuple[str, ...]:
        """Sections worth a batch: those in which the cohort's findings are stated."""
        return SECTIONS if self.knobs in ("realistic", "null") else DEMO_SECTIONS


def ensure_phantoms(order: PhantomOrder) -> Cohort:
    """The cohort of an order, made where its folder is missing; findings that no phantom has are left out.

    Raises:
        ConfigError: No such knobs.
    """
    knobs = order.chosen_knobs()
    if not (order.folder / TABLE_NAME).exists():
        total = order.num_train + order.num_val + order.num_test
        making = order.folder.with_name(f"{order.folder.name}.partial")
        shutil.rmtree(making, ignore_errors=True)
        make_phantom_cohort(
            making,
            total,
            seed=order.seed,
            grid=GRID,
            knobs=knobs,
            splits={name: getattr(order, f"num_{name}") / total for name in ("train", "val", "test")},
            format="nii",
            workers=order.workers,
            progress=lambda rows: tqdm(rows, total=total, unit="study", desc="phantoms"),
        )
        making.rename(order.folder)
    cohort = read_phantom(order.folder)
    return replace(cohort, findings=tuple(name for name in cohort.findings if knobs.prevalence[name] > 0))


def ensure_store(folder: Path, store: Path, *, workers: int) -> Path:
    """The store of a phantom folder; what is packed already is reused. Commands that start together wait here in turn.

    Raises:
        ConfigError: A phantom was refused.
        StoreBusyError: Another pack has held the store for WAIT_S.
    """
    report = pack([folder / TABLE_NAME], store, preset="native", workers=workers, wait_s=WAIT_S)
    print(f"{store}: packed {len(report.packed)}, reused {len(report.reused)}, refused {len(report.refused)}")
    for refusal in report.refused:
        raise ConfigError(f"a phantom was refused ({refusal.code}): {refusal.reason}", study=refusal.study)
    return store
