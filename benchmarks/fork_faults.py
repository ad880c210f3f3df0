"""Forks of a process with an open store: every use of it in the child is a typed error. Run by `benchmarks.faults`."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.pack_faults import Counts, make_sources
from ctload.errors import ForkAfterOpenError
from ctload.loading.loader import Loader
from ctload.packing.packer import pack
from ctload.sampling.sampler import SequentialSampler
from ctload.storage.store import Store, open_store
from ctload.storage.verification import verify


def forks(scratch: Path, num: int, seed: int) -> Counts:
    """Use a store, a loader and a loader's iterator in forked children: a typed error each time, within seconds."""
    pack([make_sources(scratch / "sources", 0, 4)], scratch / "store", preset="native", progress=False)
    store = open_store(scratch / "store")
    works = {"read": _read, "open": _open, "verify": _verify, "new loader": _load, "running loader": _go_on}
    counts = dict.fromkeys(works, 0)
    context = multiprocessing.get_context("fork")
    for number in range(num):
        name = list(works)[(number + seed) % len(works)]
        with Loader(store.studies, sampler=SequentialSampler(1)) as loader:
            iterator = iter(loader)
            next(iterator)
            child = context.Process(target=_expect_fork_error, args=(works[name], store, iterator))
            child.start()
            child.join(30)
            if child.exitcode != 0:
                child.kill()
                raise AssertionError(f"{name} in a forked child: exit code {child.exitcode}, None is a hang")
            list(iterator)
        counts[name] += 1
    return counts, "start=fork"


def _expect_fork_error(work: Callable, store: Store, iterator: Iterator) -> None:
    try:
        work(store, iterator)
    except ForkAfterOpenError:
        os._exit(0)
    os._exit(1)


def _read(store: Store, _: Iterator) -> None:
    store.read(store.studies.ids[0])


def _open(store: Store, _: Iterator) -> None:
    open_store(store.path)


def _verify(store: Store, _: Iterator) -> None:
    verify(store.path)


def _load(store: Store, _: Iterator) -> None:
    with Loader(store.studies, sampler=SequentialSampler(1)) as loader:
        list(loader)


def _go_on(_: Store, iterator: Iterator) -> None:
    list(iterator)
