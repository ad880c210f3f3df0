"""Keyed integers: hashes, keys and permutations as numba loops. Keys and positions enter, positions leave.

Everything is integer arithmetic modulo 2**64, so the result is the same on every machine and with every thread
count. The slow twin is draw_reference.py. This file knows nothing of studies, batches or strata.

Sources: the mixer is splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014); a permutation of any n from a Feistel network by cycle-walking is Black, Rogaway, "Ciphers with arbitrary
finite domains", CT-RSA 2002. It is used for its statistics only: nothing here is secret.
"""

import numpy as np
import xxhash
from numba import njit

# Rounds of the Feistel network. With too few, orders of few members are far from equally likely: at n = 6 and 6
# rounds the frequencies of the 720 orders scatter by 71 %, with 16 by 5 %, with 24 by less than 1.5 % (400 keys per
# order cannot tell it from chance). The joint place of three of 9 to 48 members is even with 10 rounds, not with 6.
SMALL_BITS = 8
ROUNDS_SMALL = 24
ROUNDS_LARGE = 10
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_FOLD = np.uint64(0xD1342543DE82EF95)  # odd, so that folding is a bijection of the key
_U1, _U27, _U30, _U31, _U32 = (np.uint64(bits) for bits in (1, 27, 30, 31, 32))
_MASK = 2**64 - 1


@njit(cache=True)
def mix64(value: np.uint64) -> np.uint64:
    """The splitmix64 output for the state `value`: a bijection of 64-bit integers."""
    value = np.uint64(value) + _GOLDEN
    value = (value ^ (value >> _U30)) * _MIX_1
    value = (value ^ (value >> _U27)) * _MIX_2
    return value ^ (value >> _U31)


@njit(cache=True)
def fold_key(key: np.uint64, part: np.uint64) -> np.uint64:
    """The key of `part` under `key`. Order matters: fold(fold(k, a), b) differs from fold(fold(k, b), a)."""
    return mix64(np.uint64(key) * _FOLD + mix64(part))


def derive_key(seed: int, *parts: int | str) -> np.uint64:
    """The 64-bit key of a named place under a seed.

    Args:
        seed: Any integer; taken modulo 2**64.
        *parts: Coordinates, as integers (modulo 2**64) or names (their xxh3_64).

    Example:
        >>> derive_key(0, "crop", 3, 14) == derive_key(0, "crop", 3, 14)
        np.True_
        >>> derive_key(0, "crop", 3, 14) == derive_key(0, "crop", 14, 3)
        np.False_
    """
    key = mix64(np.uint64(int(seed) & _MASK))
    for part in parts:
        number = xxhash.xxh3_64_intdigest(part.encode()) if isinstance(part, str) else int(part) & _MASK
        key = fold_key(np.uint64(key), np.uint64(number))
    return np.uint64(key)


@njit(cache=True)
def derive_keys(out: np.ndarray, key: np.uint64) -> None:
    """out[i] = fold_key(key, i); `out` is (N,) uint64."""
    for i in range(out.shape[0]):
        out[i] = fold_key(key, np.uint64(i))


@njit(cache=True)
def _half_bits(n: int) -> tuple[np.uint64, np.uint64]:
    """Widths of the left and right half of the smallest power of two >= n."""
    bits = 0
    while (1 << bits) < n:
        bits += 1
    left = bits // 2
    return np.uint64(left), np.uint64(bits - left)


@njit(cache=True)
def _feistel(value: np.uint64, left_bits: np.uint64, right_bits: np.uint64, key: np.uint64) -> np.uint64:
    """One pass of the network: even rounds change the left half, odd rounds the right one."""
    num_rounds = ROUNDS_SMALL if left_bits + right_bits <= SMALL_BITS else ROUNDS_LARGE
    left_mask = (_U1 << left_bits) - _U1
    right_mask = (_U1 << right_bits) - _U1
    left, right = value >> right_bits, value & right_mask
    for number in range(num_rounds):
        round_key = key + np.uint64(number) * _FOLD
        if number % 2 == 0:
            left ^= (mix64(round_key ^ right) >> _U32) & left_mask
        else:
            right ^= (mix64(round_key ^ left) >> _U32) & right_mask
    return (left << right_bits) | right


@njit(cache=True)
def _feistel_inverse(value: np.uint64, left_bits: np.uint64, right_bits: np.uint64, key: np.uint64) -> np.uint64:
    """The rounds of `_feistel` in reverse; each is its own inverse."""
    num_rounds = ROUNDS_SMALL if left_bits + right_bits <= SMALL_BITS else ROUNDS_LARGE
    left_mask = (_U1 << left_bits) - _U1
    right_mask = (_U1 << right_bits) - _U1
    left, right = value >> right_bits, value & right_mask
    for back in range(num_rounds):
        number = num_rounds - 1 - back
        round_key = key + np.uint64(number) * _FOLD
        if number % 2 == 0:
            left ^= (mix64(round_key ^ right) >> _U32) & left_mask
        else:
            right ^= (mix64(round_key ^ left) >> _U32) & right_mask
    return (left << right_bits) | right


