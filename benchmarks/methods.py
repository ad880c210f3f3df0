"""`python -m benchmarks.methods EFFECT`: do the methods do what they say? The runs of results/methods_plan.md.

EFFECT is offclip, mococlip or cagcl; every arm and seed is a cell of its own in --scratch, and a call goes on where the
last one ended. When the last cell is there, the paired differences with their t intervals are appended to
benchmarks/results/methods.csv. Everything is on phantoms.
"""

import argparse
import csv
import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.rows import RESULTS, commit_hash
from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.phantom import TABLE_NAME, make_phantom_cohort, read_phantom
from ctclip.config import PRESETS, TrainConfig
from ctclip.embed import TextEmbedder, embed_split
from ctclip.evaluation.collapse import collapse_report
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.robustness import macro_by_template
from ctclip.evaluation.scoring import finding_images
from ctclip.evaluation.zeroshot import score_cohort
from ctclip.method_rows import anatomies_of
from ctclip.objectives.parameters import (
    AnatomyParameters,
    CagclParameters,
    FvlmParameters,
    LocalParameters,
    MococlipParameters,
    MomentumParameters,
)
from ctclip.phantom.knobs import DEMO_FINDINGS, DEMO_SECTIONS, Knobs
from ctclip.phantom_store import GRID, ensure_store
from ctclip.reports.sections import clean_text
from ctclip.texts.anatomy_texts import report_anatomy_texts
from ctclip.texts.prompts import default_prompts
from ctclip.training.loop import train
from ctload.storage.durable import replace_file

SEEDS = (0, 1, 2, 3, 4)
SPLITS = {"train": 1200 / 1800, "val": 150 / 1800, "test": 450 / 1800}
MAX_TEXTS = 64  # distinct validation texts of an anatomy, for the collapse metric
CUT = AnatomyParameters(needs_whole=False)  # an abdomen's aorta and bones always reach a face
COLUMNS: tuple[str, ...] = (
    "effect", "metric", "method", "control", "studies", "steps", "batch", "seeds", "method_values", "control_values",
    "difference", "low", "high", "verdict", "date", "commit",
)  # fmt: skip
Scores = dict[str, float]


def arms_of(effect: str, base: TrainConfig) -> dict[str, TrainConfig]:
    """The method first, then its control; they share all but the objective."""
    if effect == "offclip":
        return {"offclip": replace(base, objective=("offclip",)), "clip": base}
    if effect == "mococlip":
        momentum = 1 - 20 / base.steps
        parameters = MococlipParameters(image=MomentumParameters(momentum=momentum))
        base = replace(base, data=replace(base.data, augment=PRESETS["mococlip"].data.augment))
        return {"mococlip": replace(base, objective=("mococlip",), mococlip=parameters), "clip": base}
    local = LocalParameters(reduction="mean")
    return {
        "cagcl": replace(base, objective=("cagcl",), cagcl=CagclParameters(local=local, anatomy=CUT)),
        "fvlm": replace(base, objective=("fvlm",), fvlm=FvlmParameters(local=local, anatomy=CUT)),
    }


# Effect -> metric -> the side that its method's authors state.
CLAIMS = {
    "offclip": {"normal_auc": 1, "macro_auroc": 0},
    "mococlip": {"macro_auroc": 1},
    "cagcl": {"text_sd": 1, "template_sd": -1, "macro_auroc": 0},
}
SHAPES = {"offclip": (16, 300), "mococlip": (2, 2000), "cagcl": (16, 300)}  # batch, steps of the plan


def score_run(config: TrainConfig, cohort: Cohort) -> Scores:
    """Every metric of a finished run on the test split."""
    embed_texts = TextEmbedder(config.out, device="cpu")
    found = embed_split(config.out, cohort=cohort, store=config.store, split="test", device="cpu", is_quiet=True)
    test = cohort.split("test")
    apart = finding_images(found, test.findings, config)
    prompts = default_prompts(test.findings)
    table = score_cohort(found.image, found.study, cohort=test, prompts=prompts, embed_texts=embed_texts, apart=apart)
    report = report_scores(table, options=EvaluateOptions(num_bootstraps=20))
    scores = {
        "macro_auroc": report["macro"]["auroc"]["value"],
        "normal_auc": report["normal"]["normal_auc"]["value"],
    }
    if found.anatomy is not None:
        templates = macro_by_template(
            found.image, found.study, cohort=test, embed_texts=embed_texts, options=EvaluateOptions(num_bootstraps=20),
            apart=apart,
        )  # fmt: skip
        scores["template_sd"] = float(templates.macro[:-1].std(ddof=1))
        scores["text_sd"] = text_spread(config, cohort.split("val"), embed_texts)
    return {name: float(value) for name, value in scores.items()}


def text_spread(config: TrainConfig, cohort: Cohort, embed_texts: TextEmbedder) -> float:
    """Standard deviation of the cosines between texts of different anatomies."""
    anatomies = anatomies_of(config)
    texts: dict[str, dict[str, None]] = {anatomy.name: {} for anatomy in anatomies}
    for report in cohort.reports:
        for anatomy, text in zip(anatomies, report_anatomy_texts(report, anatomies), strict=True):
            texts[anatomy.name][clean_text(" ".join(text.sentences))] = None
    chosen = [(name, text) for name, found in texts.items() for text in list(found)[:MAX_TEXTS]]
    vectors = embed_texts([text for _, text in chosen])
    return float(collapse_report(vectors, [name for name, _ in chosen])["sd"])


