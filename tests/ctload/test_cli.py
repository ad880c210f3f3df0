import subprocess
import sys

import numpy as np
import pytest

from ctload.cli import main
from ctload.storage import layout
from ctload.storage.store import open_store
from tests.ctload.canonical_nifti import voxels_of, write_nifti


def pack_one(tmp_path, *options: str) -> int:
    write_nifti(tmp_path / "in" / "a.nii.gz", voxels_of(1))
    return main(["pack", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--preset", "native", *options])


def test_pack_info_and_verify_in_turn(tmp_path, capsys):
    assert pack_one(tmp_path) == 0
    assert "packed 1, reused 0, refused 0" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "store")]) == 0
    told = capsys.readouterr().out
    assert "studies    1" in told
    assert "native" in told
    assert "12 x 20 x 16 voxels" in told
    assert main(["info", str(tmp_path / "store"), "--studies"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert dict(zip(head.split("\t"), row.split("\t"), strict=True))["spacing_z_mm"] == "2.5"
    assert row.startswith("a\t12\t20\t16\t2.5\t0.8\t0.8\tHU")
    assert main(["verify", str(tmp_path / "store"), "--workers", "2"]) == 0
    assert "sound; 1 studies" in capsys.readouterr().out
    np.testing.assert_array_equal(open_store(tmp_path / "store").read("a"), voxels_of(1))


def test_a_refused_source_is_named_with_its_code_and_the_status_says_so(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.nii").write_text("no image")
    assert pack_one(tmp_path) == 1
    told = capsys.readouterr().out
    assert "refused [UNDECODABLE] text: " in told
    assert "packed 1, reused 0, refused 1" in told


def test_damage_is_named_and_the_status_says_so(tmp_path, capsys):
    pack_one(tmp_path)
    shard = tmp_path / "store" / layout.study_folder("a") / layout.shard_file("0")
    shard.unlink()
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "store")]) == 1
    told = capsys.readouterr().out
    assert f"a: {shard}: the shard is gone" in told
    assert "1 problems" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "nowhere"],
        ["verify", "nowhere"],
        ["pack", "nowhere.csv", "--out", "store", "--preset", "native"],
        ["pack", "nowhere.csv", "--out", "store", "--preset", "fine"],
    ],
)
def test_typed_errors_are_one_line_on_stderr_and_status_2(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ctload: ")
    assert told.err.count("\n") == 1


def test_the_module_runs_as_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "ctload.cli", "info", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no ctload store here" in done.stderr
