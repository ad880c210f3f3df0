"""A run's scores: embeddings of a split and prompts in, scores_<split>.json and .npz in the run's folder out.

It touches no voxel. The embeddings must be of the checkpoint whose text tower embeds the prompts; that is checked.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.config_json import from_json
from ctclip.embed import Embeddings, TextEmbedder, read_embeddings
from ctclip.errors import ConfigError, EvaluationError
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.zeroshot import ScoreTable, save_scores, score_cohort
from ctclip.texts.prompts import PromptSet
from ctload.durable import replace_file


def embeddings_path(run: Path, split: str) -> Path:
    """Where a run keeps the embeddings of a split."""
    return run / "embeddings" / f"{split}.npz"


def scores_path(run: Path, split: str) -> Path:
    """Where a run keeps the report of a split; the score table lies beside it as .npz."""
    return run / f"scores_{split}.json"


def score_split(
    run: Path, cohort: Cohort, split: str, *, prompts: PromptSet, embed_texts: TextEmbedder, aggregate: str
) -> ScoreTable:
    """The score table of one split from the run's embeddings.

    Raises:
        EvaluationError: No embeddings, or embeddings of another checkpoint or of other studies.
    """
    embeddings = _embeddings_of(run, split, embed_texts)
    return score_cohort(
        embeddings.image,
        embeddings.study,
        cohort=packed_cohort(cohort.split(split), embeddings, run),
        prompts=prompts,
        embed_texts=embed_texts,
        aggregate=aggregate,
    )


def score_run(
    run: Path,
    cohort: Cohort,
    split: str,
    *,
    prompts: PromptSet,
    options: EvaluateOptions,
    aggregate: str = "similarities",
    embed_texts: TextEmbedder | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Score a split zero-shot and write report and score table into the run's folder.

    Args:
        run: The run; `ctclip embed` wrote its embeddings of the split, and of "val" where thresholds come from it.
        cohort: All its splits.
        split: train | val | test.
        prompts: Texts by finding.
        options: Thresholds, bootstrap.
        aggregate: similarities | embeddings.
        embed_texts: The run's text tower; opened on `device` when not given.
        device: Where prompts are embedded.

    Raises:
        EvaluationError: Embeddings that are missing or of another checkpoint; anything `report_scores` refuses.
    """
    embedder = embed_texts or TextEmbedder(run, device=device)

    def table_of(name: str) -> ScoreTable:
        return score_split(run, cohort, name, prompts=prompts, embed_texts=embedder, aggregate=aggregate)

    table = table_of(split)
    validation = table_of("val") if options.threshold_from == "val" else None
    report = report_scores(table, options=options, validation=validation)
    replace_file(scores_path(run, split), json.dumps(report, indent=1).encode())
    save_scores(table, scores_path(run, split).with_suffix(".npz"))
    return report


def _embeddings_of(run: Path, split: str, embed_texts: TextEmbedder) -> Embeddings:
    path = embeddings_path(run, split)
    embeddings = read_embeddings(path)
    if embeddings.checkpoint != embed_texts.checkpoint:
        raise EvaluationError(
            f"these embeddings are of checkpoint {embeddings.checkpoint[:12]}, the run's newest is "
            f"{embed_texts.checkpoint[:12]}; run `ctclip embed --split {split}` again",
            path=path,
        )
    return embeddings


def read_config(run: Path) -> TrainConfig:
    """The configuration of a run.

    Raises:
        ConfigError: The folder holds no run, or its config.json is not one.
    """
    path = run / "config.json"
    if not path.is_file():
        raise ConfigError("no run here, config.json is missing; name the folder of `ctclip train --out`", path=run)
    return from_json(path.read_text(encoding="utf-8"), TrainConfig, path=path)


def packed_cohort(cohort: Cohort, embeddings: Embeddings, run: Path) -> Cohort:
    """The cohort, less the studies that were not packed where the run was told to leave such out."""
    if read_config(run).data.unpacked == "error":
        return cohort
    embedded = set(embeddings.study)
    return cohort.take(np.array([row for row, study in enumerate(cohort.studies) if study in embedded]))
