"""What a process and its workers use: CPU seconds and memory, read from /proc, live workers included."""

import os
import threading
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree() -> list[int]:
    """This process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_fields(entry)[1])
            except OSError:
                continue  # it has ended
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def cpu_seconds() -> float:
    """User and system time of the tree so far; that of workers that have ended only when they were waited for."""
    total = 0.0
    for process in tree():
        try:
            fields = _fields(Path("/proc", str(process)))
        except OSError:
            continue
        used = fields[11:15] if process == os.getpid() else fields[11:13]
        total += sum(map(int, used)) / _TICKS
    return total


def memory_mib() -> float:
    """Memory of the tree, shared pages counted once (PSS)."""
    total = 0.0
    for process in tree():
        try:
            lines = Path("/proc", str(process), "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return total


class PeakMemory:
    """The most that the tree held while this was open, in MiB, looked at every 50 ms."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.mib = max(self.mib, memory_mib())
            self._stop.wait(0.05)


def _fields(process: Path) -> list[str]:
    """Of /proc/PID/stat, from the state on; the name before it may hold blanks."""
    return (process / "stat").read_text().rpartition(")")[2].split()
