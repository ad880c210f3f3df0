"""Presets by name, and a hash that stays."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from ctload.errors import PresetMismatchError
from ctload.storage.preset import PRESETS, Preset

# A change here means that every store packed before is of another preset: raise RULES_VERSION on purpose.
KNOWN_HASHES = {"native": "4533a80f49f31412", "merlin": "3ed10abbc0da5414", "ct-rate": "4ee544e6f934182d"}


@pytest.mark.parametrize("name", KNOWN_HASHES)
def test_the_hash_of_a_preset_never_changes_unnoticed(name):
    assert Preset.from_name(name).hash == KNOWN_HASHES[name]


def test_the_hash_is_the_same_in_another_process():
    code = "from ctload.storage.preset import Preset; print(Preset.from_name('2x1x1mm').hash)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == Preset.from_name("2x1x1mm").hash


def test_every_field_enters_the_hash():
    merlin = PRESETS["merlin"]
    changed = {
        "name": "other", "spacing_mm": (3.0, 1.5, 1.6), "grid": (160, 224, 225), "clip_hu": (-1024, 3070),
        "antialias": True, "align": "centre", "fill_hu": -1000,
    }  # fmt: skip
    assert set(changed) == {field.name for field in fields(Preset)}
    hashes = {replace(merlin, **{name: value}).hash for name, value in changed.items()}
    assert len(hashes | {merlin.hash}) == len(changed) + 1


def test_a_general_preset_is_named_by_its_spacing_and_grid():
    preset = Preset.from_name("3x1.5x1.25mm@160x224x192")
    assert preset.spacing_mm == (3.0, 1.5, 1.25)
    assert preset.grid == (160, 224, 192)
    assert preset.antialias
    assert Preset.from_name("3x1.5x1.25mm").grid is None


@pytest.mark.parametrize("name", ["merlyn", "3x1.5mm", "0x1x1mm", "1x1x1mm@0x4x4", "1x1x1mm@9999999x4x4", ""])
def test_a_name_that_says_nothing_is_refused(name):
    with pytest.raises(PresetMismatchError):
        Preset.from_name(name)