def run_cell(folder: Path, config: TrainConfig, cohort: Cohort) -> dict[str, Any]:
    """Train and score, or find the result; what was interrupted goes on from its checkpoint."""
    path = folder / "result.json"
    if not path.exists():
        config = replace(config, out=str(folder / "run"))
        trained = train(config, cohort=cohort, is_quiet=True)
        if trained.was_stopped:
            raise SystemExit(f"{folder} was stopped at step {trained.steps}; the same command goes on")
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines]
        result = {"scores": score_run(config, cohort), "first_loss": losses[0], "last_loss": losses[-1]}
        replace_file(path, json.dumps(result, indent=1).encode())
        shutil.rmtree(folder / "run" / "checkpoints")
    return json.loads(path.read_text(encoding="utf-8"))


def paired_interval(difference: np.ndarray, *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences and its t interval.

    Example:
        >>> [round(value, 3) for value in paired_interval(np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.484, 4.484]
    """
    half = stats.t.ppf((1 + level) / 2, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
    mean = float(difference.mean())
    return mean, mean - float(half), mean + float(half)


def verdict_of(results: list[list[dict[str, Any]]], side: int, low: float, high: float) -> str:
    """What the plan calls the outcome.

    Args:
        results: Of the method's cells and of the control's.
        side: +1, -1, or 0 where none is stated.
        low: Lower end of the interval.
        high: Upper end.
    """
    is_falling = all(cell["last_loss"] < cell["first_loss"] for cells in results for cell in cells)
    if not is_falling or np.mean([cell["scores"]["macro_auroc"] for cell in results[1]]) <= 0.6:
        return "not trained"
    if side == 0:
        return "secondary"
    if low > 0 or high < 0:
        return "shown" if (low > 0) == (side > 0) else "against"
    return "not shown"


def ensure_cohort(scratch: Path, num_studies: int, workers: int) -> tuple[Cohort, Path]:
    """The plan's phantoms and their store, made where they are missing."""
    folder = scratch / f"phantoms_{num_studies}"
    if not (folder / TABLE_NAME).exists():
        making = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(making, ignore_errors=True)
        knobs = Knobs.demo().changed(normal_share=0.25)
        make_phantom_cohort(
            making, num_studies, seed=0, grid=GRID, knobs=knobs, splits=SPLITS, format="nii", has_masks=True,
            workers=workers, progress=lambda rows: tqdm(rows, total=num_studies, desc="phantoms"),
        )  # fmt: skip
        making.rename(folder)
    cohort = replace(read_phantom(folder), findings=DEMO_FINDINGS)
    return cohort, ensure_store(folder, scratch / f"store_{num_studies}", workers=workers)


def run_effect(
    effect: str, scratch: Path, *, num_studies: int, steps: int, batch_size: int, seeds: tuple[int, ...], workers: int
) -> list[dict[str, Any]]:
    """All cells of an effect, then its rows."""
    cohort, store = ensure_cohort(scratch, num_studies, workers)
    tiny = PRESETS["tiny"]
    data = replace(tiny.data, batch_size=batch_size, sections=DEMO_SECTIONS)
    base = replace(
        tiny, store=str(store), data=data, steps=steps, device="cpu", precision="bfloat16",
        checkpoint_every=max(1, steps // 5), log_every=20,
    )  # fmt: skip
    arms = arms_of(effect, base)
    results: list[list[dict[str, Any]]] = [[] for _ in arms]
    for seed in seeds:
        for cells, (name, config) in zip(results, arms.items(), strict=True):
            folder = scratch / f"{effect}_{num_studies}_{steps}_{batch_size}" / f"{name}_seed{seed}"
            cells.append(run_cell(folder, replace(config, seed=seed), cohort))
            print(f"{folder.name}: {cells[-1]}", flush=True)
    return [_row(effect, metric, arms, results, base, num_studies, seeds) for metric in CLAIMS[effect]]


def _row(
    effect: str,
    metric: str,
    arms: dict[str, TrainConfig],
    results: list[list[dict[str, Any]]],
    base: TrainConfig,
    num_studies: int,
    seeds: tuple[int, ...],
) -> dict[str, Any]:
    method, control = (np.array([cell["scores"][metric] for cell in cells]) for cells in results)
    mean, low, high = paired_interval(method - control)
    names = list(arms)
    return {
        "effect": effect, "metric": metric, "method": names[0], "control": names[1], "studies": num_studies,
        "steps": base.steps, "batch": base.data.batch_size, "seeds": " ".join(map(str, seeds)),
        "method_values": " ".join(f"{value:.4f}" for value in method),
        "control_values": " ".join(f"{value:.4f}" for value in control),
        "difference": f"{mean:.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}",
        "verdict": verdict_of(results, CLAIMS[effect][metric], low, high),
        "date": date.today().isoformat(), "commit": commit_hash(),
    }  # fmt: skip


def append(rows: list[dict[str, Any]], path: Path) -> None:
    """Append the rows, with a header when the file is new; print them too."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("effect", choices=sorted(CLAIMS))
    parser.add_argument("--scratch", type=Path, default=Path("runs/methods"), help="phantoms, store and cells")
    parser.add_argument("--studies", type=int, default=1800, help="phantoms in all; the plan's unless given")
    parser.add_argument("--steps", type=int, help="of each run; the plan's unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--workers", type=int, default=2)
    words = parser.parse_args()
    batch_size, steps = SHAPES[words.effect]
    words.scratch.mkdir(parents=True, exist_ok=True)
    rows = run_effect(
        words.effect,
        words.scratch,
        num_studies=words.studies,
        steps=words.steps or steps,
        batch_size=batch_size,
        seeds=tuple(words.seeds),
        workers=words.workers,
    )
    append(rows, RESULTS / "methods.csv")


if __name__ == "__main__":
    main()
