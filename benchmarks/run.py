"""`python -m benchmarks.run PART`: run one comparison and append its rows to benchmarks/results."""

import argparse
from pathlib import Path

from benchmarks import chunks, ingest, kernels, loading, predict, ranks, resume, ring, training

ON_DATA = {"loading": loading.run, "ingest": ingest.run, "chunks": chunks.run, "ring": ring.run, "ranks": ranks.run}
IN_SCRATCH = {"predict": predict.run, "resume": resume.run}
ALONE = {"kernels": kernels.run, "training": training.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("part", choices=sorted(ON_DATA | IN_SCRATCH | ALONE))
    parser.add_argument(
        "--data", type=Path, help=f"for {', '.join(ON_DATA)}: folder with real CT, .nii.gz files or DICOM zips"
    )
    parser.add_argument("--scratch", type=Path, default=Path("runs/bench"), help="where stores and caches are made")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one that does not")
    words = parser.parse_args()
    if words.part in ALONE:
        ALONE[words.part](words.rounds)
        return
    if words.part in IN_SCRATCH:
        words.scratch.mkdir(parents=True, exist_ok=True)
        IN_SCRATCH[words.part](words.scratch, words.rounds)
        return
    if words.data is None:
        parser.error(f"{words.part} needs --data FOLDER")
    words.scratch.mkdir(parents=True, exist_ok=True)
    ON_DATA[words.part](words.data, words.scratch, words.rounds)


if __name__ == "__main__":
    main()
