"""`ctclip study`: a grid from a command line, one cell of it, or its tables and page again."""

import argparse
import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.source import read_cohort
from ctclip.config import TrainConfig
from ctclip.errors import StudyError
from ctclip.phantom_store import PhantomOrder, ensure_phantoms, ensure_store
from ctclip.presets import PRESETS, preset
from ctclip.reports.sections import SECTIONS
from ctclip.study.arm import KINDS, RATIOS, arms_of
from ctclip.study.cell_run import read_result, run_cell
from ctclip.study.effects import detectable_from_pilot
from ctclip.study.execution import batch_commands, estimate_cost, run_cells
from ctclip.study.grid import Cell, StudyConfig, cells_of, read_study, write_study
from ctclip.study.planning import plan_study
from ctclip.study.record import note_command, write_record
from ctclip.study.reuse import reuse_cells
from ctclip.study.study_page import write_study_page
from ctclip.study.summary import PRIMARY, read_finished, summarise
from ctload.storage.durable import replace_file

PHANTOM, TABLE = "phantom:", "table:"
NUM_PILOT = 2  # seeds of the first arm that run before all else, to say what the grid could find
COLUMNS = (
    "study", "strategy", "fraction", "objective", "seed", "macro_auroc", "macro_f1", "unique_studies", "steps",
    "cohort", "commit", "date",
)  # fmt: skip


def main(words: list[str]) -> int:
    """Run one of the study's verbs; exit status 0."""
    verbs = {"cell": _cell, "page": _page, "record": _record}
    if words and words[0] in verbs:
        return verbs[words[0]](words[1:])
    return _grid(words)


def write_tables(study: StudyConfig, folder: Path) -> dict[str, Any]:
    """Write summary.json, cells.csv and study.html from the finished cells; the summary."""
    summary = summarise(study, folder)
    replace_file(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False).encode())
    rows = [_row(study, cell, result) for cell in cells_of(study, folder) if (result := read_result(folder, cell))]
    with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([row[name] for name in COLUMNS] for row in rows)
    write_study_page(study, folder, summary)
    return summary


def format_summary(summary: dict[str, Any]) -> str:
    """Effects and verdicts as lines for the terminal."""
    reference = summary["reference"]
    lines = [f"{reference['arm']}: macro AUROC {reference['macro_auroc']:.3f} ({reference['asked']:.2f} asked)"]
    if summary["is_synthetic"]:
        lines.append("SYNTHETIC cohort: nothing here speaks of patients")
    width = max([5, *(len(title) for title in summary["arms"])])
    lines.append(f"\n{'arm':<{width}}  seeds  macro F1          macro AUROC")
    for title, arm in summary["arms"].items():
        f1, auroc = arm["scores"]["f1"], arm["scores"]["auroc"]
        lines.append(f"{title:<{width}}  {len(arm['seeds']):>5}  {_mean(f1):<16}  {_mean(auroc)}")
    lines.append(f"\ndifferences in {PRIMARY} (macro)")
    for effect in summary["effects"][PRIMARY]:
        interval = "" if effect["low"] is None else f" [{effect['low']:+.3f}, {effect['high']:+.3f}]"
        p = "" if effect["p_holm"] is None else f", p (Holm) {effect['p_holm']:.4f}"
        lines.append(f"  {effect['name']}: {effect['value']:+.3f}{interval}{p}   ({effect['meaning']})")
    stamp = " (phantom)" if summary["is_synthetic"] else ""
    lines += [f"  claim: {claim['claim']} -> {claim['verdict']}{stamp}" for claim in summary["claims"]]
    return "\n".join(lines)


def pilot_text(study: StudyConfig, folder: Path) -> str:
    """What difference the whole grid could find, from the finished seeds of its first arm."""
    first = read_finished(study, folder)[study.arms[0].title]
    smallest = detectable_from_pilot(first.macro(PRIMARY, first.seeds), num_seeds=len(study.seeds))
    if math.isnan(smallest):
        return "one seed alone cannot say what difference the grid could find"
    return (
        f"from {len(first.seeds)} seeds of {study.arms[0].title}: with {len(study.seeds)} seeds a difference of "
        f"{smallest:.3f} in macro F1 is found with 80 % power (an upper bound; pairing takes variance away)"
    )


