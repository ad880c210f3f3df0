"""`ctload bench`: batches of a store as fast as they come, and what they wait for."""

import argparse
import time
from dataclasses import fields

from ctload.errors import CtloadError
from ctload.loading.loader import Loader
from ctload.loading.stats import LoaderStats
from ctload.pipeline.opening import PIPELINES
from ctload.planning.augment import Augment
from ctload.verbs.loading_words import add_loading_words, choice_of
from ctload.verbs.status import OK

_BAR = 40  # characters of the whole time
_MEANING = {
    "draw_s": "drawing plans, starting reads",
    "probe_s": "one read by steps, now and then",
    "read_s": "waiting for voxels: bytes of files",
    "decode_s": "waiting for voxels: decompression, checksums",
    "copy_s": "waiting for voxels: from chunks to the slot",
    "pipeline_s": "pipeline, copies to a GPU",
    "full_s": "batches were ready before they were asked for",
    "wait_s": "the loop waited for a batch",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    add_loading_words(parser)
    add = parser.add_argument
    add("--batches", type=int, default=50, metavar="N", help="batches that are timed (default 50)")
    add("--pipeline", choices=PIPELINES, default="auto", help="default auto")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    add("--threads", type=int, metavar="N", help="of the store and of the pipeline (default one per core)")
    add("--cache-gib", type=float, default=0.0, metavar="N", help="memory for decoded chunks in GiB (default 0)")
    add("--prefetch", type=int, default=2, help="batches read ahead (default 2)")
    add("--flip", action="store_true", help="random flips along each axis")


def run(options: argparse.Namespace) -> int:
    """Warm up with a few batches, time the rest, and print the rate and where the time went."""
    if options.batches < 1:
        raise CtloadError(f"--batches is at least 1, got {options.batches}")
    choice = choice_of(options)
    loader = Loader(
        choice.studies,
        sampler=choice.sampler,
        crop=choice.crop,
        augment=Augment(flip=(0.5, 0.5, 0.5)) if options.flip else None,
        pipeline=options.pipeline,
        device=options.device,
        prefetch=options.prefetch,
        num_threads=options.threads,
    )
    with loader:
        _take(loader, min(options.batches, options.prefetch + 2))  # files, compilers and memory become warm
        before, cpu, started = loader.stats(), time.process_time(), time.perf_counter()
        _take(loader, options.batches)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    print("\n".join(_lines(before, loader.stats(), wall_s, cpu_s)))
    return OK


def _take(loader: Loader, number: int) -> None:
    """Take batches, into the next epochs if need be."""
    while number > 0:
        for _ in loader:
            number -= 1
            if number == 0:
                break


def _lines(before: LoaderStats, after: LoaderStats, wall_s: float, cpu_s: float) -> list[str]:
    spent = {field.name: getattr(after, field.name) - getattr(before, field.name) for field in fields(LoaderStats)}
    number = spent["num_studies"]
    lines = [
        f"{number / wall_s:.1f} studies/s: {number} in {wall_s:.2f} s, {1e3 * cpu_s / number:.1f} ms of CPU each, "
        f"{cpu_s / wall_s:.2f} cores busy"
    ]
    for name in sorted((name for name in spent if name.endswith("_s")), key=lambda name: name == "wait_s"):
        share = min(spent[name] / wall_s, 1.0)
        bar = "#" * round(share * _BAR)
        lines.append(
            f"{name.removesuffix('_s'):<9} {1e3 * spent[name] / number:8.2f} ms a study  {share:4.0%} "
            f"{bar:<{_BAR}} {_MEANING.get(name, '')}".rstrip()
        )
    lines.append(f"reads were divided as {after.num_probed} probed ones were, each of one thread")
    return lines
