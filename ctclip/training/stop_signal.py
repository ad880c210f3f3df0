"""Polite signals: SIGTERM and the first Ctrl-C ask the training loop to end after its step, with a checkpoint; SIGUSR1
asks for a checkpoint and no end."""

import signal
import threading
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))  # not on every system


class StopSignal:
    """Inside the block the signals only set flags; a second one to stop of the same kind acts as it did before.

    Signals reach the main thread only; in another thread the block changes nothing.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._is_save_asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._stop) for number in STOPPING}
            self._before |= {number: signal.signal(number, self._save) for number in SAVING}
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._before):
            self._restore(number)

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        taken, self._is_save_asked = self._is_save_asked, False
        return taken

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        self._restore(number)

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._is_save_asked = True

    def _restore(self, number: int) -> None:
        if number in self._before:
            signal.signal(number, self._before.pop(number))  # pyright: ignore[reportArgumentType]
