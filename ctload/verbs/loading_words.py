"""Words of a command line that choose what is loaded: which studies, in what order, which crops."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from ctload.errors import CtloadError
from ctload.planning.crop import Crop, RandomCrop, WholeVolume
from ctload.sampling.sampler import Sampler, SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.storage.manifest import Studies
from ctload.storage.store import open_store


@dataclass(frozen=True)
class Choice:
    """What the words say."""

    studies: Studies
    sampler: Sampler
    crop: Crop


def add_loading_words(parser: argparse.ArgumentParser) -> None:
    """The words of a verb that draws batches."""
    add = parser.add_argument
    add("store", type=Path, metavar="STORE")
    add("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these studies; may be given again")
    add("--crop", type=_triple, metavar="D,H,W", help="random crops of so many voxels (default whole volumes)")
    add("--pad", action="store_true", help="volumes may be smaller than the crop")
    add("--batch-size", type=int, default=4, metavar="N", help="studies per batch (default 4)")
    add("--seed", type=int, default=0, help="of every random decision (default 0)")
    order = add("--order", choices=("shuffle", "sequential"), default="shuffle", help="default shuffle")
    order.metavar = "ORDER"
    add("--by", metavar="COLUMN", help="with --quotas: the column whose values are the strata")
    add("--quotas", metavar="V=N,...", help="shares of a batch, such as normal=25,abnormal=75")


def choice_of(options: argparse.Namespace) -> Choice:
    """What the words say, held against the store.

    Raises:
        CtloadError: Words that do not go together, or a column or study that is not there.
    """
    cache_bytes = round(getattr(options, "cache_gib", 0.0) * 2**30)
    store = open_store(options.store, num_threads=getattr(options, "threads", None), cache_bytes=cache_bytes)
    studies = store.studies
    for text in options.where:
        name, found, value = text.partition("=")
        if not found:
            raise CtloadError(f"--where is COLUMN=VALUE, got {text!r}")
        studies = studies.where(**{name: _like(studies, name, value)})
    sampler = _sampler(options)
    crop = WholeVolume() if options.crop is None else RandomCrop(options.crop, pad=options.pad)
    crop.check(studies)
    return Choice(studies, sampler, crop)


def _sampler(options: argparse.Namespace) -> Sampler:
    if (options.by is None) != (options.quotas is None):
        raise CtloadError("--by COLUMN and --quotas V=N,... go together")
    if options.by is not None:
        shares = [part.partition("=") for part in options.quotas.split(",")]
        if not all(found and share.isdigit() for _, found, share in shares):
            raise CtloadError(f"--quotas is V=N,... with whole numbers, got {options.quotas!r}")
        quotas = {value.strip(): int(share) for value, _, share in shares}
        return StratifiedSampler(by=options.by, quotas=quotas, batch_size=options.batch_size, seed=options.seed)
    if options.order == "sequential":
        return SequentialSampler(options.batch_size, drop_last=False)
    return ShuffleSampler(options.batch_size, seed=options.seed)


def _like(studies: Studies, column: str, value: str) -> object:
    """A value as the column holds it: text, a whole number, or a truth."""
    kind = studies.column(column).dtype.kind
    if kind == "b":
        return value.lower() in ("1", "true", "yes")
    try:
        return int(value) if kind in "iu" else float(value) if kind == "f" else value
    except ValueError as error:
        raise CtloadError(f"column {column!r} holds numbers, got {value!r}") from error


def _triple(text: str) -> tuple[int, int, int]:
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise CtloadError(f"a crop is D,H,W in voxels, such as 96,192,192, got {text!r}")
    depth, height, width = map(int, parts)
    return (depth, height, width)
