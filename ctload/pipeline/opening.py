"""Opening a pipeline by name. Imports DALI and CuPy only when they are asked for."""

import importlib
import re
from types import ModuleType

from ctload.errors import LoaderError
from ctload.pipeline.numba import open_numba
from ctload.pipeline.reference import open_reference
from ctload.pipeline.spec import Pipeline, PipelineSpec

PIPELINES = ("auto", "numba", "dali", "reference")


def open_pipeline(name: str, device: str, spec: PipelineSpec) -> Pipeline:
    """Open a pipeline.

    Args:
        name: "numba" (compiled, on the CPU), "dali", "reference" (NumPy, on the CPU), or "auto": numba on the CPU, DALI
            on a GPU.
        device: "cpu", "cuda" (the first GPU) or "cuda:N".
        spec: What stays the same over all batches.

    Raises:
        LoaderError: An unknown name or device, a package is not installed, or there is no such GPU.
    """
    if name not in PIPELINES:
        raise LoaderError(f"no pipeline {name!r}; there are {PIPELINES}")
    device_id = device_id_of(device)
    if name == "auto":
        name = "numba" if device_id is None else "dali"
    if name != "dali":
        if device_id is not None:
            raise LoaderError(f"pipeline={name!r} runs on the CPU; for device='cuda' take pipeline='dali'")
        return open_numba(spec) if name == "numba" else open_reference(spec)
    if device_id is not None:
        _need("cupy", "pip install 'ctload[dali,cuda]'")
    _need("nvidia.dali", "pip install \"ctload[dali]\" (Linux), or take pipeline='numba'")
    from ctload.pipeline.dali import open_dali

    return open_dali(spec, device_id)


def device_id_of(device: str) -> int | None:
    """Number of the GPU that "cuda" or "cuda:N" names; None for "cpu".

    Raises:
        LoaderError: Another text.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if found is None:
        raise LoaderError(f"no device {device!r}; devices are 'cpu', 'cuda' and 'cuda:N'")
    return None if device == "cpu" else int(found.group(1) or 0)


def _need(package: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise LoaderError(f"pipeline='dali' needs {package}, which cannot be imported ({error}); {remedy}") from error
