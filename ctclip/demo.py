"""`ctclip demo`: the whole path in minutes. Phantoms are made and packed, a small dual encoder is trained through the
real loader, held-out phantoms are scored zero-shot, and one HTML page shows it all.

Every stage leaves its files in one folder and is skipped or resumed when the command is run again, so an
interrupted demo goes on. All of it is synthetic, and the page says so.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.phantom import TABLE_NAME, make_phantom_cohort, read_phantom
from ctclip.config import TrainConfig, preset
from ctclip.demo_page import write_demo_page
from ctclip.embed import embed_split, write_embeddings
from ctclip.errors import ConfigError
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import DEMO_FINDINGS, DEMO_SECTIONS, Knobs
from ctclip.prompts import default_prompts
from ctclip.protocol import EvaluateOptions
from ctclip.run_evaluation import evaluate_run
from ctclip.score_text import format_report
from ctclip.scoring import embeddings_path
from ctclip.training import train
from ctload.packing import pack


@dataclass(frozen=True)
class DemoConfig:
    """Phantoms -> store -> training -> zero-shot scores -> one HTML page."""

    out: Path = Path("runs/demo")
    """Folder of everything the demo makes."""
    num_train: int = 1200
    """Phantoms to train on."""
    num_val: int = 150
    """Phantoms that choose the thresholds."""
    num_test: int = 450
    """Held-out phantoms that are scored."""
    steps: int = 500
    """Optimizer steps, 16 phantoms each."""
    seed: int = 0
    """Of phantoms, weights and batches."""
    workers: int = 2
    """Processes that make and pack phantoms."""
    threads: int = 2
    """CPU threads of the training."""


# 28 x 38 x 38 cm of abdomen at a resolution where a step takes half a second on two cores.
GRID = Grid((40, 64, 64), (7.0, 6.0, 6.0))


def main(words: list[str]) -> int:
    """Run the demo and print the page's path."""
    config = tyro.cli(DemoConfig, args=words, prog="ctclip demo")
    page = run_demo(config)
    print(f"\npage: {page}\nscores: {page.with_name('scores.json')}")
    return 0


def run_demo(config: DemoConfig) -> Path:
    """Run all stages; the page's path.

    Raises:
        ConfigError: The folder holds a demo with other settings.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    _refuse_other_demo(config)
    seconds: dict[str, float] = {}
    cohort = _timed("phantoms", seconds, lambda: _make_phantoms(config))
    store = _timed("pack", seconds, lambda: _pack(config))
    run = _timed("train", seconds, lambda: _train(config, store))
    _timed("embed", seconds, lambda: _embed(run, cohort, store))
    report = _timed("evaluate", seconds, lambda: _evaluate(run, cohort))
    print("\n" + format_report(report))
    (config.out / "scores.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return write_demo_page(
        config.out / "demo.html", cohort=cohort, store=store, run=run, report=report, seconds=seconds
    )


def _refuse_other_demo(config: DemoConfig) -> None:
    """One folder holds one demo: its settings are written first and must not change, but for processes."""
    path = config.out / "demo.json"
    settings = {name: value for name, value in asdict(config).items() if name not in ("out", "workers")}
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise ConfigError("this folder holds a demo with other settings; give another --out, or delete it", path=path)
    path.write_text(json.dumps(settings), encoding="utf-8")


def _timed(stage: str, seconds: dict[str, float], work: Any) -> Any:
    print(f"== {stage}", flush=True)
    started = time.perf_counter()
    result = work()
    seconds[stage] = time.perf_counter() - started
    return result


def _make_phantoms(config: DemoConfig) -> Cohort:
    folder = config.out / "phantoms"
    if (folder / TABLE_NAME).exists():
        return _scored_findings(read_phantom(folder))
    total = config.num_train + config.num_val + config.num_test
    making = folder.with_name("phantoms.partial")
    _remove(making)
    make_phantom_cohort(
        making,
        total,
        seed=config.seed,
        grid=GRID,
        knobs=Knobs.demo(),
        splits={name: getattr(config, f"num_{name}") / total for name in ("train", "val", "test")},
        format="nii",
        workers=config.workers,
        progress=lambda rows: tqdm(rows, total=total, unit="study", desc="phantoms"),
    )
    making.rename(folder)
    return _scored_findings(read_phantom(folder))


def _scored_findings(cohort: Cohort) -> Cohort:
    """The cohort with the findings that the demo's phantoms have at all; the others are absent in every one."""
    return replace(cohort, findings=tuple(name for name in cohort.findings if name in DEMO_FINDINGS))


def _remove(folder: Path) -> None:
    """Delete what an interrupted demo left of its phantoms."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if folder.exists():
        folder.rmdir()


def _pack(config: DemoConfig) -> Path:
    store = config.out / "store.zarr"
    report = pack([config.out / "phantoms" / TABLE_NAME], store, preset="native", workers=config.workers)
    print(f"{store}: packed {len(report.packed)}, reused {len(report.reused)}, refused {len(report.refused)}")
    for refusal in report.refused:
        raise ConfigError(f"a phantom was refused ({refusal.code}): {refusal.reason}", study=refusal.study)
    return store


def _train_config(config: DemoConfig, store: Path) -> TrainConfig:
    trained = preset(
        "tiny",
        cohort=f"phantom:{config.out / 'phantoms'}",
        store=str(store),
        out=str(config.out / "run"),
        steps=config.steps,
        seed=config.seed,
        threads=config.threads,
    )
    # Sections in which every phantom is normal teach nothing; a batch of them would be a step lost.
    return replace(trained, data=replace(trained.data, sections=DEMO_SECTIONS))


def _train(config: DemoConfig, store: Path) -> Path:
    result = train(_train_config(config, store))
    if result.was_stopped:
        raise ConfigError(
            f"training was stopped at step {result.steps} of {config.steps}; run the same command again to go on",
            path=result.run,
        )
    return result.run


def _embed(run: Path, cohort: Cohort, store: Path) -> None:
    for split in ("val", "test"):
        embeddings = embed_split(run, cohort=cohort, store=store, split=split)
        write_embeddings(embeddings, embeddings_path(run, split))


def _evaluate(run: Path, cohort: Cohort) -> dict[str, Any]:
    options = EvaluateOptions(threshold_from="val", threshold_rule="f1")
    return evaluate_run(run, cohort, "test", prompts=default_prompts(cohort.findings), options=options)
