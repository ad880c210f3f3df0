"""Wrong knobs are typed errors that name the value and the limit."""

import pytest

from ctclip.errors import CtclipError
from ctclip.phantom.catalogue import FINDINGS
from ctclip.phantom.errors import KnobError
from ctclip.phantom.grid import Grid, NativeGrid
from ctclip.phantom.knobs import Knobs


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prevalence": {"ascites": 1.2}}, "prevalence of ascites=1.2"),
        ({"prevalence": {"ascites": float("nan")}}, "prevalence of ascites=nan"),
        ({"prevalence": {"broken heart": 0.1}}, "'broken heart'"),
        ({"effect": {"free_air": -1.0}}, "effect of free_air=-1.0"),
        ({"effect": {"free air": 1.0}}, "'free air'"),
        ({"severity": (0.5, 0.5, 0.5)}, "severity=(0.5, 0.5, 0.5)"),
        ({"phases": (1.0, 0.0)}, "phases=(1.0, 0.0)"),
        ({"noise": 11.0}, "noise=11.0"),
        ({"omission": 1.1}, "omission=1.1"),
        ({"normal_share": 1.0}, "normal_share=1.0"),
        ({"planted": "60:40"}, "'60:40'"),
        ({"series": ("third",)}, "['third']"),
        ({"prevalence": {"prostatomegaly": 0.6}}, "prostatomegaly is 0.6"),
        ({"prevalence": {"gallstones": 0.7, "surgically_absent_gallbladder": 0.5}}, "gallstones is 0.7"),
        ({"prevalence": {"ascites": 0.9}, "normal_share": 0.5}, "at most 0.500"),
    ],
)
def test_a_knob_outside_its_range_is_refused_with_its_value(fields, words):
    with pytest.raises(KnobError) as caught:
        Knobs(**fields)
    assert words in str(caught.value)
    assert isinstance(caught.value, CtclipError)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 1000.0), (1.0, 1.0)])
def test_a_spacing_that_no_volume_has_is_refused(spacing):
    with pytest.raises(KnobError, match="spacing_mm"):
        Grid((8, 8, 8), spacing)


@pytest.mark.parametrize("shape", [(0, 8, 8), (8, 8), (4096, 4096, 4096)])
def test_a_shape_that_no_volume_has_is_refused(shape):
    with pytest.raises(KnobError, match="shape"):
        Grid(shape, (1.0, 1.0, 1.0))
    if len(shape) != 3 or 0 in shape:
        with pytest.raises(KnobError, match="shape"):
            Grid.covering(shape)


def test_a_matrix_that_no_scanner_has_is_refused():
    with pytest.raises(KnobError, match="matrix=8"):
        NativeGrid(8)


def test_changed_keeps_the_other_prevalences_and_checks_again():
    knobs = Knobs.demo().changed(prevalence={"ascites": 0.1}, noise=2.0)
    assert knobs.prevalence["ascites"] == 0.1
    assert knobs.noise == 2.0
    assert knobs.prevalence["splenomegaly"] == Knobs.demo().prevalence["splenomegaly"]
    with pytest.raises(KnobError):
        knobs.changed(prevalence={"ascites": 2.0})


def test_the_demo_has_at_least_twelve_common_findings():
    prevalence = Knobs.demo().prevalence
    common = [finding for finding in FINDINGS if prevalence[finding] >= 0.25]
    assert len(common) >= 12
    assert all(prevalence[finding] == 0 for finding in FINDINGS if finding not in common)
