"""Arms and the grid: what may differ, what may not, and what makes a cell."""

from dataclasses import replace
from pathlib import Path

import pytest

from ctclip.config import TrainConfig
from ctclip.config_json import differences
from ctclip.errors import StudyError
from ctclip.study import grid
from ctclip.study.arm import FREE_FIELDS, KINDS, Arm, arms_of, configure
from ctclip.study.grid import StudyConfig, cells_of, check_control, read_study, write_study

BASE = TrainConfig(cohort="table:x.csv", store="x", steps=40)
FRACTIONS = (0.2, 0.4, 1.0)


def study(kind: str = "batch-composition", **changes) -> StudyConfig:
    arms = arms_of(kind, fractions=FRACTIONS, objectives=(("clip",), ("offclip",)))
    return replace(StudyConfig(kind, BASE, arms, (0, 1)), **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_arms_differ_in_what_their_study_is_about_and_in_nothing_else(kind):
    cells = cells_of(study(kind), Path("runs"))
    for cell in cells:
        first = next(other for other in cells if other.seed == cell.seed)
        free = FREE_FIELDS[kind] | {"out"}
        assert set(differences(first.config, cell.config)) <= free
        assert cell.config.steps == BASE.steps
        assert cell.config.optim == BASE.optim
        assert kind == "alternation" or cell.config.data.schedule == BASE.data.schedule


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 41},
        {"optim": replace(BASE.optim, learning_rate=2e-3)},
        {"optim": replace(BASE.optim, warmup_steps=1)},
        {"data": replace(BASE.data, schedule="full")},
        {"data": replace(BASE.data, sections=("liver",))},
        {"data": replace(BASE.data, batch_size=8)},
    ],
)
def test_an_arm_with_other_steps_schedule_or_alternation_is_refused(monkeypatch, change):
    def unequal(arm: Arm, base: TrainConfig) -> TrainConfig:
        made = configure(arm, base)
        return replace(made, **change) if arm.strategy == "50:50" else made

    monkeypatch.setattr(grid, "configure", unequal)
    with pytest.raises(StudyError, match="arm '50:50' differs from 'random' in"):
        check_control(study())


def test_a_twin_and_its_ratio_share_their_quotas_and_random_draws_from_the_same_eligible_set():
    made = {arm.title: configure(arm, BASE).data for arm in arms_of("batch-composition")}
    assert made["25:75"].quotas == made["25:75-twin"].quotas == {"normal": 25.0, "abnormal": 75.0}
    assert {data.eligible for data in made.values()} == {"normality"}
    assert {title: data.sampler for title, data in made.items() if "50" in title} == {
        "50:50": "stratified",
        "50:50-twin": "twin",
    }


def test_a_changed_configuration_is_another_cell_and_an_equal_one_is_the_same():
    cells = {cell.name for cell in cells_of(study(), Path("a"))}
    assert {cell.name for cell in cells_of(study(), Path("elsewhere"))} == cells
    changed = replace(BASE, steps=41)
    assert not {cell.name for cell in cells_of(study(base=changed), Path("a"))} & cells
    assert not {cell.name for cell in cells_of(study(threshold_from="argmax"), Path("a"))} & cells
    assert len(cells) == 14


def test_a_folder_takes_up_more_seeds_and_arms_and_refuses_anything_else(tmp_path):
    few = study(arms=arms_of("batch-composition", ratios=("50:50",)))
    write_study(few, tmp_path)
    more = study(seeds=(0, 1, 2))
    write_study(more, tmp_path)
    assert read_study(tmp_path) == more
    with pytest.raises(StudyError, match=r"another base\.steps; give another --out"):
        write_study(replace(more, base=replace(BASE, steps=80)), tmp_path)
    with pytest.raises(StudyError, match="another seeds"):
        write_study(study(seeds=(0,)), tmp_path)
    assert read_study(tmp_path) == more


def test_a_folder_without_a_study_is_a_typed_error(tmp_path):
    with pytest.raises(StudyError, match=r"study\.json is missing"):
        read_study(tmp_path)


@pytest.mark.parametrize("strategy", ["25-75", "mixed", "25:75:10", "twin", "0:0", ""])
def test_a_strategy_that_is_none_is_refused(strategy):
    with pytest.raises(StudyError, match="no strategy"):
        Arm(strategy)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"objective": ("clip", "speed")},
            r"arm 'random, clip \+ speed': no objective 'speed'; there are clip, offclip",
        ),
        ({"objective": ()}, "no objective"),
        ({"fraction": 0.0}, r"arm 'random, 0% of the data' asks for 0 of the studies"),
        ({"fraction": 1.2}, r"a share lies in \(0, 1\]"),
    ],
)
def test_an_arm_without_an_objective_or_with_an_impossible_share_is_refused_by_its_name(fields, message):
    with pytest.raises(StudyError, match=message):
        Arm(**fields)


def test_a_study_counts_from_a_macro_auroc_of_0_80():
    assert study().min_auroc == 0.80


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_there_and_different(seeds):
    with pytest.raises(StudyError, match="seeds"):
        cells_of(study(seeds=seeds), Path("a"))


def test_two_arms_of_one_name_and_an_unknown_kind_are_refused():
    with pytest.raises(StudyError, match="asked for twice"):
        arms_of("batch-composition", ratios=("50:50", "50:50"))
    with pytest.raises(StudyError, match="asked for twice"):
        arms_of("data-scaling", fractions=(0.2, 0.2))
    with pytest.raises(StudyError, match="'random_50pct' is asked for twice"):
        arms_of("data-scaling", fractions=(0.501, 0.5, 1.0))
    with pytest.raises(StudyError, match="two arms have the name 'random_50pct'"):
        cells_of(study("data-scaling", arms=(Arm(), Arm(fraction=0.5), Arm(fraction=0.501))), Path("a"))
    with pytest.raises(StudyError, match="no study 'speed'"):
        arms_of("speed")
