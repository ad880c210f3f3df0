"""A polite stop: SIGTERM and the first Ctrl-C ask the training loop to end after its step, with a checkpoint."""

import signal
import threading
from types import FrameType

CAUGHT = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Inside the block the two signals only set a flag; a second one of the same kind acts as it did before.

    Signals reach the main thread only; in another thread the block changes nothing.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._catch) for number in CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._before):
            self._restore(number)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        self._restore(number)

    def _restore(self, number: int) -> None:
        if number in self._before:
            signal.signal(number, self._before.pop(number))  # pyright: ignore[reportArgumentType]
