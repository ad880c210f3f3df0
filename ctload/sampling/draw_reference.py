"""The slow twin of draw.py in plain Python integers: its oracle in the tests, and its explanation."""

MASK = 2**64 - 1
FOLD = 0xD1342543DE82EF95


def mix64(value: int) -> int:
    """splitmix64 of the state `value`."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def fold_key(key: int, part: int) -> int:
    return mix64((key * FOLD + mix64(part)) & MASK)


def _feistel(value: int, bits: int, key: int) -> int:
    left_bits = bits // 2
    right_bits = bits - left_bits
    left, right = value >> right_bits, value & (2**right_bits - 1)
    for number in range(24 if bits <= 8 else 10):
        round_key = (key + number * FOLD) & MASK
        if number % 2 == 0:
            left ^= (mix64(round_key ^ right) >> 32) & (2**left_bits - 1)
        else:
            right ^= (mix64(round_key ^ left) >> 32) & (2**right_bits - 1)
    return left << right_bits | right


def permutation(n: int, key: int) -> list[int]:
    """The whole keyed permutation of 0..n-1: the network on the next power of two, walked back into 0..n-1."""
    bits = (n - 1).bit_length()
    places = []
    for index in range(n):
        value = _feistel(index, bits, key)
        while value >= n:
            value = _feistel(value, bits, key)
        places.append(value)
    return places


def rounds(count: int, n: int, window: int, key: int) -> list[int]:
    """The first `count` places of draw_rounds, made round by round from the start."""
    drawn: list[int] = []
    number = 0
    while len(drawn) < count:
        members = permutation(n, fold_key(key, number))
        if number > 0 and n >= 3 * window - 2:
            closing = drawn[len(drawn) - window + 1 :] if window > 1 else []
            head, rest = members[: 2 * window - 1], members[2 * window - 1 :]
            members = [m for m in head if m not in closing] + [m for m in head if m in closing] + rest
        drawn += members
        number += 1
    return drawn[:count]
