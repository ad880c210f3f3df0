"""Pools end: when a worker died holding the queue's lock, and when their parent was killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ctload.process.orphan import end_pool

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_pool_ends_though_a_worker_never_does():
    """A stopped worker stands in for one that waits for a lock that died with another."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    assert [future.result() for future in [pool.submit(abs, -number) for number in (1, 2)]] == [1, 2]
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    stopped = min(workers, key=lambda worker: worker.pid or 0)
    assert stopped.pid is not None
    os.kill(stopped.pid, signal.SIGSTOP)
    end_pool(pool, workers, grace_s=0.2)
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def test_workers_end_when_their_parent_was_killed():
    code = (
        "import multiprocessing, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from ctload.process.orphan import end_with_parent\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'),"
        " initializer=end_with_parent)\n"
        "    pool.submit(abs, 1).result()\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
