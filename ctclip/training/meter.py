"""The meter of a training run: studies per second, share of time spent waiting for data, time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Meter:
    """Shows a line while training runs and gives rates since the last time it was asked.

    Args:
        steps: Of the whole run.
        first_step: Done before.
        batch_size: Studies per step, over all ranks.
        is_shown: Whether to draw the line; on a terminal every second, in a file every half minute.
        flops_per_step: Operations of one step on this device, without what is computed twice; None where unknown.
        ceiling: Operations per second that this device reaches at most.
    """

    def __init__(
        self,
        *,
        steps: int,
        first_step: int,
        batch_size: int,
        is_shown: bool,
        flops_per_step: int | None = None,
        ceiling: float = float("inf"),
    ) -> None:
        self._flops_per_step, self._ceiling = flops_per_step, ceiling
        self._batch_size = batch_size
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            desc="train",
            unit="step",
            disable=not is_shown,
            dynamic_ncols=True,
            mininterval=1.0 if sys.stderr.isatty() else 30.0,
        )
        self._since = time.perf_counter()
        self._waited_s = 0.0
        self._steps = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside the block counts as waiting for data."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._waited_s += time.perf_counter() - started

    def count_step(self) -> None:
        self._steps += 1
        self._bar.update()

    def take(self) -> dict[str, float]:
        """Rates since the last call: studies_per_s, step_s, wait_share (0 to 1), and where operations are counted
        tflops_per_s of this device and ceiling_share, their share of the measured ceiling."""
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        rates = {
            "studies_per_s": self._steps * self._batch_size / elapsed,
            "step_s": elapsed / max(self._steps, 1),
            "wait_share": self._waited_s / elapsed,
        }
        if self._flops_per_step is not None:
            flops = self._flops_per_step * self._steps / elapsed
            rates |= {"tflops_per_s": flops / 1e12, "ceiling_share": flops / self._ceiling}
        self._since, self._waited_s, self._steps = now, 0.0, 0
        return rates

    def show(self, loss: float | None, rates: dict[str, float]) -> None:
        """Put the mean loss (None: every step was skipped) and the rates behind the line."""
        words = "no finite loss" if loss is None else f"loss {loss:.3f}"
        self._bar.set_postfix_str(
            f"{words}, {rates['studies_per_s']:.1f} studies/s, {rates['wait_share']:.0%} waiting for data",
            refresh=False,
        )

    def close(self) -> None:
        self._bar.close()
