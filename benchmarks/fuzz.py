"""`python -m benchmarks.fuzz DOOR --minutes M`: damaged inputs for one door, led by what code they reach (atheris).

DOOR is nifti, dicom, manifest or metadata. A run ends with a row in results/faults.csv, or at the first input that
raises anything but a CtloadError, crashes a decoder, takes more than MEMORY_MIB or more than TIMEOUT_S; that input
is kept beside the corpus, and `--replay FILE` shows what it does.
"""

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import append_rows, row_of

MEMORY_MIB = 3072
TIMEOUT_S = 30
DOORS = ("nifti", "dicom", "manifest", "metadata")
LED_BY = ["ctload", "nibabel", "pydicom", "benchmarks"]  # whose branches lead the fuzzer
REAL_NIFTI = ("**/*.nii.gz",)
REAL_DICOM = ("**/*.zip",)


def attempt_of(door: str, folder: Path, data: Path | None) -> Callable[[bytes], None]:
    """What gives one string of bytes to a door.

    Args:
        door: Its name.
        folder: Scratch.
        data: Folder with real studies, to start from them too.
    """
    choices = importlib.import_module("benchmarks.choices")
    if door in ("nifti", "dicom"):
        doors = importlib.import_module("benchmarks.doors")
        kind, patterns = (doors.NiftiDoor, REAL_NIFTI) if door == "nifti" else (doors.DicomDoor, REAL_DICOM)
        real = [path for pattern in patterns for path in sorted(data.glob(pattern))] if data else []
        opened = kind(folder, real)
    else:
        doors = importlib.import_module("benchmarks.store_doors")
        opened = (doors.ManifestDoor if door == "manifest" else doors.MetadataDoor)(folder)
    return lambda content: opened.attempt(choices.Choices(content))


def run_child(options: argparse.Namespace) -> None:
    """Fuzz in this process. It does not return: libFuzzer ends it."""
    atheris = importlib.import_module("atheris")  # the doors can be tried without it
    with atheris.instrument_imports(include=LED_BY, exclude=_compiled()):
        attempt = attempt_of(options.door, Path(options.scratch), options.data)
    words = [
        f"-max_total_time={round(60 * options.minutes)}", f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={TIMEOUT_S}",
        f"-seed={options.seed + 1}", "-max_len=400", "-len_control=0", "-print_final_stats=1",
        f"-artifact_prefix={options.corpus}-", str(options.corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *words], attempt)
    atheris.Fuzz()


def _compiled() -> list[str]:
    """Modules with functions that numba compiles, which cannot be traced."""
    root = Path(__file__).resolve().parents[1]
    files = [path for path in root.glob("ctload/**/*.py") if "njit" in path.read_text()]
    return [".".join(path.relative_to(root).with_suffix("").parts) for path in files]


def run_parent(options: argparse.Namespace) -> int:
    """Fuzz in another process, so that its death is seen, and append the row."""
    options.corpus.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "benchmarks.fuzz", *sys.argv[1:], "--child"]
    done = subprocess.run([*words, "--scratch", options.scratch], stderr=subprocess.PIPE, text=True, check=False)
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    memory = re.search(r"stat::peak_rss_mb:\s*(\d+)", done.stderr)
    if done.returncode != 0 or executed is None or memory is None:
        print(done.stderr[-8000:])
        return 1
    reached = re.findall(r"\bcov: (\d+)", done.stderr)[-1]
    config = f"engine=atheris minutes={options.minutes:g} seed={options.seed} real={bool(options.data)} untyped=0"
    work = f"fuzz: {options.door}"
    append_rows(
        "faults",
        [
            row_of(work, "ctload", config, "inputs", "count", [int(executed[1])]),
            row_of(work, "ctload", config, "branches reached", "count", [int(reached)]),
            row_of(work, "ctload", config, "peak memory", "MiB", [int(memory[1])]),
        ],
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("door", choices=DOORS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder with real studies to start from too")
    parser.add_argument("--corpus", type=Path, help="inputs that reached new code (default runs/fuzz/DOOR)")
    parser.add_argument("--replay", type=Path, help="give one kept input to the door, and let its error show")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.corpus = options.corpus or Path("runs/fuzz") / options.door
    if options.child:
        run_child(options)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        if options.replay:
            attempt_of(options.door, Path(folder), options.data)(options.replay.read_bytes())
            return 0
        options.scratch = folder
        return run_parent(options)


if __name__ == "__main__":
    sys.exit(main())
