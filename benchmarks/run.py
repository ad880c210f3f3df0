"""`python -m benchmarks.run PART`: run one comparison and append its rows to benchmarks/results."""

import argparse
from pathlib import Path

from benchmarks import ingest, loading

PARTS = {"loading": loading.run, "ingest": ingest.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--data", type=Path, required=True, help="folder with real CT: .nii.gz files or DICOM zips")
    parser.add_argument("--scratch", type=Path, default=Path("runs/bench"), help="where stores and caches are made")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one that does not")
    words = parser.parse_args()
    words.scratch.mkdir(parents=True, exist_ok=True)
    PARTS[words.part](words.data, words.scratch, words.rounds)


if __name__ == "__main__":
    main()
