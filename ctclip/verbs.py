"""The verbs of the command line: words in, one call, printed lines out. The work is done elsewhere."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.source import read_cohort
from ctclip.data import config_cohort
from ctclip.embed import embed_split, write_embeddings
from ctclip.evaluation.compare import compare_runs, format_comparison
from ctclip.evaluation.diagnostics import PARTS
from ctclip.evaluation.pointing_game import MASK_KINDS, PointingOptions
from ctclip.evaluation.protocol import THRESHOLD_SOURCES, EvaluateOptions
from ctclip.evaluation.run_report import evaluate_run
from ctclip.evaluation.score_text import format_report
from ctclip.evaluation.scoring import embeddings_path, part_of_run, read_config, scores_path
from ctclip.evaluation.thresholds import RULES
from ctclip.evaluation.zeroshot import AGGREGATES
from ctclip.pages.comparison_page import write_comparison_page
from ctclip.pages.evaluation_page import evaluation_page_path
from ctclip.phantom.command import add_phantom_arguments, run_phantom
from ctclip.reports.command import add_reports_arguments, run_reports
from ctclip.scans.exporting import export_run
from ctclip.scans.scan_command import add_scan_arguments, embed_scans
from ctclip.texts.prompts import default_prompts, load_prompts
from ctclip.training.loop import train as train_run
from ctclip.training.words import config_of_words

SPLITS = ("train", "val", "test")


def train(words: list[str]) -> int:
    """`ctclip train --preset NAME | --config FILE --cohort C --store S --out RUN [--data.batch-size 8 ...]`."""
    config = config_of_words(
        words,
        prog="ctclip train",
        purpose="Train a dual encoder. A run that was stopped goes on from its last checkpoint.",
    )
    result = train_run(config)
    if config.steps == 0:
        print(f"the weights of {config.init} as a run, not trained; checkpoint {result.checkpoint}")
        return 0
    state = "stopped" if result.was_stopped else "done"
    print(f"{state} at step {result.steps}, loss {result.loss:.4f}; checkpoint {result.checkpoint}")
    return 0


def embed(words: list[str]) -> int:
    """`ctclip embed --run RUN --split SPLIT`: image embeddings of a split into RUN/embeddings/SPLIT.npz.

    `ctclip embed SCAN... --run RUN | --checkpoint merlin.pt`: of single NIfTI or DICOM studies into one .npz.
    """
    parser = argparse.ArgumentParser(prog="ctclip embed", description=embed.__doc__)
    _add_run_arguments(parser, is_required=False)
    add_scan_arguments(parser)
    parser.add_argument("--out", type=Path, help="with SCAN: file to write (default: <study>.npz)")
    parser.add_argument("--store", help="store of the volumes (default: the run's)")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--batch-size", type=int, help="studies at once (default: the training's)")
    parser.add_argument("--pipeline", choices=("auto", "numba", "dali", "reference"), default="auto")
    args = parser.parse_args(words)
    if args.scans or args.run is None:
        return embed_scans(args)
    config = read_config(args.run)
    embeddings = embed_split(
        args.run,
        cohort=_cohort_of(args),
        store=args.store or config.store,
        split=args.split,
        device=args.device,
        batch_size=args.batch_size,
        pipeline=args.pipeline,
    )
    path = write_embeddings(embeddings, embeddings_path(args.run, part_of_run(args.run, args.cohort, args.split)))
    print(f"{len(embeddings.study)} studies of split {args.split}: {path}")
    return 0


def evaluate(words: list[str]) -> int:
    """`ctclip evaluate --run RUN --split SPLIT`: zero-shot scores from embeddings, and a page of them."""
    parser = argparse.ArgumentParser(prog="ctclip evaluate", description=evaluate.__doc__)
    _add_run_arguments(parser)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--prompts", type=Path, help="JSON of prompts by finding (default: the project's own)")
    parser.add_argument("--thresholds", choices=THRESHOLD_SOURCES, default="argmax", help="val needs its embeddings")
    parser.add_argument("--rule", choices=RULES, default="corner", help="how val and test choose thresholds")
    parser.add_argument("--aggregate", choices=AGGREGATES, default="similarities")
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what to add to the scores (all)")
    parser.add_argument("--pointing", choices=MASK_KINDS, help="play the pointing game, the only part to read voxels,"
                        " on label maps that bear names of findings; the kind is what they show")  # fmt: skip
    parser.add_argument("--tolerance-mm", type=float, default=0.0, help="how far outside a mask still counts (0)")
    parser.add_argument("--store", help="store of the label maps (default: the run's)")
    args = parser.parse_args(words)
    cohort = _cohort_of(args)
    prompts = load_prompts(args.prompts) if args.prompts else default_prompts(cohort.findings)
    options = EvaluateOptions(
        threshold_from=args.thresholds, threshold_rule=args.rule, num_bootstraps=args.bootstraps, seed=args.seed
    )
    report = evaluate_run(
        args.run,
        cohort,
        args.split,
        prompts=prompts,
        options=options,
        aggregate=args.aggregate,
        parts=args.parts,
        pointing=PointingOptions(args.pointing, args.tolerance_mm) if args.pointing else None,
        store=args.store,
        device=args.device,
        source=args.cohort,
    )
    print(format_report(report))
    part = part_of_run(args.run, args.cohort, args.split)
    print(f"\nwritten: {scores_path(args.run, part)}\npage: {evaluation_page_path(args.run, part)}")
    return 0


def compare(words: list[str]) -> int:
    """`ctclip compare RUN_A RUN_B`: paired differences of two runs on the same studies, A - B."""
    parser = argparse.ArgumentParser(prog="ctclip compare", description=compare.__doc__)
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--cohort", help="that both were evaluated on (default: each run's own)")
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="write the differences to this .json file")
    parser.add_argument("--page", type=Path, help="write them as a page to this .html file")
    args = parser.parse_args(words)
    paths = [scores_path(run, part_of_run(run, args.cohort, args.split)) for run in (args.run_a, args.run_b)]
    report = compare_runs(*paths, options=EvaluateOptions(num_bootstraps=args.bootstraps))
    print(format_comparison(report))
    if args.out is not None:
        args.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    if args.page is not None:
        print(f"page: {write_comparison_page(args.page, report, names=(args.run_a.name, args.run_b.name))}")
    return 0


def phantom(words: list[str]) -> int:
    """`ctclip phantom --out DIR --studies N`: a synthetic cohort."""
    parser = argparse.ArgumentParser(prog="ctclip phantom")
    add_phantom_arguments(parser)
    return run_phantom(parser.parse_args(words))


def reports(words: list[str]) -> int:
    """`ctclip reports FILE`: what the rules read in reports."""
    parser = argparse.ArgumentParser(prog="ctclip reports", description=reports.__doc__)
    add_reports_arguments(parser)
    return run_reports(parser.parse_args(words))


def _add_run_arguments(parser: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    parser.add_argument("--run", type=Path, required=is_required, help="folder of a training run")
    parser.add_argument("--cohort", help="table:FILE or phantom:DIR (default: the run's)")
    parser.add_argument("--findings", nargs="+", default=(), metavar="COLUMN", help="label columns of a table:"
                        " (default: the run's, else those that bear a known finding's name)")  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def _cohort_of(args: argparse.Namespace) -> Cohort:
    """The cohort that the words name, or the run's own with what the run said of it."""
    config = read_config(args.run)
    if args.cohort is None:
        return config_cohort(replace(config, findings=tuple(args.findings) or config.findings))
    return read_cohort(args.cohort, findings=args.findings)


def export(words: list[str]) -> int:
    """`ctclip export --run RUN --out merlin.pt`: a run's weights as a checkpoint that Merlin's own code loads."""
    parser = argparse.ArgumentParser(prog="ctclip export", description=export.__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a training run, or one of its checkpoints")
    parser.add_argument("--out", type=Path, required=True, help=".pt or .safetensors")
    args = parser.parse_args(words)
    done = export_run(args.run, args.out)
    print(f"{done.num_tensors} tensors: {done.path}")
    for part in done.made_up:
        print(f"  the run never had the {part}; it is filled in without effect on the two towers")
    return 0
