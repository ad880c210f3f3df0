"""Compile a Triton kernel for sm_90 on any machine and read what the assembler says of it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SHARED_BYTES = 227 * 1024  # that a block may have


@dataclass(frozen=True)
class Resources:
    """Of one compiled kernel. `spilled` is bytes of stack and local memory; `wgmma` counts HGMMA instructions."""

    registers: int
    spilled: int
    shared: int
    wgmma: int


def compile_for_sm90(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], *, num_warps: int, num_stages: int, folder: Path
) -> Resources:
    """Args are by name: `types` of what is passed at run time, `constants` of the rest (a None pointer is one)."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    binary = folder / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])
    usage = _cuobjdump(triton, "-res-usage", binary)
    registers, stack, local = (int(re.search(rf"{word}:(\d+)", usage).group(1)) for word in ("REG", "STACK", "LOCAL"))
    wgmma = _cuobjdump(triton, "-sass", binary).count("HGMMA")
    return Resources(registers, stack + local, made.metadata.shared, wgmma)


def _cuobjdump(triton: Any, flag: str, binary: Path) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, flag, binary], capture_output=True, text=True, check=True).stdout
