"""`python -m benchmarks.phantom_learnability`: can a small model learn each finding from 1,000 phantoms?

Phantoms of all thirty findings at literature effect sizes, of equal prevalence, at 5 x 3.5 x 3.5 mm. The model sees how
many voxels of each region of the volume fall into each of 18 HU bins, for two sets of regions, and is a forest of
extremely randomised trees per finding on the features that separate best in training. It knows no mask and no organ.
Average precision without skill is the prevalence, AUROC 0.5: the rows of benchmarks/results/phantom_learnability.csv
stand beside that.

A 3D ResNet of 0.9 M parameters with 350 steps on the
CPU, this script's first version, learned about half of the findings; its rows are in
phantom_learnability_resnet.csv.
"""

import argparse
from datetime import date

import numba
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from tqdm import tqdm

from benchmarks.rows import RESULTS, append_table, commit_hash
from ctclip.phantom.catalogue import FINDINGS
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.rendering import render, visible_truth
from ctclip.phantom.study import draw_patient, draw_study

NUM_TRAIN, NUM_TEST, PREVALENCE = 1000, 400, 0.2
GRID = Grid.covering((84, 112, 120))
REGIONS = ((8, 8, 8), (14, 12, 14))
EDGES_HU = np.array(
    (-950, -500, -150, -60, -20, 0, 25, 45, 70, 90, 110, 130, 160, 200, 300, 500, 1000), np.float64
)  # fmt: skip
NUM_FEATURES, NUM_TREES = 300, 400
COLUMNS: tuple[str, ...] = ("finding", "num_positive_test", "auroc", "ap", "prevalence", "n", "date", "commit")


@numba.njit(cache=True)
def count_bins(voxels: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
    """Count voxels (D, H, W) by region and HU bin into `out` (regions z, y, x, bins)."""
    depth, height, width = voxels.shape
    num_z, num_y, num_x, num_bins = out.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                bin_number = 0
                while bin_number < num_bins - 1 and voxels[z, y, x] >= edges[bin_number]:
                    bin_number += 1
                out[z * num_z // depth, y * num_y // height, x * num_x // width, bin_number] += 1.0


def features_of(voxels: np.ndarray) -> np.ndarray:
    """(N,) float16: log counts of all regions and bins."""
    parts = []
    for regions in REGIONS:
        counts = np.zeros((*regions, len(EDGES_HU) + 1))
        count_bins(voxels, EDGES_HU, counts)
        parts.append(np.log1p(counts).ravel().astype(np.float16))
    return np.concatenate(parts)


def make_phantoms(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, M) float16 and truth (N, F) int8: 1, 0, -1."""
    prevalence = dict.fromkeys(FINDINGS, PREVALENCE)
    knobs = Knobs(prevalence=prevalence, normal_share=0.05, phases=(0.0, 0.0, 1.0), incidental_share=0.0)
    features, truth = [], []
    for index in tqdm(range(num), desc="phantoms"):
        study = draw_study(seed, draw_patient(seed, index, knobs), 0, knobs)
        rendered = render(study, GRID)
        features.append(features_of(rendered.voxels))
        truth.append(list(visible_truth(study, rendered).values()))
    return np.array(features), np.array(truth, np.int8)


def separating(features: np.ndarray, is_present: np.ndarray) -> np.ndarray:
    """Columns of the features whose class means differ most, in their standard deviations."""
    features = features.astype(np.float32)
    difference = features[is_present].mean(axis=0) - features[~is_present].mean(axis=0)
    return np.argsort(-np.abs(difference / (features.std(axis=0) + 1e-3)))[:NUM_FEATURES]


def score_finding(column: int, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]) -> dict[str, object]:
    """Fit on the training phantoms that know the finding; the row of its test scores."""
    known = train[1][:, column] >= 0
    features, is_present = train[0][known], train[1][known, column] == 1
    chosen = separating(features, is_present)
    forest = ExtraTreesClassifier(
        NUM_TREES,
        min_samples_leaf=3,
        max_features=0.2,  # pyright: ignore[reportArgumentType]
        random_state=0,
    )
    forest.fit(features[:, chosen].astype(np.float32), is_present)
    known = test[1][:, column] >= 0
    scores = np.asarray(forest.predict_proba(test[0][known][:, chosen].astype(np.float32)))[:, 1]
    is_present = test[1][known, column] == 1
    return {
        "finding": FINDINGS[column],
        "num_positive_test": int(is_present.sum()),
        "auroc": f"{roc_auc_score(is_present, scores):.4f}",
        "ap": f"{average_precision_score(is_present, scores):.4f}",
        "prevalence": f"{is_present.mean():.4f}",
        "n": int(known.sum()),
        "date": date.today().isoformat(),
        "commit": commit_hash(),
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.phantom_learnability", description=__doc__).parse_args()
    train, test = make_phantoms(NUM_TRAIN, seed=0), make_phantoms(NUM_TEST, seed=1)
    rows = [score_finding(column, train, test) for column in tqdm(range(len(FINDINGS)), desc="findings")]
    append_table(RESULTS / "phantom_learnability.csv", COLUMNS, rows)
    for row in sorted(rows, key=lambda row: str(row["auroc"])):
        print(f"{row['finding']:<32} AUROC {row['auroc']}  AP {row['ap']} against {row['prevalence']}")


if __name__ == "__main__":
    main()
