"""What the packages may import, and what importing them may cost."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Not scipy: numba itself loads it where it is installed.
HEAVY = ("torch", "nvidia.dali", "cupy", "monai", "nibabel", "pydicom", "transformers", "matplotlib")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; exit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_ctload_loads_no_framework() -> None:
    done = run_python(f"import ctload, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_importing_ctload_starts_no_thread_and_reads_no_environment() -> None:
    done = run_python(
        "import threading, os\n"
        "before = dict(os.environ)\n"
        "import ctload\n"
        "print(threading.active_count(), dict(os.environ) == before)"
    )
    assert done.stdout.split() == ["1", "True"], done.stdout + done.stderr


def test_public_names_exist_and_are_documented() -> None:
    import ctload

    for name in ctload.__all__:
        assert getattr(ctload, name).__doc__, f"ctload.{name} has no docstring"


def test_every_core_part_stands_under_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    held = {name for contract in contracts for name in contract.get("source_modules", [])}
    optional = {"__init__", "__pycache__", "adapters", "pipeline", "readers", "verbs"}
    parts = {path.stem for path in (ROOT / "ctload").iterdir() if path.is_dir() or path.suffix == ".py"}
    core = {f"ctload.{name}" for name in parts - optional}
    assert core <= held, f"add to the forbidden contract of pyproject.toml: {sorted(core - held)}"


def test_no_public_function_shares_the_name_of_its_file() -> None:
    shared = [
        f"{path}:{node.lineno}"
        for package in ("ctload", "ctclip", "benchmarks")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == path.stem
    ]
    assert not shared
