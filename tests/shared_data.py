"""Where the tests find real CT studies, reports and labels: not in this repository, so a test without them skips."""

import os
from pathlib import Path

import pytest


def _find(kind: str, name: str) -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CTLOAD_TEST_DATA") or default)
    path = folder / kind / name
    if not path.exists():
        pytest.skip(f"needs {kind}/{name} of the test data folder; set CTLOAD_TEST_DATA to that folder")
    return path


def ct(name: str) -> Path:
    """A file or folder of the real CT studies, as "cptac_c3n00247_chest/dicom.zip"."""
    return _find("ct", name)


def reports(name: str) -> Path:
    """A file of the real reports."""
    return _find("reports", name)


def labels(name: str) -> Path:
    """A file of labels and prompts."""
    return _find("labels", name)
