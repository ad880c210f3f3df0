"""Runs that cannot give an objective what it needs are refused, with the way out."""

import warnings
from dataclasses import replace
from itertools import combinations

import pytest

from ctclip.errors import ConfigError
from ctclip.objectives.parameters import (
    AnatomyParameters,
    CagclParameters,
    FvlmParameters,
    Methods,
    MococlipParameters,
    MomentumParameters,
    ObjectiveName,
    OffclipParameters,
)
from ctclip.objectives.requirements import RunFacts, UnitCounts, check_objectives, check_run

ALL: tuple[ObjectiveName, ...] = ("clip", "offclip", "mococlip", "fvlm", "cagcl")
RUN = RunFacts(1000, 20_000, {"report": UnitCounts(100, 900), "liver": UnitCounts(500, 400, 100)}, True, 2)
MOCO = Methods(mococlip=MococlipParameters("moco"))


def test_each_objective_alone_is_fine_with_data_for_all():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ALL:
            check_objectives([name], Methods())
            check_run([name], Methods(), RUN)


def test_pairs_that_share_a_term_are_refused_and_others_are_not():
    allowed = {("clip", "fvlm"), ("clip", "cagcl"), ("offclip", "fvlm"), ("offclip", "cagcl"), ("mococlip", "fvlm"),
               ("mococlip", "cagcl")}  # fmt: skip
    for pair in combinations(ALL, 2):
        if pair in allowed:
            check_objectives(pair, Methods())
            continue
        with pytest.raises(ConfigError, match="would count it twice"):
            check_objectives(pair, Methods())
        check_objectives(pair, Methods(), allow_double=True)


def test_the_momentum_term_alone_goes_with_every_other():
    for name in (ALL[0], ALL[1], ALL[4]):
        check_objectives([name, "mococlip"], MOCO)
    with pytest.raises(ConfigError, match=r"'clip' and 'mococlip' both have the contrast of studies.*mode='moco'"):
        check_objectives(["clip", "mococlip"], Methods())


def test_switches_that_add_a_term_are_seen():
    with pytest.raises(ConfigError, match="'clip' and 'cagcl' both have the contrast of studies"):
        check_objectives(["clip", "cagcl"], Methods(cagcl=CagclParameters(weight_volume=0.5)))
    with pytest.raises(ConfigError, match="'offclip' and 'fvlm' both have the contrast within anatomies"):
        check_objectives(["offclip", "fvlm"], Methods(offclip=OffclipParameters(pair_unit="anatomy")))
    with pytest.raises(ConfigError, match="'clip' and 'clip' both have"):
        check_objectives(["clip", "clip"], Methods())
    with pytest.raises(ConfigError, match="no objective; name at least one of clip, offclip"):
        check_objectives([], Methods())


def test_missing_masks_are_refused_and_attention_in_their_place_is_warned_of():
    without = replace(RUN, has_masks=False)
    for name in ALL[3:]:
        with pytest.raises(ConfigError, match=f"'{name}' needs a label map .*label:organs .*source='attention'"):
            check_run([name], Methods(), without)
    attention = AnatomyParameters(source="attention")
    with pytest.warns(UserWarning, match="that is not fVLM"):
        check_run(["fvlm"], Methods(fvlm=FvlmParameters(anatomy=attention)), without)
    with pytest.raises(ConfigError, match="'offclip' needs a label map"):
        check_run(["offclip"], Methods(offclip=OffclipParameters(pair_unit="anatomy")), without)


def test_a_section_without_normals_is_refused_for_offclip_alone():
    for normal in (0, 1):
        run = replace(RUN, units={**RUN.units, "bowel": UnitCounts(normal, 30, 5)})
        with pytest.raises(ConfigError, match=rf"'bowel' has {normal} normal, 30 abnormal and 5 unknown; leave it out"):
            check_run(["offclip"], Methods(), run)
        check_run(["clip"], Methods(), run)
    with pytest.warns(UserWarning, match="'spleen' has 0 abnormal of 1000"):
        check_run(["offclip"], Methods(), replace(RUN, units={"spleen": UnitCounts(50, 0)}))


def test_a_queue_larger_than_the_data_a_single_view_and_a_long_memory_are_told():
    large = Methods(mococlip=MococlipParameters(image=MomentumParameters(queue=4096)))
    with pytest.raises(ConfigError, match=r"image.queue=4096 is above the 1000 training studies"):
        check_run(["mococlip"], large, RUN)
    with pytest.raises(ConfigError, match="the loader gives 1; ask for 2"):
        check_run(["mococlip"], Methods(), replace(RUN, num_views=1))
    with pytest.warns(UserWarning, match=r"momentum=0.999 remembers 1000 steps"):
        check_run(["mococlip"], Methods(), replace(RUN, steps=500))
    check_run(["mococlip"], Methods(mococlip=MococlipParameters("itc")), replace(RUN, num_views=1, steps=500))
