"""The photometric pass as CUDA C++: device code only, as a string, with the record it reads.

Kept apart from the file that launches it, so that it can be read, compiled and run on a host without CuPy. Compile it
with COMPILE_OPTIONS: a fused multiply-add would round differently from the NumPy twin, and a gamma below 1 magnifies
that at zero. The formulas are those of ctload/planning/plan.py and ctload/voxels/noise.py.
"""

import numpy as np

COMPILE_OPTIONS = ("--fmad=false",)

KERNEL_NAMES = {"int16": "photometric_int16", "float32": "photometric_float32"}

CHANNEL_DTYPE = np.dtype(
    [
        ("voxels", np.uint64),  # address of the (D, H, W) input on the device
        ("noise_key", np.uint64),
        ("low", np.float32),
        ("high", np.float32),
        ("brightness", np.float32),
        ("contrast", np.float32),
        ("gamma", np.float32),
        ("noise_sigma", np.float32),
        ("channel", np.uint32),  # output channel, for the noise
        ("padding", np.uint32),
    ]
)
"""One output channel of one study, as the kernel's struct Channel."""

CUDA_SOURCE = r"""
struct Channel {
    unsigned long long voxels;
    unsigned long long noise_key;
    float low, high, brightness, contrast, gamma, noise_sigma;
    unsigned int channel, padding;
};

// Philox4x32-10 of the counter (group, channel, 0, 0).
__device__ __forceinline__ void philox(unsigned int group, unsigned int channel, unsigned long long key,
                                       unsigned int words[4]) {
    unsigned int c0 = group, c1 = channel, c2 = 0u, c3 = 0u;
    unsigned int k0 = (unsigned int)key, k1 = (unsigned int)(key >> 32);
    #pragma unroll
    for (int round = 0; round < 10; ++round) {
        unsigned int high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        unsigned int high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0; words[1] = c1; words[2] = c2; words[3] = c3;
}

// Box-Muller of the upper 24 bits of two words.
__device__ __forceinline__ void normal_pair(unsigned int word0, unsigned int word1, float* first, float* second) {
    float uniform = (float)((word0 >> 8) + 1u) * 5.9604644775390625e-8f;  // 2**-24, in (0, 1]
    float radius = sqrtf(-2.0f * logf(uniform));
    float sine, cosine;
    sincospif((float)(word1 >> 8) * 1.1920928955078125e-7f, &sine, &cosine);  // 2**-23 half turns
    *first = radius * cosine;
    *second = radius * sine;
}

__device__ __forceinline__ float clip01(float value) { return fminf(fmaxf(value, 0.0f), 1.0f); }

template <typename Voxel>
__device__ __forceinline__ void photometric(const Channel* channels, float* out, unsigned long long num_voxels) {
    const Channel ch = channels[blockIdx.y];
    const Voxel* voxels = (const Voxel*)ch.voxels;
    float* values = out + (unsigned long long)blockIdx.y * num_voxels;
    const float width = ch.high - ch.low;
    const unsigned long long num_groups = (num_voxels + 3ull) / 4ull;
    const unsigned long long stride = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long group = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; group < num_groups;
         group += stride) {
        float normals[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (ch.noise_sigma > 0.0f) {
            unsigned int words[4];
            philox((unsigned int)group, ch.channel, ch.noise_key, words);
            normal_pair(words[0], words[1], &normals[0], &normals[1]);
            normal_pair(words[2], words[3], &normals[2], &normals[3]);
        }
        #pragma unroll
        for (int k = 0; k < 4; ++k) {
            unsigned long long i = 4ull * group + k;
            if (i < num_voxels) {
                float value = clip01(((float)voxels[i] - ch.low) / width);
                value = clip01((value - 0.5f) * ch.contrast + 0.5f + ch.brightness);
                if (ch.gamma != 1.0f) value = powf(value, ch.gamma);
                values[i] = clip01(value + ch.noise_sigma * normals[k]);
            }
        }
    }
}

extern "C" __global__ void photometric_int16(const Channel* channels, float* out, unsigned long long num_voxels) {
    photometric<short>(channels, out, num_voxels);
}

extern "C" __global__ void photometric_float32(const Channel* channels, float* out, unsigned long long num_voxels) {
    photometric<float>(channels, out, num_voxels);
}
"""


def channel_records(addresses: list[int], plan, num_channels: int) -> np.ndarray:
    """The records of a batch, (B * C * W,) CHANNEL_DTYPE, in the order of the output's channels.

    Args:
        addresses: Where the B * C input volumes lie, channel fastest.
        plan: The BatchPlan of the B studies.
        num_channels: C, the stored channels of a study.
    """
    num_windows = plan.window.shape[1]
    records = np.zeros((plan.batch_size, num_channels, num_windows), CHANNEL_DTYPE)
    records["voxels"] = np.asarray(addresses, np.uint64).reshape(plan.batch_size, num_channels, 1)
    records["low"] = plan.window[:, None, :, 0]
    records["high"] = plan.window[:, None, :, 1]
    for name in ("brightness", "contrast", "gamma", "noise_sigma", "noise_key"):
        records[name] = getattr(plan, name)[:, None, None]
    records["channel"] = np.arange(num_channels * num_windows).reshape(num_channels, num_windows)
    return records.reshape(-1)
