"""`ctclip evaluate` as a function: every score of a run's split into one JSON file and one page in its folder.

Scores, retrieval, wording and collapse come from embeddings; only the pointing game reads voxels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctclip.cohorts.cohort import Cohort
from ctclip.embed import TextEmbedder, read_embeddings
from ctclip.evaluation.diagnostics import PARTS, diagnose
from ctclip.evaluation.pointing_game import PointingOptions, play_pointing_game
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.scoring import embeddings_path, packed_cohort, part_of_run, read_config, score_run, scores_path
from ctclip.pages.evaluation_page import write_evaluation_page
from ctclip.texts.prompts import PromptSet
from ctload.storage.durable import replace_file


def evaluate_run(
    run: Path,
    cohort: Cohort,
    split: str,
    *,
    prompts: PromptSet,
    options: EvaluateOptions,
    aggregate: str = "similarities",
    parts: Sequence[str] = PARTS,
    pointing: PointingOptions | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    source: str | None = None,
) -> dict[str, Any]:
    """Evaluate a split and write scores_<part>.json, .npz and evaluation_<part>.html into the run's folder; the part is
    the split, with the name of the cohort where that is not the run's own.

    Args:
        run: The run; `ctclip embed` wrote its embeddings of the split, and of "val" where thresholds come from it.
        cohort: All its splits.
        split: train | val | test.
        prompts: Texts by finding.
        options: Thresholds, bootstrap.
        aggregate: similarities | embeddings.
        parts: Of `ctclip.evaluation.diagnostics.PARTS`.
        pointing: How to play the pointing game; None leaves it out.
        store: Of the label maps for the pointing game; the run's own when not given.
        device: Where prompts and volumes are embedded.
        source: "KIND:PLACE" of the cohort where it is not the run's own; it is in the files' names.

    Raises:
        EvaluationError: Embeddings that are missing, damaged or of another checkpoint; no label maps for the pointing
            game; anything that `report_scores` refuses.
    """
    embed_texts = TextEmbedder(run, device=device)
    part = part_of_run(run, source, split)
    report = score_run(
        run, cohort, split, prompts=prompts, options=options, aggregate=aggregate, embed_texts=embed_texts,
        source=source,
    )  # fmt: skip
    embeddings = read_embeddings(embeddings_path(run, part))
    chosen = packed_cohort(cohort.split(split), embeddings, run)
    row_of = {study: row for row, study in enumerate(embeddings.study)}
    images = embeddings.image[[row_of[study] for study in chosen.studies]]
    report |= diagnose(images, chosen, prompts=prompts, embed_texts=embed_texts, options=options, parts=parts)
    report["stamp"]["checkpoint"] = embeddings.checkpoint
    if pointing is not None:
        report["pointing"] = play_pointing_game(
            run, chosen, store=store or read_config(run).store, prompts=prompts, embed_texts=embed_texts,
            options=options, pointing=pointing, device=device,
        )  # fmt: skip
    replace_file(scores_path(run, part), json.dumps(report, indent=1, allow_nan=False).encode())
    write_evaluation_page(run, part)
    return report
