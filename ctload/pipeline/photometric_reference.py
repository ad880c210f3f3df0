"""The photometric pass and its noise in plain NumPy: slow, and the definition that the fast forms are held against.

The float steps are float32, one at a time and in the order of ctload/planning/plan.py, because a rounding difference at
zero would be magnified by a gamma below 1; Philox is integers, Box-Muller is float64.
"""

import numpy as np

from ctload.planning.plan import BatchPlan


def philox(counter: np.ndarray, channel: int, key: int) -> np.ndarray:
    """Philox4x32-10 (Salmon et al. 2011) of the counters (counter, channel, 0, 0).

    Args:
        counter: (n,) integers below 2**32.
        channel: Second word of the counter.
        key: 64 bits.

    Returns:
        (n, 4) uint32.
    """
    mask = np.uint64(0xFFFFFFFF)
    c0 = counter.astype(np.uint64)
    c1, c2, c3 = np.full_like(c0, channel), np.zeros_like(c0), np.zeros_like(c0)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * c0
        product1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & mask,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & mask,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def normal_field(key: int, channel: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal values of a volume's voxels, float64 of `shape`; see ctload/voxels/noise.py for the counters.

    Args:
        key: 64 bits, one per study.
        channel: Channel of the output volume.
        shape: (D, H, W).
    """
    num_voxels = int(np.prod(shape))
    words = philox(np.arange(-(-num_voxels // 4)), channel, key)
    pairs = words.reshape(-1, 2) >> 8  # 24 bits, exact in float32 too
    radius = np.sqrt(-2 * np.log((pairs[:, 0] + 1) / 2**24))
    angle = 2 * np.pi * pairs[:, 1] / 2**24
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return values.reshape(-1)[:num_voxels].reshape(shape)


def photometric_volume(volume: np.ndarray, plan: BatchPlan, study: int, channel: int, window: int) -> np.ndarray:
    """One output channel of one study.

    Args:
        volume: (D, H, W) int16 or float32, after geometry.
        plan: The batch's plan.
        study: Position in the batch.
        channel: Output channel, for the noise.
        window: Which window of the plan.

    Returns:
        (D, H, W) float32 in [0, 1].
    """
    low, high = plan.window[study, window].astype(np.float32)
    one, half = np.float32(1), np.float32(0.5)
    v = (volume.astype(np.float32) - low) / (high - low)
    v = np.clip(v, 0, one)
    v = (v - half) * np.float32(plan.contrast[study]) + half + np.float32(plan.brightness[study])
    v = np.clip(v, 0, one) ** np.float32(plan.gamma[study])
    if plan.noise_sigma[study] > 0:
        normal = normal_field(int(plan.noise_key[study]), channel, volume.shape)
        v = v + np.float32(plan.noise_sigma[study]) * normal.astype(np.float32)
    return np.clip(v, 0, one).astype(np.float32)
