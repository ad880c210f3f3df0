"""Workers that end when their parent does. A pool's workers otherwise wait for ever for one that was killed."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Make this spawned process end as soon as the one that spawned it has ended, however it did."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
