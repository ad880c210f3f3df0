"""Ingest: the voxels a Merlin user trains on, made from the same compressed files by this project and by MONAI's chain.

Work: read, turn to RAS+, resample to 1.5 x 1.5 x 3 mm, crop or pad to 224 x 224 x 160. MONAI's chain is the one of
the Merlin release; its output stays in memory, ours does too (`prepare`), so that disks play no part. Both on one
core. `pack` adds compressing, writing, reading back and a digest; that is a row of its own.

Peak memory is that of a process of its own for each provider, which does the work on one file; what its imports took is
a row beside it. It is what one worker takes.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from monai.transforms.compose import Compose
from monai.transforms.croppad.array import CenterSpatialCrop, SpatialPad
from monai.transforms.intensity.array import ScaleIntensityRange
from monai.transforms.io.array import LoadImage
from monai.transforms.spatial.array import Orientation, Spacing
from monai.transforms.utility.array import EnsureChannelFirst

from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctload.packing.packer import pack
from ctload.packing.resample import prepare
from ctload.readers import read_source
from ctload.storage.preset import Preset

WORK = "nii.gz -> 1.5x1.5x3 mm, 224x224x160"


def monai_chain() -> Compose:
    """Load to [0, 1] as the Merlin release does it."""
    return Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation(axcodes="RAS", labels=None),
            Spacing(pixdim=(1.5, 1.5, 3.0), mode="bilinear"),
            ScaleIntensityRange(a_min=-1000, a_max=1000, b_min=0.0, b_max=1.0, clip=True),
            SpatialPad(spatial_size=(224, 224, 160)),
            CenterSpatialCrop(roi_size=(224, 224, 160)),
        ]
    )


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """The seconds of one call."""

    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def peak_mib(provider: str, path: Path, scratch: Path) -> tuple[float, float]:
    """Largest resident memory of a new process, in MiB: after its imports, and after its work on one file."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peak", provider, str(path), str(scratch)],
        capture_output=True,
        text=True,
        check=True,
    )
    imported, worked = done.stdout.split()[-2:]
    return float(imported), float(worked)


def append_peaks(path: Path, scratch: Path, num_rounds: int) -> None:
    """The rows of peak memory for one file."""
    for provider in ("ctload", "ctload pack", f"monai {version('monai')}"):
        rounds = []
        for _ in range(num_rounds):
            shutil.rmtree(scratch / "peak.zarr", ignore_errors=True)
            rounds.append(peak_mib(provider, path, scratch))
        imported, worked = ([values[at] for values in rounds] for at in (0, 1))
        config = f"file={path.name} cores=1"
        append_rows(
            "ingest",
            [
                row_of(WORK, provider, config, "peak memory of a worker", "MiB", worked),
                row_of(WORK, provider, config, "memory of its imports", "MiB", imported),
            ],
        )


def run(data: Path, scratch: Path, num_rounds: int) -> None:
    """Time every .nii.gz below `data` and append the rows."""
    torch.set_num_threads(1)
    chain, preset = monai_chain(), Preset.from_name("merlin")
    for path in sorted(data.rglob("*.nii.gz")):
        out = scratch / "ingest.zarr"

        def packed(path: Path = path, out: Path = out) -> None:
            shutil.rmtree(out, ignore_errors=True)
            pack([path], out, preset="merlin", workers=1, progress=False)

        values = alternate(
            {
                "ctload": timed(lambda path=path: prepare(read_source(path), preset)),
                "ctload pack": timed(packed),
                "monai": timed(lambda path=path: chain(path)),
            },
            num_rounds=num_rounds,
        )
        config = f"file={path.name} cores=1"
        rival = f"monai {version('monai')}"
        append_rows(
            "ingest",
            [
                row_of(WORK, "ctload", config, "time", "s", values["ctload"]),
                row_of(WORK, "ctload pack", f"{config} with=write,verify", "time", "s", values["ctload pack"]),
                row_of(WORK, rival, config, "time", "s", values["monai"]),
                row_of(
                    WORK, f"{rival} / ctload", config, "ratio", "x", paired_ratios(values["monai"], values["ctload"])
                ),
            ],
        )
        append_peaks(path, scratch, min(num_rounds, 3))