@njit(cache=True)
def permute(index: int | np.int64, n: int, key: np.uint64) -> np.int64:
    """Where a keyed permutation of 0..n-1 sends `index`, without the other n-1 places.

    Args:
        index: 0..n-1.
        n: At least 1. Fewer than two passes of the network on average, for any n.
        key: From derive_key.
    """
    left_bits, right_bits = _half_bits(n)
    value, limit = np.uint64(index), np.uint64(n)
    while True:
        value = _feistel(value, left_bits, right_bits, np.uint64(key))
        if value < limit:
            return np.int64(value)


@njit(cache=True)
def permute_inverse(place: int | np.int64, n: int, key: np.uint64) -> np.int64:
    """The index that `permute` sends to `place`."""
    left_bits, right_bits = _half_bits(n)
    value, limit = np.uint64(place), np.uint64(n)
    while True:
        value = _feistel_inverse(value, left_bits, right_bits, np.uint64(key))
        if value < limit:
            return np.int64(value)


@njit(cache=True)
def permute_range(out: np.ndarray, start: int, n: int, key: np.uint64) -> None:
    """out[i] = permute(start + i, n, key); `out` is (count,) int64 and start + count <= n."""
    for i in range(out.shape[0]):
        out[i] = permute(start + i, n, key)


@njit(cache=True)
def _round_head(head: np.ndarray, n: int, window: int, key: np.uint64, previous: np.uint64) -> None:
    """The first 2*window-1 members of a round, those first that are not among the last window-1 of `previous`."""
    tail = n - window + 1
    size = 2 * window - 1
    filled = 0
    for late in range(2):
        for index in range(size):
            member = permute(index, n, key)
            if (permute_inverse(member, n, previous) >= tail) == (late == 1):
                head[filled] = member
                filled += 1


@njit(cache=True)
def draw_rounds(out: np.ndarray, head: np.ndarray, start: int, n: int, window: int, key: np.uint64) -> None:
    """Places start, start+1, ... of an endless sequence of rounds; each round holds 0..n-1 once, in keyed order.

    Where n >= 3*window-2, any `window` consecutive places hold `window` different members, also across the
    border of two rounds: the first 2*window-1 members of a round are reordered (kept in order otherwise) so that
    those which closed the round before come last. At least `window` of them did not close it, and the reordered
    places never reach the last window-1 of their own round, which therefore need no history.

    Args:
        out: (count,) int64.
        head: (2*window-1,) int64 of scratch space.
        start: First place, >= 0.
        n: Members, >= 1.
        window: >= 1. Where n < 3*window-2 rounds are plain permutations.
        key: From derive_key.
    """
    guarded = n >= 3 * window - 2
    head_round = np.int64(-1)
    for i in range(out.shape[0]):
        place = start + i
        number, index = place // n, place % n
        round_key = fold_key(key, np.uint64(number))
        if guarded and number > 0 and index < 2 * window - 1:
            if head_round != number:
                _round_head(head, n, window, round_key, fold_key(key, np.uint64(number - 1)))
                head_round = number
            out[i] = head[index]
        else:
            out[i] = permute(index, n, round_key)


@njit(cache=True)
def _holds(batch: np.ndarray, row: int, but: int) -> bool:
    """Whether a batch holds a row at a place other than `but`."""
    for place in range(batch.shape[0]):  # noqa: SIM110 - numba compiles no any(generator)
        if place != but and batch[place] == row:
            return True
    return False


@njit(cache=True)
def _swap_out(batches: np.ndarray, batch: int, place: int) -> bool:
    """Swap one row with the first place after its batch, round and round, that leaves both without a repeat."""
    num_batches, batch_size = batches.shape
    row = batches[batch, place]
    for distance in range(1, num_batches):
        other = (batch + distance) % num_batches
        if _holds(batches[other], row, -1):
            continue
        for other_place in range(batch_size):
            candidate = batches[other, other_place]
            if not _holds(batches[batch], candidate, place):
                batches[batch, place], batches[other, other_place] = candidate, row
                return True
    return False


@njit(cache=True)
def spread_repeats(batches: np.ndarray) -> int:
    """Swap rows between batches, in place, so that no batch holds one twice; returns how many could not be placed.

    Args:
        batches: (N, B) int64. Only rows that come twice in their batch move, each to the next batch without it.
    """
    num_left = 0
    for batch in range(batches.shape[0]):
        for place in range(batches.shape[1]):
            if _holds(batches[batch], batches[batch, place], place) and not _swap_out(batches, batch, place):
                num_left += 1
    return num_left
