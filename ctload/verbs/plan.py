"""`ctload plan`: what batches would read. Studies, boxes, chunks and bytes; no voxel is read."""

import argparse
from collections import Counter

from ctload.errors import CtloadError
from ctload.planning.drawing import describe, draw_plan
from ctload.planning.touched import Touched, touched_by
from ctload.planning.window import HuWindow
from ctload.verbs.loading_words import add_loading_words, choice_of
from ctload.verbs.status import OK

_WINDOW = (HuWindow(-1000, 1000),)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    add_loading_words(parser)
    parser.add_argument("--epoch", type=int, default=0, help="first epoch that is drawn (default 0)")
    parser.add_argument("--epochs", type=int, default=1, help="how many (default 1)")
    parser.add_argument("--steps", type=int, metavar="N", help="only the first N batches of each")
    parser.add_argument("--short", action="store_true", help="no line per study")


def run(options: argparse.Namespace) -> int:
    """Draw, and print each batch and each epoch."""
    if options.epochs < 1 or (options.steps is not None and options.steps < 1):
        raise CtloadError("--epochs and --steps are at least 1")
    choice = choice_of(options)
    bound = choice.sampler.bind(choice.studies)
    print(f"{len(choice.studies)} studies, {bound.num_batches} batches of {bound.batch_size} in an epoch")
    for epoch in range(options.epoch, options.epoch + options.epochs):
        drawn, sums = Counter(), [0.0] * 5
        for step in range(min(bound.num_batches, options.steps or bound.num_batches)):
            plan = draw_plan(bound, choice.studies, choice.crop, _WINDOW, epoch=epoch, step=step)
            touched = touched_by(choice.studies, plan)
            text = describe(plan, choice.studies)
            print(f"{text.splitlines()[0] if options.short else text}\n  {_of(_sums(touched))}")
            sums = [total + part for total, part in zip(sums, _sums(touched), strict=True)]
            drawn.update(plan.rows.tolist())
        print(f"epoch {epoch}: {drawn.total()} draws of {len(drawn)} studies, {_of(sums)}")
    return OK


def _sums(touched: Touched) -> list[float]:
    parts = (touched.num_chunks, touched.num_all, touched.disk_bytes, touched.decoded_bytes, touched.box_bytes)
    return [float(part.sum()) for part in parts]


def _of(sums: list[float]) -> str:
    num_chunks, num_all, disk, decoded, box = sums
    return (
        f"{num_chunks:.0f} of {num_all:.0f} chunks, about {disk / 1e6:.1f} MB from disk, {decoded / 1e6:.1f} MB "
        f"decoded for {box / 1e6:.1f} MB of boxes"
    )
