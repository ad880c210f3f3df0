"""What this machine offers a training: cores, memory, CUDA, and whether the installed packages fit each other."""

import os
import resource
from importlib.metadata import distributions

import torch

from ctclip.training.fitting import free_memory


def describe_machine(device: torch.device) -> list[str]:
    """Versions, cores and memory, each in a few words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    notes = [f"torch {torch.__version__}", f"{cores} cores", f"{free_memory() / 2**30:.1f} GiB free", *dali_packages()]
    if device.type != "cuda":
        return [*notes, "no CUDA: float32 on the CPU"]
    properties = torch.cuda.get_device_properties(device)
    notes += [properties.name, f"{properties.total_memory / 2**30:.0f} GiB", f"CUDA {torch.version.cuda}"]
    return [*notes, f"cuDNN {torch.backends.cudnn.version()}"]


def dali_packages() -> list[str]:
    """Installed packages of DALI, each built for one CUDA."""
    names = {(found.metadata["Name"] or "").lower() for found in distributions()}
    return sorted(name for name in names if name.startswith("nvidia-dali-cuda"))


def cuda_mismatches(torch_cuda: str, dali: list[str]) -> list[str]:
    """What does not fit torch's CUDA.

    Args:
        torch_cuda: torch.version.cuda, as "13.0".
        dali: Of `dali_packages`, as ["nvidia-dali-cuda130"].

    Returns:
        A sentence with the way out for each; empty where all fits.
    """
    fitting = f"nvidia-dali-cuda{torch_cuda.split('.')[0]}0"
    if not dali:
        return [f"DALI is not installed, so plans run in the NumPy reference: pip install {fitting}"]
    if fitting in dali:
        return []
    return [f"torch is built for CUDA {torch_cuda} and {', '.join(dali)} is not: pip install {fitting} in its place"]


def describe_memory(device: torch.device) -> list[str]:
    """The most that this process has taken so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
    notes = [f"{peak / 2**30:.2f} GiB of memory at most"]
    if device.type == "cuda":
        used, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        notes.append(f"{used / 2**30:.1f} of {total / 2**30:.0f} GiB on the GPU")
    return notes
