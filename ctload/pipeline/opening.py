"""Opening a pipeline by name. Imports DALI and CuPy only when they are asked for."""

import importlib
from types import ModuleType

from ctload.errors import LoaderError
from ctload.pipeline.reference import open_reference
from ctload.pipeline.spec import Pipeline, PipelineSpec

PIPELINES = ("reference", "dali")
DEVICES = ("cpu", "cuda")


def open_pipeline(name: str, device: str, spec: PipelineSpec) -> Pipeline:
    """Open a pipeline.

    Args:
        name: "reference" (NumPy, on the CPU) or "dali".
        device: "cpu" or "cuda".
        spec: What stays the same over all batches.

    Raises:
        LoaderError: An unknown name or device, or a package is not installed.
    """
    if name not in PIPELINES or device not in DEVICES:
        raise LoaderError(f"no pipeline {name!r} on device {device!r}; pipelines are {PIPELINES}, devices {DEVICES}")
    if name == "reference":
        if device != "cpu":
            raise LoaderError("pipeline='reference' runs on the CPU; for device='cuda' take pipeline='dali'")
        return open_reference(spec)
    if device == "cuda":
        _need("cupy", "pip install 'ctload[dali,cuda]'")
    _need("nvidia.dali", "pip install \"ctload[dali]\" (Linux), or take pipeline='reference'")
    from ctload.pipeline.dali import open_dali

    return open_dali(spec, device)


def _need(package: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise LoaderError(f"pipeline='dali' needs {package}, which cannot be imported ({error}); {remedy}") from error
