"""The examples in the docstrings of everything that draws run as written."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["sampling.draw", "planning.augment", "sampling.sampler"])
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"ctload.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
