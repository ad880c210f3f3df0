"""The lock of a store: one pack at a time. Held by open files, so the death of a process always frees it."""

import fcntl
import os
import time
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from ctload.errors import CtloadError, StoreBusyError

_POLL_S = 0.05


class StoreLock:
    """An exclusive lock (flock) on a file of the store.

    Handed to a spawned worker it keeps the lock held until that worker has ended too, so a pack that was killed
    cannot meet its own orphans.
    """

    def __init__(self, path: Path, *, wait_s: float) -> None:
        """Take the lock.

        Args:
            path: The lock file; it is made where there is none.
            wait_s: How long to wait for another pack to end, in seconds.

        Raises:
            StoreBusyError: Another pack holds it, or removed the store (it had packed nothing) while this one waited.
            CtloadError: The store cannot be written to.
        """
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise CtloadError(
                f"the store cannot be written to ({error}); free space or rights, or pack into another folder",
                path=path.parent,
            ) from error
        deadline = time.monotonic() + wait_s
        while not self._try_lock():
            if time.monotonic() >= deadline:
                os.close(self._handle)
                raise StoreBusyError(
                    f"another pack is at work on this store (waited {wait_s:g} s); run one pack at a time, "
                    "or pack into another folder",
                    path=path.parent,
                )
            time.sleep(_POLL_S)
        if not self._is_in_place(path):
            os.close(self._handle)
            raise StoreBusyError("another pack removed this store meanwhile; run this one again", path=path.parent)

    def _is_in_place(self, path: Path) -> bool:
        """Whether the locked file is the one that other packs will find."""
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except FileNotFoundError:
            return False

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._handle)

    def for_worker(self) -> "WorkerLock":
        """What a spawned worker gets as an argument and keeps while it lives."""
        return WorkerLock(self._handle)


class WorkerLock:
    """The same open file in a spawned process."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __reduce__(self):
        # Only while a process is being spawned can an open file travel with its arguments.
        return (_received, (reduction.DupFd(self.handle),))


def _received(duplicate: Any) -> WorkerLock:
    return WorkerLock(duplicate.detach())
