"""`python -m benchmarks.methods EFFECT`: do the methods do what they say? The runs of results/methods_plan.md.

EFFECT is offclip, mococlip or cagcl, or mococlip-second, the plan's second try; every arm and seed is a cell of its own
in --scratch, and a call goes on where the last one ended. When the last cell is there, the paired differences with
their t intervals, and beside each seed the paired bootstrap over patients, are appended to
benchmarks/results/methods.csv. `--secondary` runs the plan's further arms as cells of their own beside the same
control. Everything is on phantoms.
"""

import argparse
import itertools
import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.method_scores import score_run, seed_interval, write_draws
from benchmarks.rows import RESULTS, append_table, commit_hash
from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.phantom import TABLE_NAME, make_phantom_cohort, read_phantom
from ctclip.config import TrainConfig
from ctclip.objectives.parameters import (
    AnatomyParameters,
    CagclParameters,
    FvlmParameters,
    GlobalParameters,
    LocalParameters,
    MococlipParameters,
    MomentumParameters,
)
from ctclip.phantom.knobs import DEMO_FINDINGS, DEMO_SECTIONS, Knobs
from ctclip.phantom_store import GRID, ensure_store
from ctclip.presets import PRESETS
from ctclip.texts.text_augmentation import TextAugmentation
from ctclip.training.loop import train
from ctload.storage.durable import replace_file

DRAWS_FILE = "draws.npz"
SEEDS = (0, 1, 2, 3, 4)
SPLITS = {"train": 1200 / 1800, "val": 150 / 1800, "test": 450 / 1800}
SECOND = "mococlip-second"
MILD: dict[str, Any] = {"translate_voxels": (1.0, 2.0, 2.0), "scale": (1.0, 1.1), "gamma": (0.8, 1.25)}
CUT = AnatomyParameters(needs_whole=False)  # an abdomen's aorta and bones always reach a face
COLUMNS: tuple[str, ...] = (
    "effect", "metric", "method", "control", "studies", "steps", "batch", "seeds", "method_values", "control_values",
    "difference", "low", "high", "seed_intervals", "verdict", "date", "commit",
)  # fmt: skip


def arms_of(effect: str, base: TrainConfig) -> dict[str, TrainConfig]:
    """The method first, then its control; they share all but the objective."""
    if effect == "offclip":
        return {"offclip": replace(base, objective=("offclip",)), "clip": base}
    if effect.startswith("mococlip"):
        momentum = 1 - 20 / base.steps
        image, augment = MomentumParameters(momentum=momentum), PRESETS["mococlip"].data.augment
        if effect == SECOND:
            image, augment = replace(image, queue=64), replace(augment, **MILD)
        parameters = MococlipParameters(image=image)
        base = replace(base, data=replace(base.data, augment=augment))
        return {"mococlip": replace(base, objective=("mococlip",), mococlip=parameters), "clip": base}
    local = LocalParameters(reduction="mean")
    return {
        "cagcl": replace(base, objective=("cagcl",), cagcl=CagclParameters(local=local, anatomy=CUT)),
        "fvlm": replace(base, objective=("fvlm",), fvlm=FvlmParameters(local=local, anatomy=CUT)),
    }


def secondary_arms(effect: str, base: TrainConfig) -> dict[str, TrainConfig]:
    """The plan's further arms, each beside the effect's own control; reported and not decisive.

    OFF-CLIP has none: the plan's `clip` on filtered texts is no objective that the trainer knows.
    """
    method, control = arms_of(effect, base).values()
    if effect == "offclip":
        return {}
    if effect.startswith("mococlip"):
        large = replace(control, data=replace(control.data, batch_size=16))
        return {"moco": replace(method, mococlip=replace(method.mococlip, mode="moco")), "clip_batch16": large}
    plain = TextAugmentation(permute=0, drop=0)
    return {
        "global_alone": replace(method, cagcl=replace(method.cagcl, texts=plain)),
        "augmentation_alone": replace(method, cagcl=replace(method.cagcl, across=GlobalParameters(weight=0))),
    }


# Effect -> metric -> the side that its method's authors state.
CLAIMS = {
    "offclip": {"normal_auc": 1, "macro_auroc": 0, "normal_auc_derived": 0, "fp_rate_normal": 0},
    "mococlip": {"macro_auroc": 1},
    SECOND: {"macro_auroc": 1},
    "cagcl": {"text_sd": 1, "template_sd": -1, "macro_auroc": 0, "text_mean": 0, "text_gap": 0, "text_rank": 0},
}
# Batch, steps and learning rate of the plan.
SHAPES = {
    "offclip": (16, 300, 1e-3),
    "mococlip": (2, 2000, 1e-3),
    SECOND: (4, 1000, 5e-4),
    "cagcl": (16, 300, 1e-3),
}
# The part of a loss that the plan's rule of a falling loss reads, where it is not the whole: a queue that fills makes
# MoCo's own term rise.
FALLING = {SECOND: "mococlip/itc"}