def _grid(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ctclip study",
        description="Run many controlled trainings and compare them. Further options change what all cells share, as "
        "in `ctclip train` (--steps 600 --data.batch-size 8 ...). `ctclip study cell --out DIR --name NAME` runs one "
        "cell, `ctclip study page --out DIR` writes tables and page again, `ctclip study record --out DIR --to FOLDER` "
        "the text files that a repository keeps.",
        allow_abbrev=False,
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study; it goes on where it stands")
    parser.add_argument("--cohort", required=True, help="phantom:DIR (made where missing), table:FILE, merlin:DIR ...")
    parser.add_argument("--store", help="store of the cohort's volumes (phantoms: DIR.zarr, packed where missing)")
    parser.add_argument("--preset", default="tiny", choices=sorted(PRESETS))
    parser.add_argument("--seeds", type=int, default=5, help="paired seeds 0, 1, ... of every arm")
    parser.add_argument("--ratios", nargs="+", default=list(RATIOS), help="normal:abnormal")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.2, 0.4, 1.0])
    parser.add_argument("--objectives", nargs="+", default=["clip"], help="terms joined by +: clip offclip ...")
    parser.add_argument("--findings", nargs="+", default=[], help="scored findings (default: all of the cohort)")
    parser.add_argument("--prompts", default="", help="JSON of prompts by finding")
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="cells at once")
    parser.add_argument(
        "--reuse", nargs="+", type=Path, default=[], help="folders of studies: their equal cells are copied"
    )
    parser.add_argument("--list", action="store_true", help="print one command per cell and stop")
    parser.add_argument("--plan", action="store_true", help="check the grid, print its cost and stop")
    parser.add_argument("--smoke", action="store_true", help="two seeds, a few steps: minutes, no verdict worth having")
    parser.add_argument("--phantoms", type=int, nargs=3, default=(1200, 150, 450), metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--phantom-knobs", default="study", help="study | demo | realistic | null | planted:75:25 ...")
    args, rest = parser.parse_known_args(words)
    if args.smoke:
        args.seeds, args.phantoms, args.bootstraps = 2, (96, 32, 48), 200
    cohort, study = _ordered(args, rest)
    study = plan_study(study, cohort, args.out)
    write_study(study, args.out)
    cells = cells_of(study, args.out)
    if args.reuse:
        taken = [str(one) for one in reuse_cells(study, args.out, args.reuse, cohort=cohort)]
        print("\n".join(taken or ["no other study has a finished cell of this one"]), file=sys.stderr)
    if args.list:
        print(batch_commands(args.out, cells))
        return 0
    print(f"{study.kind}: {len(study.arms)} arms x {len(study.seeds)} seeds, {study.base.steps} steps each")
    print(f"  sections: {', '.join(study.base.data.sections)}")
    print(f"  {estimate_cost(args.out, cells, jobs=args.jobs, cohort=cohort)}", flush=True)
    if not args.plan:
        note_command(args.out, words)
        _run(study, args.out, cells, args.jobs)
    return 0


def _ordered(args: argparse.Namespace, rest: list[str]) -> tuple[Cohort, StudyConfig]:
    """The cohort, made where it is a phantom that is not there, and the study as asked."""
    arms = arms_of(
        args.kind,
        ratios=tuple(args.ratios),
        fractions=tuple(args.fractions),
        objectives=tuple(tuple(words.split("+")) for words in args.objectives),
    )
    store, sections = args.store, SECTIONS
    named = tuple(args.findings) if args.cohort.startswith(TABLE) else ()
    if args.cohort.startswith(PHANTOM):
        folder = Path(args.cohort.removeprefix(PHANTOM))
        num_train, num_val, num_test = args.phantoms
        order = PhantomOrder(folder, num_train, num_val, num_test, knobs=args.phantom_knobs)
        cohort = ensure_phantoms(order)
        store = store or str(folder.with_suffix(".zarr"))
        ensure_store(folder, Path(store), workers=order.workers)
        sections = order.sections()
    else:
        cohort = read_cohort(args.cohort, findings=named)
    if not store:
        raise StudyError("no store was given; make one with `ctload pack TABLE --out STORE` and pass --store STORE")
    start = preset(args.preset, cohort=args.cohort, store=store, findings=named)
    start = replace(start, data=replace(start.data, sections=sections))
    if args.smoke:
        start = replace(start, steps=8, data=replace(start.data, batch_size=8))
    base = tyro.cli(TrainConfig, default=start, args=rest, prog="ctclip study")
    study = StudyConfig(
        kind=args.kind,
        base=base,
        arms=arms,
        seeds=tuple(range(args.seeds)),
        findings=tuple(args.findings) or cohort.findings,
        prompts=args.prompts,
        num_bootstraps=args.bootstraps,
    )
    return cohort, study


def _run(study: StudyConfig, folder: Path, cells: tuple[Cell, ...], jobs: int) -> None:
    done = [0]

    def tell(cell: Cell, state: str) -> None:
        done[0] += state == "done"
        print(f"  {state:<7} {cell.arm.title}, seed {cell.seed}   ({done[0]} done now)", flush=True)

    pilot = [cell for cell in cells if cell.arm == study.arms[0]][:NUM_PILOT]
    run_cells(folder, pilot, jobs=jobs, told=tell)
    print(f"  {pilot_text(study, folder)}", flush=True)
    run_cells(folder, cells, jobs=jobs, told=tell)
    print("\n" + format_summary(write_tables(study, folder)))
    print(f"\npage: {(folder / 'study.html').resolve()}\ntables: summary.json, cells.csv beside it")


def _cell(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ctclip study cell", description="Run one cell of a study.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--name", required=True, help="of the cell, as --list prints it")
    args = parser.parse_args(words)
    study = read_study(args.out)
    found = [cell for cell in cells_of(study, args.out) if cell.name == args.name]
    if not found:
        raise StudyError(f"no cell {args.name!r} in this study; `ctclip study {study.kind} ... --list` prints them")
    result = run_cell(study, found[0], args.out, wait_s=math.inf)
    print(f"{found[0].name}: macro AUROC {result['macro']['auroc']:.3f}, macro F1 {result['macro']['f1']:.3f}")
    return 0


def _page(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ctclip study page", description="Tables and page of what is finished.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    args = parser.parse_args(words)
    study = read_study(args.out)
    print(format_summary(write_tables(study, args.out)))
    return 0


def _record(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ctclip study record", description="Text files of a study, to be committed.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--to", type=Path, required=True, help="folder of the record")
    parser.add_argument("--command", default="", help="that made the study, where its commands.txt is missing")
    args = parser.parse_args(words)
    study = read_study(args.out)
    summary = write_tables(study, args.out)
    for path in write_record(study, args.out, args.to, summary=summary, command=args.command):
        print(f"{path}  {path.stat().st_size} bytes")
    return 0


def _row(study: StudyConfig, cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
    cohort = study.base.cohort.split(":", 1)[0]
    schedule = "" if cell.arm.schedule == "alternate" else f" schedule={cell.arm.schedule}"
    return {
        "study": study.kind,
        "strategy": cell.arm.strategy + schedule,
        "fraction": cell.arm.fraction,
        "objective": "+".join(cell.arm.objective),
        "seed": cell.seed,
        "macro_auroc": f"{result['macro']['auroc']:.6f}",
        "macro_f1": f"{result['macro']['f1']:.6f}",
        "unique_studies": result["exposure"]["unique_studies"],
        "steps": result["exposure"]["steps"],
        "cohort": cohort,
        "commit": result["commit"],
        "date": result["date"],
    }


def _mean(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f}" + ("" if score["sd"] is None else f" (sd {score['sd']:.3f})")
