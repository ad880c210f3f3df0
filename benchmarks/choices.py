"""Choices: a string of bytes read as decisions, so that a fuzzer's input is always a valid plan of damage.

Where the bytes end every choice is the first one. `edited` damages a file's bytes.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

# What breaks parsers: ends of integer types, and what counts as nothing.
NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**64, 10**30)


class Choices:
    """Decisions taken from the front of `data`, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, count: int) -> int:
        """A number in 0..count-1."""
        width = max((count - 1).bit_length() + 7, 8) // 8
        return int.from_bytes(self.take(width), "little") % count

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def take(self, count: int) -> bytes:
        """The next bytes, zeros where there are no more."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken + bytes(count - len(taken))

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)


def edited(content: bytes, choices: Choices, *, start: int = 0, stop: int | None = None) -> bytes:
    """Up to eight edits between two positions: a byte, a number, a cut, a repetition, bytes put in."""
    damaged = bytearray(content)
    for _ in range(1 + choices.number(8)):
        last = min(len(damaged), len(damaged) if stop is None else stop)
        if choices.is_over or last <= start:
            break
        at = start + choices.number(last - start)
        kind = choices.number(8)
        if kind < 3:
            damaged[at] = choices.number(256)
        elif kind < 6:
            width = choices.pick((2, 4, 8))
            number = choices.pick(NUMBERS) % (1 << (8 * width))
            damaged[at : at + width] = number.to_bytes(width, choices.pick(("little", "big")))
        elif kind == 6:
            damaged[at : at + choices.number(64)] = choices.take(choices.number(16))
        else:
            del damaged[at:]
    return bytes(damaged)
