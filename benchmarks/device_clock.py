"""Times of one piece of work on a device: first call apart from the rest, device events on CUDA, a clock on the CPU.

Enter: a callable that does the work once. Leave: seconds of the first call (compiling included) and of each further
one. On CUDA every timing is between two events around enough calls to last a while. A CUDA graph holds as many calls
as are asked for, one after another, so that what its launch costs the host can be kept out of a small kernel's time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

WARMUP_CALLS = 5
BLOCK_S = 0.02  # of device work between two events at least


@dataclass(frozen=True)
class Timing:
    """Of one piece of work.

    Attributes:
        first_s: The first call, with compiling, loading and warming.
        each_s: Further calls, one number per round.
        peak_bytes: Of the allocator during the rounds; 0 on the CPU.
    """

    first_s: float
    each_s: tuple[float, ...]
    peak_bytes: int


def time_work(work: Callable[[], Any], *, rounds: int, graph_calls: int = 0) -> Timing:
    """Time the work where its tensors live: on CUDA where there is one, else on the CPU.

    Args:
        work: Does it once.
        rounds: Timed rounds.
        graph_calls: Capture so many calls in one CUDA graph and time its replays, per call; on the CPU there is no
            graph, and the call is timed as it is. 0: no graph.
    """
    is_cuda = torch.cuda.is_available()
    started = time.perf_counter()
    work()
    _wait(is_cuda)
    first_s = time.perf_counter() - started
    if not is_cuda:
        return Timing(first_s, tuple(_seconds(work) for _ in range(rounds)), 0)
    for _ in range(WARMUP_CALLS):
        work()
    torch.cuda.reset_peak_memory_stats()
    if graph_calls:
        work = captured(work, calls=graph_calls)
    repeats = max(1, round(BLOCK_S / max(_between_events(work, 1), 1e-7)))
    each_s = tuple(_between_events(work, repeats) / max(1, graph_calls) for _ in range(rounds))
    return Timing(first_s, each_s, torch.cuda.max_memory_allocated())


def captured(work: Callable[[], Any], *, calls: int = 1) -> Callable[[], None]:
    """The replay of some calls of `work`, captured as torch asks for it: warmed on a side stream first."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(calls):
            work()
    return graph.replay


def _wait(is_cuda: bool) -> None:
    if is_cuda:
        torch.cuda.synchronize()


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _between_events(work: Callable[[], Any], calls: int) -> float:
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        work()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / 1e3 / calls
