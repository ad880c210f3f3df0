"""The picture shows each finding: its tile differs from the tile without it."""

from pathlib import Path

import numpy as np
import pytest

import ctclip.phantom

contact_sheet = pytest.importorskip("ctclip.phantom.contact_sheet", reason="matplotlib is not installed (extra train)")


@pytest.mark.parametrize("finding", ["renal_cyst", "fracture", "anasarca"])
def test_a_tile_shows_the_finding_and_its_twin_does_not(finding):
    present, absent, words = contact_sheet.picture(finding)
    assert present.shape == absent.shape
    assert present.shape[0] == present.shape[1]
    # The same patient and place; the noise is the same too, so all that differs is the finding.
    assert 0.002 < np.mean(np.abs(present - absent) > 0.1) < 0.5
    assert words.split(",")[0] in ("moderate", "severe")


def test_the_sheet_in_the_docs_is_a_picture_of_less_than_500_kib():
    path = Path(ctclip.phantom.__file__).with_name("contact_sheet.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 500 * 1024
