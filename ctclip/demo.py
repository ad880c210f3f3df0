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

from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.data import has_dali
from ctclip.embed import embed_split, write_embeddings
from ctclip.errors import ConfigError
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.run_report import evaluate_run
from ctclip.evaluation.score_text import format_report
from ctclip.evaluation.scoring import embeddings_path
from ctclip.pages.demo_page import write_demo_page
from ctclip.phantom_store import PhantomOrder, ensure_phantoms, ensure_store
from ctclip.presets import preset
from ctclip.texts.prompts import default_prompts
from ctclip.training.loop import train


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
    order = _order(config)
    cohort = _timed("phantoms", seconds, lambda: ensure_phantoms(order))
    store = _timed(
        "pack", seconds, lambda: ensure_store(order.folder, config.out / "store.zarr", workers=config.workers)
    )
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


def _order(config: DemoConfig) -> PhantomOrder:
    return PhantomOrder(
        config.out / "phantoms",
        config.num_train,
        config.num_val,
        config.num_test,
        seed=config.seed,
        workers=config.workers,
    )


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
    data = replace(trained.data, sections=_order(config).sections(), pipeline=_pipeline())
    return replace(trained, data=data)


def _pipeline() -> str:
    """DALI where it is installed, on the CPU too, since its path is what the demo shows."""
    return "dali" if has_dali() else "auto"


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
        embeddings = embed_split(run, cohort=cohort, store=store, split=split, pipeline=_pipeline())
        write_embeddings(embeddings, embeddings_path(run, split))


def _evaluate(run: Path, cohort: Cohort) -> dict[str, Any]:
    options = EvaluateOptions(threshold_from="val", threshold_rule="f1")
    return evaluate_run(run, cohort, "test", prompts=default_prompts(cohort.findings), options=options)