def run_cell(folder: Path, config: TrainConfig, cohort: Cohort, falling: str = "loss") -> dict[str, Any]:
    """Train and score, or find the result; what was interrupted goes on from its checkpoint.

    Args:
        folder: Of the cell.
        config: Of its training.
        cohort: All splits.
        falling: Name of the number in the run's metrics that is to fall; of a run without it, the loss.
    """
    path = folder / "result.json"
    if not path.exists():
        config = replace(config, out=str(folder / "run"))
        trained = train(config, cohort=cohort, is_quiet=True)
        if trained.was_stopped:
            raise SystemExit(f"{folder} was stopped at step {trained.steps}; the same command goes on")
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        losses = [line.get(falling, line["loss"]) for line in lines]
        scores, draws = score_run(config, cohort)
        write_draws(folder / DRAWS_FILE, draws)
        result = {"scores": scores, "first_loss": losses[0], "last_loss": losses[-1]}
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
    effect: str,
    scratch: Path,
    *,
    num_studies: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seeds: tuple[int, ...],
    workers: int,
    is_secondary: bool = False,
) -> list[dict[str, Any]]:
    """All cells of an effect, then its rows; of its secondary arms beside its control where asked for."""
    cohort, store = ensure_cohort(scratch, num_studies, workers)
    tiny = PRESETS["tiny"]
    data = replace(tiny.data, batch_size=batch_size, sections=DEMO_SECTIONS)
    base = replace(
        tiny, store=str(store), data=data, steps=steps, device="cpu", precision="bfloat16",
        optim=replace(tiny.optim, learning_rate=learning_rate), checkpoint_every=max(1, steps // 5), log_every=20,
    )  # fmt: skip
    (method, tried), (control, plain) = arms_of(effect, base).items()
    arms = {**(secondary_arms(effect, base) if is_secondary else {method: tried}), control: plain}
    folder = scratch / f"{effect}_{num_studies}_{steps}_{batch_size}"
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for seed in seeds:
        for name, config in arms.items():
            here = folder / f"{name}_seed{seed}"
            results[name].append(run_cell(here, replace(config, seed=seed), cohort, FALLING.get(effect, "loss")))
            print(f"{here.name}: {results[name][-1]}", flush=True)
    shared = {"effect": effect, "studies": num_studies, "steps": steps, "seeds": " ".join(map(str, seeds))}
    shared |= {"date": date.today().isoformat(), "commit": commit_hash()}
    rows = []
    for name, metric in itertools.product([name for name in arms if name != control], CLAIMS[effect]):
        cells = [(folder / f"{name}_seed{seed}", folder / f"{control}_seed{seed}") for seed in seeds]
        intervals = [seed_interval(ours / DRAWS_FILE, theirs / DRAWS_FILE, metric) for ours, theirs in cells]
        about = {"method": name, "control": control, "metric": metric, "batch": arms[name].data.batch_size}
        side = 0 if is_secondary else CLAIMS[effect][metric]
        rows.append({**shared, **about, **compare_arms([results[name], results[control]], metric, side, intervals)})
    return rows


def compare_arms(results: list[list[dict[str, Any]]], metric: str, side: int, intervals: list[str]) -> dict[str, Any]:
    """The numbers of a row: both arms' values by seed, their paired difference, each seed's bootstrap, the verdict."""
    method, control = (np.array([cell["scores"].get(metric, np.nan) for cell in cells]) for cells in results)
    mean, low, high = paired_interval(method - control)
    return {
        "method_values": " ".join(f"{value:.4f}" for value in method),
        "control_values": " ".join(f"{value:.4f}" for value in control),
        "difference": f"{mean:.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}",
        "seed_intervals": " ".join(intervals).strip(),
        "verdict": verdict_of(results, side, low, high),
    }  # fmt: skip


def append(rows: list[dict[str, Any]], path: Path) -> None:
    """Append the rows; print them too."""
    append_table(path, COLUMNS, rows)
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
    parser.add_argument("--secondary", action="store_true", help="the plan's further arms, beside the same control")
    words = parser.parse_args()
    if words.secondary and words.effect == "offclip":
        parser.error("offclip has no secondary arm here: no objective trains clip on filtered texts")
    batch_size, steps, learning_rate = SHAPES[words.effect]
    words.scratch.mkdir(parents=True, exist_ok=True)
    rows = run_effect(
        words.effect,
        words.scratch,
        num_studies=words.studies,
        steps=words.steps or steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seeds=tuple(words.seeds),
        workers=words.workers,
        is_secondary=words.secondary,
    )
    append(rows, RESULTS / "methods.csv")


if __name__ == "__main__":
    main()
