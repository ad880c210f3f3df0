"""Random streams by name: every draw of the phantom comes from a generator keyed by what it is for.

A stream depends on its key alone, so that a finding switched on moves nothing else in the same study, and the number
of workers changes nothing.
"""

import zlib

import numpy as np


def random_stream(seed: int, *key: int | str) -> np.random.Generator:
    """A generator (PCG64) keyed by (seed, key...); words enter by their CRC-32.

    Args:
        seed: 0 or more.
        key: Whole numbers of 0 or more, and words.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.default_rng([seed, len(words), *words])
