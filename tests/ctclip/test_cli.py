"""The table of verbs: help, unknown words, typed errors as one line and exit status 2."""

from pathlib import Path

import pytest

import ctclip.cli


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctclip.cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ctclip.cli.VERBS)


def test_an_unknown_verb_and_no_verb_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctclip.cli.main(["trian"]) == 2
    assert "no verb 'trian'" in capsys.readouterr().err
    assert ctclip.cli.main([]) == 2


@pytest.mark.parametrize("verb", ["embed", "evaluate"])
def test_a_folder_without_a_run_is_one_line_and_exit_2(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctclip.cli.main([verb, "--run", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "config.json is missing" in error
    assert error.count("\n") == 1


def test_a_cohort_table_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "none.csv"
    words = ["train", "--cohort", f"table:{table}", "--store", str(tmp_path), "--out", str(tmp_path / "run")]
    assert ctclip.cli.main(words) == 2
    assert str(table) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
