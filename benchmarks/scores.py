"""`python -m benchmarks.scores`: what it costs to score a large test split with intervals, on one core."""

import argparse
import time

import numpy as np

from benchmarks.rows import append_rows, row_of
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.zeroshot import ScoreTable
from ctclip.findings import MERLIN_FINDINGS


def made_up_table(num_studies: int, *, seed: int) -> ScoreTable:
    """Scores that rise with labels of a prevalence of 0.2; a fifth of the labels are unknown."""
    rng = np.random.default_rng(seed)
    shape = (num_studies, len(MERLIN_FINDINGS))
    labels = (rng.random(shape) < 0.2).astype(np.int8)
    scores = 0.1 * labels + rng.normal(0, 0.1, shape)
    labels[rng.random(shape) < 0.2] = -1
    names = tuple(f"study-{number}" for number in range(num_studies))
    normal = np.where((labels == 1).any(axis=1), 0, 1).astype(np.int8)
    return ScoreTable(names, names, MERLIN_FINDINGS, labels, scores, rng.normal(0, 0.1, num_studies), normal)


def main() -> None:
    """Append a row of CPU seconds over some rounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description=__doc__)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    seconds = []
    for number in range(words.rounds):
        table = made_up_table(words.studies, seed=number)
        start = time.process_time()
        report_scores(table, options=EvaluateOptions(num_bootstraps=words.bootstraps))
        seconds.append(time.process_time() - start)
    config = f"studies={words.studies} findings={len(MERLIN_FINDINGS)} bootstraps={words.bootstraps} cores=1"
    row = row_of("all metrics of a test split with intervals", "ctclip", config, "cpu time", "s", seconds)
    print(row, append_rows("evaluation", [row]))


if __name__ == "__main__":
    main()
