import multiprocessing
from multiprocessing.connection import Connection

import pytest

from ctload.errors import StoreBusyError
from ctload.storage.lock import StoreLock, WorkerLock


def hold(lock: WorkerLock, channel: Connection) -> None:
    """A worker that lives until it is told otherwise."""
    channel.send(lock.handle >= 0)
    channel.recv()


def test_a_lock_is_held_until_the_last_worker_of_a_dead_pack_has_ended(tmp_path):
    context = multiprocessing.get_context("spawn")
    lock = StoreLock(tmp_path / "lock", wait_s=0)
    near, far = context.Pipe()
    worker = context.Process(target=hold, args=(lock.for_worker(), far))
    worker.start()
    assert near.recv()
    lock.release()  # as the death of the pack's own process would
    with pytest.raises(StoreBusyError):
        StoreLock(tmp_path / "lock", wait_s=0)
    near.send("end")
    worker.join()
    StoreLock(tmp_path / "lock", wait_s=0).release()
