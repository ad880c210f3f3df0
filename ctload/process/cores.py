"""How many threads a process starts when nobody said: its share of the machine's cores."""

import os


def thread_share() -> int:
    """Cores that this process may use, divided by the processes that a launcher started on this machine.

    torchrun and what is built on it say their number in LOCAL_WORLD_SIZE. Where each process is bound to cores of its
    own already, this is too few: give num_threads instead.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores // max(1, int(local))) if local.isdecimal() else cores
