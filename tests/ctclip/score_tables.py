"""Cohorts and score tables made for tests: simulated labels, embeddings that carry them, a toy text encoder."""

import hashlib

import numpy as np
import pyarrow as pa

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.evaluation.zeroshot import ScoreTable

FINDINGS = ("ascites", "fracture", "gallstones")


def make_labels(num, *, seed=0, findings=FINDINGS, unknown=0.1):
    rng = np.random.default_rng((seed, 7))
    labels = (rng.random((num, len(findings))) < 0.35).astype(np.int8)
    labels[rng.random(labels.shape) < unknown] = -1
    return labels


def make_table(num=200, *, seed=0, signal=0.5, findings=FINDINGS, labels=None, prefix="s", studies_per_patient=1):
    labels = make_labels(num, seed=seed, findings=findings) if labels is None else labels
    scores = np.random.default_rng((seed, 8)).normal(labels * signal, 1) / 5
    return ScoreTable(
        studies=tuple(f"{prefix}{row}" for row in range(num)),
        patients=tuple(f"{prefix}p{row // studies_per_patient}" for row in range(num)),
        findings=tuple(findings),
        labels=labels,
        scores=scores,
        normal_scores=-scores.mean(1),
        is_normal=np.where((labels == 1).any(1), 0, 1).astype(np.int8),
        stamp={"cohort": "made", "split": "test", "synthetic": "yes", "label_source": "truth", "prompts": "own",
               "aggregate": "similarities"},
    )  # fmt: skip


def make_cohort_of(labels, *, findings=FINDINGS, name="made") -> Cohort:
    num = len(labels)
    columns = {
        "study": [f"s{row}" for row in range(num)],
        "patient": [f"p{row}" for row in range(num)],
        "path": [f"/volumes/s{row}.nii.gz" for row in range(num)],
        "report": ["Liver: Normal."] * num,
        "split": ["test"] * num,
    } | {finding: labels[:, column] for column, finding in enumerate(findings)}
    return make_cohort(pa.table(columns), name=name, findings=tuple(findings), synthetic=True, label_source="truth")


def embed_words(texts: list[str], *, size=32) -> np.ndarray:
    """(T, size): the sum of a fixed random vector per word, so that equal words mean equal directions."""
    return np.stack([np.sum([_word_vector(word, size) for word in text.split()], axis=0) for text in texts])


def _word_vector(word: str, size: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=size)
