"""`python -m benchmarks.phantom_learnability`: can a small network learn each finding from 1,000 phantoms?

Phantoms of all thirty findings at literature effect sizes, each with the same prevalence, at about 7 x 5 x 5 mm; a 3D
ResNet of under a million parameters, supervised by the truth, a few hundred steps on the CPU. Average precision of a
classifier without skill is the prevalence, its AUROC 0.5: rows of benchmarks/results/phantom_learnability.csv stand
beside that. What a coarse grid and a small network miss is a property of both, not of the finding alone.
"""

import argparse
import csv
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from benchmarks.rows import RESULTS, commit_hash
from ctclip.phantom.catalogue import FINDINGS
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.render import render, visible_truth
from ctclip.phantom.study import draw_patient, draw_study

NUM_TRAIN, NUM_TEST = 1000, 400
PREVALENCE, BATCH_SIZE, MOST_LR = 0.2, 16, 3e-3
GRID = Grid.covering((56, 80, 84))
NUM_POOLED = 3
WINDOWS = ((-1000.0, 1000.0), (-160.0, 240.0))
COLUMNS: tuple[str, ...] = ("finding", "num_positive_test", "auroc", "ap", "prevalence", "n", "date", "commit")


def make_phantoms(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (N, D, H, W) int16 and truth (N, F) int8, 1, 0, -1."""
    prevalence = dict.fromkeys(FINDINGS, PREVALENCE)
    knobs = Knobs(prevalence=prevalence, normal_share=0.05, phases=(0.0, 0.0, 1.0), incidental_share=0.0)
    volumes, truth = np.empty((num, *GRID.shape), np.int16), np.empty((num, len(FINDINGS)), np.int8)
    for index in tqdm(range(num), desc="phantoms"):
        study = draw_study(seed, draw_patient(seed, index, knobs), 0, knobs)
        rendered = render(study, GRID)
        volumes[index] = rendered.voxels
        truth[index] = list(visible_truth(study, rendered).values())
    return volumes, truth


class Block(nn.Module):
    """Two 3x3x3 convolutions with a shortcut; halves the grid."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv3d(num_in, num_out, 3, 2, 1, bias=False), nn.BatchNorm3d(num_out), nn.ReLU(),
            nn.Conv3d(num_out, num_out, 3, 1, 1, bias=False), nn.BatchNorm3d(num_out),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.Conv3d(num_in, num_out, 1, 2, bias=False), nn.BatchNorm3d(num_out))

    def forward(self, volume: Tensor) -> Tensor:
        return functional.relu(self.path(volume) + self.shortcut(volume))


class Network(nn.Module):
    """Two windows in, a logit per finding out of the mean and the maximum of the last three grids.

    The maxima of the finer grids are what sees small lesions: with the last grid alone, half of the findings stayed
    at chance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(len(WINDOWS), 16, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False), nn.BatchNorm3d(16), nn.ReLU()
        )
        widths = (16, 32, 64, 96, 128)
        self.blocks = nn.ModuleList(Block(a, b) for a, b in pairwise(widths))
        self.linear = nn.Linear(2 * sum(widths[-NUM_POOLED:]), len(FINDINGS))

    def forward(self, volume: Tensor) -> Tensor:
        grid, grids = self.stem(volume), []
        for block in self.blocks:
            grid = block(grid)
            grids.append(grid)
        pooled = [f(g) for g in grids[-NUM_POOLED:] for f in (_mean, _maximum)]
        return self.linear(torch.cat(pooled, dim=1))


def _mean(grid: Tensor) -> Tensor:
    return grid.mean(dim=(2, 3, 4))


def _maximum(grid: Tensor) -> Tensor:
    return grid.amax(dim=(2, 3, 4))


def windowed(volumes: np.ndarray) -> Tensor:
    """(B, 2, D, H, W) in [-1, 1]."""
    hu = torch.from_numpy(volumes).float()
    channels = [((hu - low) / (high - low)).clamp(0, 1) * 2 - 1 for low, high in WINDOWS]
    return torch.stack(channels, dim=1).contiguous(memory_format=torch.channels_last_3d)


def train(network: nn.Module, volumes: np.ndarray, truth: np.ndarray, num_steps: int) -> None:
    """Binary cross-entropy over the known labels, AdamW, one learning-rate cycle."""
    optimizer = torch.optim.AdamW(network.parameters(), MOST_LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MOST_LR, total_steps=num_steps)
    rng = np.random.default_rng(0)
    labels, known = torch.from_numpy((truth == 1).astype(np.float32)), torch.from_numpy((truth >= 0).astype(np.float32))
    network.train()
    for _ in tqdm(range(num_steps), desc="steps"):
        rows = rng.choice(len(volumes), BATCH_SIZE, replace=False)
        losses = functional.binary_cross_entropy_with_logits(
            network(windowed(volumes[rows])), labels[rows], reduction="none"
        )
        loss = (losses * known[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def score(network: nn.Module, volumes: np.ndarray, truth: np.ndarray) -> list[dict[str, object]]:
    """A row per finding."""
    network.eval()
    with torch.no_grad():
        logits = np.concatenate([network(windowed(volumes[k : k + 32])).numpy() for k in range(0, len(volumes), 32)])
    rows: list[dict[str, object]] = []
    for column, finding in enumerate(FINDINGS):
        known = truth[:, column] >= 0
        present, scores = truth[known, column] == 1, logits[known, column]
        rows.append(
            {
                "finding": finding,
                "num_positive_test": int(present.sum()),
                "auroc": f"{roc_auc_score(present, scores):.4f}",
                "ap": f"{average_precision_score(present, scores):.4f}",
                "prevalence": f"{present.mean():.4f}",
                "n": int(known.sum()),
                "date": date.today().isoformat(),
                "commit": commit_hash(),
            }
        )
    return rows


def append(rows: list[dict[str, object]], path: Path) -> None:
    """Append the rows, with a header when the file is new."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phantom_learnability", description=__doc__)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(words.threads)
    network = Network().to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    train(network, *make_phantoms(NUM_TRAIN, seed=0), words.steps)
    rows = score(network, *make_phantoms(NUM_TEST, seed=1))
    append(rows, RESULTS / "phantom_learnability.csv")
    for row in sorted(rows, key=lambda row: str(row["auroc"])):
        print(f"{row['finding']:<32} AUROC {row['auroc']}  AP {row['ap']} against {row['prevalence']}")


if __name__ == "__main__":
    main()
