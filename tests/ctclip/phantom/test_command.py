"""`ctclip phantom`: words in, a cohort out, wrong words refused."""

import argparse

import pytest

from ctclip.cohorts.phantom import read_phantom
from ctclip.phantom.command import add_phantom_arguments, run_phantom
from ctclip.phantom.errors import KnobError


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_phantom_arguments(parser)
    return run_phantom(parser.parse_args(words))


def test_the_command_makes_a_cohort_that_reads_back(tmp_path, capsys):
    out = tmp_path / "cohort"
    words = ("--out", str(out), "--studies", "4", "--seed", "2", "--shape", "12", "16", "16", "--format", "nii")
    assert run(*words, "--prevalence", "ascites=0.9", "--masks", "--series", "kernel") == 0
    cohort = read_phantom(out)
    assert len(cohort) == 4
    assert cohort.paths[0].suffix == ".nii"
    assert (out / "volumes_kernel").is_dir()
    assert "synthetic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shape", "8", "8", "8", "--spacing", "0", "1", "1"), "spacing_mm"),
        (("--spacing", "1", "1", "1"), "without --shape"),
        (("--prevalence", "ascites=much"), "ascites=much"),
        (("--prevalence", "ascites=1.5"), "ascites=1.5"),
        (("--effect", "fever=1"), "'fever'"),
    ],
)
def test_wrong_words_are_typed_errors(tmp_path, words, message):
    with pytest.raises(KnobError, match=message):
        run("--out", str(tmp_path / "out"), "--studies", "2", *words)
