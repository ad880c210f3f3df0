"""`python -m benchmarks.peak PROVIDER FILE SCRATCH`: the work of `benchmarks.ingest` once, in a process of its own.

Prints its largest resident memory in MiB after its imports and after its work. Each provider imports what it needs.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def work_of(provider: str, scratch: Path) -> Callable[[Path], object]:
    """What a provider does with one file, everything it needs imported."""
    if provider.startswith("monai"):
        importlib.import_module("torch").set_num_threads(1)
        return importlib.import_module("benchmarks.ingest").monai_chain()
    preset = importlib.import_module("ctload.storage.preset").Preset.from_name("merlin")
    readers, resample = importlib.import_module("ctload.readers"), importlib.import_module("ctload.packing.resample")
    importlib.import_module("ctload.readers.nifti")
    if provider == "ctload":
        return lambda path: resample.prepare(readers.read_source(path), preset)
    packing = importlib.import_module("ctload.packing.packer")
    return lambda path: packing.pack([path], scratch / "peak.zarr", preset=preset, workers=1, progress=False)


def peak_mib() -> float:
    """Largest resident memory of this process. (ru_maxrss would include that of the one that started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    provider, path, scratch = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    work = work_of(provider, scratch)
    imported = peak_mib()
    work(path)
    print(imported, peak_mib())


if __name__ == "__main__":
    main()
