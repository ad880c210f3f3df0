"""Gaussian noise as a pure function of (key, channel, voxel): the fast form, in numba.

Enters a key of 64 bits, a channel and a range of voxels; leave standard normal values. No generator has a state, so
the noise of a study depends on neither its batch, its rank, the number of threads nor the device. The integers are
Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11), equal everywhere; the
values come from Box and Muller (1958) in float32 and agree with the float64 twin
(ctload/pipeline/photometric_reference.py) to 1e-5.

One counter (voxel // 4, channel, 0, 0) gives the values of four consecutive voxels: words 0, 1 make those of voxels
4i and 4i + 1 (cosine and sine of one pair), words 2, 3 those of 4i + 2 and 4i + 3.
"""

import numba
import numpy as np

NORMALS_BLOCK = 4096
"""Voxels drawn at a time; a multiple of 4 that stays in the first-level cache."""

_TWO_PI = np.float32(2 * np.pi)
_TO_UNIT = np.float32(2.0**-24)
_LN2 = np.float32(np.log(2.0))
_SQRT_HALF_BITS = np.int32(0x3F3504F3)  # float32 bits of sqrt(0.5)


@numba.njit(nogil=True, cache=True, inline="always")
def _philox_round(c0, c1, c2, c3, k0, k1):
    product0 = np.uint64(0xD2511F53) * np.uint64(c0)
    product1 = np.uint64(0xCD9E8D57) * np.uint64(c2)
    return (
        np.uint32(product1 >> np.uint64(32)) ^ c1 ^ k0,
        np.uint32(product1),
        np.uint32(product0 >> np.uint64(32)) ^ c3 ^ k1,
        np.uint32(product0),
    )


@numba.njit(nogil=True, cache=True)
def philox_words(key, channel, first_group, words):
    """Fill `words` (4, n) uint32 with Philox4x32-10 of the counters (first_group + i, channel, 0, 0).

    Args:
        key: uint64; its low and high half are the two words of Philox's key.
        channel: Second word of the counter.
        first_group: First word of the first counter: voxel // 4, below 2**32.
        words: Output, word-major.
    """
    key_low = np.uint32(np.uint64(key) & np.uint64(0xFFFFFFFF))
    key_high = np.uint32(np.uint64(key) >> np.uint64(32))
    for i in range(words.shape[1]):
        c0, c1 = np.uint32(first_group + i), np.uint32(channel)
        c2, c3 = np.uint32(0), np.uint32(0)
        k0, k1 = key_low, key_high
        for _ in range(10):
            c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
            k0 = np.uint32(k0 + np.uint32(0x9E3779B9))
            k1 = np.uint32(k1 + np.uint32(0xBB67AE85))
        words[0, i] = c0
        words[1, i] = c1
        words[2, i] = c2
        words[3, i] = c3


@numba.njit(nogil=True, cache=True, inline="always")
def log_positive(value):
    """Natural logarithm of a normal positive float32 (Cephes logf); relative error below 2e-7."""
    bits = np.float32(value).view(np.int32)
    exponent = np.int32((bits - _SQRT_HALF_BITS) >> np.int32(23))
    # The mantissa lies in [sqrt(1/2), sqrt(2)), and one less than it is exact.
    f = np.int32(bits - (exponent << np.int32(23))).view(np.float32) - np.float32(1.0)
    p = np.float32(7.0376836292e-2)
    p = p * f + np.float32(-1.1514610310e-1)
    p = p * f + np.float32(1.1676998740e-1)
    p = p * f + np.float32(-1.2420140846e-1)
    p = p * f + np.float32(1.4249322787e-1)
    p = p * f + np.float32(-1.6668057665e-1)
    p = p * f + np.float32(2.0000714765e-1)
    p = p * f + np.float32(-2.4999993993e-1)
    p = p * f + np.float32(3.3333331174e-1)
    square = f * f
    return (p * f - np.float32(0.5)) * square + f + np.float32(exponent) * _LN2


@numba.njit(nogil=True, cache=True, inline="always")
def _cos_sin_turns(word):
    """Cosine and sine of word / 2**32 turns, from its upper 24 bits (Cephes cosf, sinf on [-pi/4, pi/4])."""
    turns24 = np.int32(word >> np.uint32(8))
    quarter = (turns24 + np.int32(1 << 21)) >> np.int32(22)  # nearest quarter turn, 0..4
    x = np.float32(turns24 - (quarter << np.int32(22))) * (_TWO_PI * _TO_UNIT)
    square = x * x
    sine = np.float32(-1.9515295891e-4) * square + np.float32(8.3321608736e-3)
    sine = (sine * square + np.float32(-1.6666654611e-1)) * square * x + x
    cosine = np.float32(2.443315711809948e-5) * square + np.float32(-1.388731625493765e-3)
    cosine = (cosine * square + np.float32(4.166664568298827e-2)) * square * square
    cosine = cosine - np.float32(0.5) * square + np.float32(1.0)
    swapped = (quarter & np.int32(1)) != np.int32(0)
    first = sine if swapped else cosine
    second = cosine if swapped else sine
    first = -first if ((quarter + np.int32(1)) & np.int32(2)) != np.int32(0) else first
    second = -second if (quarter & np.int32(2)) != np.int32(0) else second
    return first, second


@numba.njit(nogil=True, cache=True)
def fill_normals(key, channel, first_voxel, words, normals):
    """Fill `normals` with the standard normal values of the voxels from `first_voxel` on.

    Args:
        key: uint64 of the study.
        channel: Channel of the output volume, 0 <= channel < 2**32.
        first_voxel: First voxel, C order in the (D, H, W) crop; a multiple of 4, below 2**34.
        words: (4, n) uint32, scratch.
        normals: (4 * n,) float32, output.
    """
    philox_words(key, channel, first_voxel // 4, words)
    for half in range(2):
        for i in range(words.shape[1]):
            # (0, 1], exact in float32: the logarithm is finite and the value never passes 5.77.
            uniform = np.float32((words[2 * half, i] >> np.uint32(8)) + np.uint32(1)) * _TO_UNIT
            radius = np.sqrt(np.float32(-2.0) * log_positive(uniform))
            cosine, sine = _cos_sin_turns(words[2 * half + 1, i])
            normals[4 * i + 2 * half] = radius * cosine
            normals[4 * i + 2 * half + 1] = radius * sine
