"""Worker processes and their parent's end: none outlives it, and it waits for none that cannot end.

A pool's workers wait for ever for a parent that was killed. And one that is killed while it holds the lock of the
pool's queue (it is out of memory, say) leaves the others, and a parent that shuts the pool down, waiting for ever.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess

GRACE_S = 30.0  # for a worker to end what it is doing


def end_with_parent() -> None:
    """Make this spawned process end as soon as the one that spawned it has ended, however it did."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def end_pool(pool: ProcessPoolExecutor, workers: Iterable[BaseProcess], *, grace_s: float = GRACE_S) -> None:
    """Shut down a pool whose results are in or not wanted any more.

    Args:
        pool: The pool.
        workers: Its processes.
        grace_s: How long to wait for each before it is killed, in seconds.
    """
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.join(grace_s)
        if worker.is_alive():
            worker.kill()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
