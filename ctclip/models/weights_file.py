"""A file of weights as named tensors: .safetensors, or what torch.save wrote, read with weights_only=True.

Enter a path; leaves {name: tensor}, whole and finite, on the CPU. No pickled object is ever made: a file that needs
one is refused. It knows nothing of what the names mean.
"""

import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctclip.errors import CheckpointError

WRAPPERS = ("state_dict", "model", "model_state_dict")
_AGAIN = "Download or copy it again and compare its size and checksum with the publisher's"
_CONVERT = (
    "If you trust its origin, convert it once where its code is installed: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a file.

    A mapping below "state_dict" or "model", as trainers write it, is taken out, and the prefix "module." of
    DistributedDataParallel is dropped.

    Raises:
        CheckpointError: No such file, damaged, pickled, no named tensors, or values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("no such file of weights; give a .pt, .pth or .safetensors", path=path)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    others = [name for name, value in state.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if others or not state:
        raise CheckpointError(
            f"holds no plain state_dict: {len(others)} of {len(state)} entries are no named tensors, such as "
            f"{str(next(iter(others), ''))!r}. {_CONVERT}",
            path=path,
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    _check_finite(state, path)
    return state


def write_weights(state: dict[str, Tensor], path: str | Path) -> None:
    """Write named tensors: as safetensors where the name ends so, else as torch.save does.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(state, beside)
        else:
            torch.save(state, beside)
        beside.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise CheckpointError(f"cannot be written: {error}", path=path) from error


def _read_safetensors(path: Path) -> dict[Any, Any]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"is no whole .safetensors file: {error}. {_AGAIN}", path=path) from error


def _read_torch(path: Path) -> dict[Any, Any]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_zip(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"is damaged, or holds pickled objects beside tensors, which are never read ({_first_line(error)}). "
            f"{_AGAIN}. {_CONVERT}",
            path=path,
        ) from error
    except Exception as error:  # whatever the decoder makes of bytes that are no checkpoint
        raise CheckpointError(f"is no whole file of torch.save: {_first_line(error)}. {_AGAIN}", path=path) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"holds a {type(loaded).__name__}, not a state_dict. {_CONVERT}", path=path)
    return loaded


def _check_zip(path: Path) -> None:
    """torch.load does not look at the checksums that torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise CheckpointError(f"is no whole file of torch.save: {error}. {_AGAIN}", path=path) from error
    if damaged is not None:
        raise CheckpointError(f"is damaged: the checksum of {damaged} differs. {_AGAIN}", path=path)


def _check_finite(state: dict[str, Tensor], path: Path) -> None:
    wrong = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} of {len(state)} tensors are not finite, the first is {wrong[0]}; take another checkpoint",
            path=path,
        )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
