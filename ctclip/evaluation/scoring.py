"""A run's scores: embeddings of a split and prompts in, scores_<split>.json and .npz in the run's folder out.

It touches no voxel. The embeddings must be of the checkpoint whose text tower embeds the prompts; that is checked.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.config_json import from_json
from ctclip.embed import Embeddings, TextEmbedder, read_embeddings
from ctclip.errors import ConfigError, EvaluationError
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.zeroshot import ScoreTable, save_scores, score_cohort
from ctclip.method_rows import anatomies_of
from ctclip.texts.anatomies import finding_place
from ctclip.texts.prompts import PromptSet
from ctload.storage.durable import replace_file


def part_name(own: str, asked: str | None, split: str) -> str:
    """The name of a split's files in a run's folder: the split where the cohort is the run's own, else the cohort too.

    Args:
        own: The run's cohort, "KIND:PLACE".
        asked: Another one; None for the run's own.
        split: train | val | test.

    Example:
        >>> part_name("merlin:/data/merlin", None, "test")
        'test'
    """
    if not asked or _whole_source(asked) == _whole_source(own):
        return split
    kind, _, place = asked.partition(":")
    words = re.sub(r"[^0-9A-Za-z]+", "-", f"{kind} {Path(place).stem}").strip("-")
    return f"{words}-{xxhash.xxh3_64_hexdigest(_whole_source(asked).encode())[:6]}_{split}"


def _whole_source(source: str) -> str:
    kind, _, place = source.partition(":")
    return f"{kind}:{Path(place).absolute()}"


def embeddings_path(run: Path, part: str) -> Path:
    """Where a run keeps the embeddings of a part (`part_name`)."""
    return run / "embeddings" / f"{part}.npz"


def scores_path(run: Path, part: str) -> Path:
    """Where a run keeps the report of a part; the score table lies beside it as .npz."""
    return run / f"scores_{part}.json"


def score_split(
    run: Path,
    cohort: Cohort,
    split: str,
    *,
    prompts: PromptSet,
    embed_texts: TextEmbedder,
    aggregate: str,
    source: str | None = None,
) -> ScoreTable:
    """The score table of one split from the run's embeddings. Arguments as in `score_run`.

    Raises:
        EvaluationError: No embeddings, or embeddings of another checkpoint or of other studies.
    """
    embeddings = _embeddings_of(run, split, embed_texts, source)
    return score_cohort(
        embeddings.image,
        embeddings.study,
        cohort=packed_cohort(cohort.split(split), embeddings, run),
        prompts=prompts,
        embed_texts=embed_texts,
        aggregate=aggregate,
        apart=finding_images(embeddings, cohort.findings, read_config(run)),
    )


def finding_images(embeddings: Embeddings, findings: Sequence[str], config: TrainConfig) -> dict[str, np.ndarray]:
    """Finding -> (N, E) of its anatomy, for a run that looks at anatomies apart; empty for others.

    A finding without an anatomy in the run's set is not in it: it is scored on the mean over anatomies.
    """
    if embeddings.anatomy is None:
        return {}
    places = {finding: finding_place(finding, anatomies_of(config)) for finding in findings}
    return {finding: embeddings.anatomy[:, place] for finding, place in places.items() if place is not None}


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
    source: str | None = None,
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
        source: "KIND:PLACE" of the cohort where it is not the run's own; it is in the files' names.

    Raises:
        EvaluationError: Embeddings that are missing or of another checkpoint; anything `report_scores` refuses.
    """
    embedder = embed_texts or TextEmbedder(run, device=device)

    def table_of(name: str) -> ScoreTable:
        return score_split(run, cohort, name, prompts=prompts, embed_texts=embedder, aggregate=aggregate, source=source)

    table = table_of(split)
    validation = table_of("val") if options.threshold_from == "val" else None
    report = report_scores(table, options=options, validation=validation)
    path = scores_path(run, part_of_run(run, source, split))
    replace_file(path, json.dumps(report, indent=1).encode())
    save_scores(table, path.with_suffix(".npz"))
    return report


def part_of_run(run: Path, source: str | None, split: str) -> str:
    """`part_name` for the run in a folder."""
    return split if source is None else part_name(read_config(run).cohort, source, split)


def _embeddings_of(run: Path, split: str, embed_texts: TextEmbedder, source: str | None) -> Embeddings:
    path = embeddings_path(run, part_of_run(run, source, split))
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
