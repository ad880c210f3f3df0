"""Guard against forks. The reader's thread pool does not survive a fork: a read in the child would never end.

The guard is armed when a process first opens a store, and makes every later use in a forked child a typed error.
"""

import os

from ctload.errors import ForkAfterOpenError


class _Guard:
    """What this process knows of itself: whether it uses reader threads, and whether it lost them in a fork."""

    def __init__(self) -> None:
        self.is_armed = False
        self.is_forked_child = False

    def note_fork(self) -> None:
        self.is_forked_child = self.is_armed


_GUARD = _Guard()


def enter(path: object) -> None:
    """Arm the guard before reader threads start, or refuse when this process forked after they had started.

    Raises:
        ForkAfterOpenError: This process is a forked child of one that had opened a store.
    """
    check(path)
    if not _GUARD.is_armed:
        os.register_at_fork(after_in_child=_GUARD.note_fork)
        _GUARD.is_armed = True


def check(path: object | None = None, study: str | None = None) -> None:
    """Refuse to read in a forked child.

    Raises:
        ForkAfterOpenError: This process is a forked child of one that had opened a store.
    """
    if _GUARD.is_forked_child:
        raise ForkAfterOpenError(
            f"process {os.getpid()} was forked after a store had been opened, its reader threads are gone; start "
            "processes with multiprocessing 'spawn' or 'forkserver', or open the first store after the fork",
            study=study,
            path=None if path is None else str(path),
        )
