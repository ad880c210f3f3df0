"""Samplers: who is drawn, how often, and that (epoch, step) alone decides it."""

import tracemalloc
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.sampling.units import AlternatingUnits
from tests.ctload.studies import make_studies

SECTIONS = ("liver", "spleen", "bowel")
UNITS = AlternatingUnits(SECTIONS)


def labelled(num: int, seed: int, *, normal: float = 0.4, unknown: float = 0.2):
    """Studies with a column per unit: 0, 1 or -1."""
    rng = np.random.default_rng(seed)
    chances = [normal, 1 - normal - unknown, unknown]
    columns = {f"abnormal:{unit}": rng.choice([0, 1, -1], num, p=chances) for unit in ("report", *SECTIONS)}
    return make_studies(num, columns=columns)


def epochs_of(bound, num_epochs: int):
    return [bound.draw(epoch, step) for epoch in range(num_epochs) for step in range(bound.num_batches)]


# Sequential


@given(st.integers(1, 40), st.integers(1, 12))
def test_sequential_gives_every_study_once_in_order(num: int, batch_size: int) -> None:
    bound = SequentialSampler(batch_size, drop_last=False).bind(make_studies(num))
    for epoch in (0, 3):
        batches = [bound.draw(epoch, step).rows for step in range(bound.num_batches)]
        assert np.concatenate(batches).tolist() == list(range(num))
        assert all(len(rows) == batch_size for rows in batches[:-1])


def test_sequential_drops_the_short_batch_unless_told() -> None:
    assert SequentialSampler(4).bind(make_studies(10)).num_batches == 2
    with pytest.raises(SamplerError, match=r"batch_size=4 is larger than the 3 studies.*drop_last=False"):
        SequentialSampler(4).bind(make_studies(3))


# Shuffle


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**63), st.integers(0, 10**6))
def test_each_study_comes_once_per_shuffled_epoch(num: int, batch_size: int, seed: int, epoch: int) -> None:
    batch_size = min(batch_size, num)
    bound = ShuffleSampler(batch_size, seed).bind(make_studies(num))
    rows = np.concatenate([bound.draw(epoch, step).rows for step in range(bound.num_batches)])
    assert len(rows) == num // batch_size * batch_size
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows.tolist()) <= set(range(num))


def test_shuffle_differs_between_epochs_and_seeds() -> None:
    studies = make_studies(64)
    orders = [
        tuple(np.concatenate([ShuffleSampler(8, seed).bind(studies).draw(epoch, step).rows for step in range(8)]))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_shuffle_by_a_column_leaves_unknown_studies_out() -> None:
    studies = make_studies(9, columns={"abnormal": [0, 1, -1, None, 0, 1, 0, -1, 1]})
    bound = ShuffleSampler(2, 0, by="abnormal").bind(studies)
    assert bound.num_batches == 3
    assert sorted(np.concatenate([bound.draw(0, step).rows for step in range(3)])) == [0, 1, 4, 5, 6, 8]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_shuffle_with_units_draws_the_units_known_studies_in_rounds(seed: int) -> None:
    studies = labelled(40, seed)
    bound = ShuffleSampler(4, seed, by="abnormal", units=UNITS).bind(studies)
    drawn: dict[str, list[int]] = {}
    for batch in epochs_of(bound, 6):
        drawn.setdefault(batch.unit, []).extend(batch.rows.tolist())
        assert len(set(batch.rows.tolist())) == 4
    for unit, rows in drawn.items():
        known = np.flatnonzero(studies.column(f"abnormal:{unit}") >= 0)
        assert set(rows) <= set(known.tolist())
        counts = Counter(rows)
        assert max(counts.values()) - min(counts[row] for row in known) <= 2 - (len(rows) % len(known) == 0)


# Stratified


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1, 3), (25, 75), (50, 50), (75, 25), (1, 7)]), st.integers(1, 3))
def test_whole_quotas_are_exact_in_every_batch_of_every_unit(seed: int, ratio: tuple[int, int], times: int) -> None:
    batch_size = 8 * times
    studies = labelled(120, seed)
    quotas = {"normal": ratio[0], "abnormal": ratio[1]}
    bound = StratifiedSampler("abnormal", quotas, batch_size, seed, UNITS, small_stratum="repeat").bind(studies)
    for batch in epochs_of(bound, 2):
        values = studies.column(f"abnormal:{batch.unit}")[batch.rows]
        assert Counter(values.tolist()) == {
            0: batch_size * ratio[0] // sum(ratio),
            1: batch_size * ratio[1] // sum(ratio),
        }


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.integers(2, 12))
def test_fractional_quotas_stay_within_one_over_all_windows_of_a_unit(
    seed: int, normal: int, abnormal: int, batch_size: int
) -> None:
    studies = labelled(80, seed)
    bound = StratifiedSampler(
        "abnormal", {"normal": normal, "abnormal": abnormal}, batch_size, seed, UNITS, small_stratum="repeat"
    ).bind(studies)
    taken: dict[str, list[int]] = {}
    for batch in epochs_of(bound, 3):
        values = studies.column(f"abnormal:{batch.unit}")[batch.rows]
        assert set(values.tolist()) <= {0, 1}
        taken.setdefault(batch.unit, [0]).append(taken.get(batch.unit, [0])[-1] + int((values == 0).sum()))
    share = Fraction(batch_size * normal, normal + abnormal)
    for totals in taken.values():
        for start in range(len(totals)):
            for stop in range(start + 1, len(totals)):
                assert abs(totals[stop] - totals[start] - (stop - start) * share) < 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_no_replacement_inside_a_round_and_none_twice_in_a_batch(seed: int, batch_size: int) -> None:
    studies = labelled(150, seed, normal=0.35, unknown=0.2)
    bound = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 2}, batch_size, seed, UNITS).bind(studies)
    drawn: dict[tuple[str, int], list[int]] = {}
    for batch in epochs_of(bound, 8):
        assert len(set(batch.rows.tolist())) == batch_size
        values = studies.column(f"abnormal:{batch.unit}")
        for row in np.sort(batch.rows):
            drawn.setdefault((batch.unit, int(values[row])), []).append(int(row))
    for (unit, value), rows in drawn.items():
        members = np.flatnonzero(studies.column(f"abnormal:{unit}") == value)
        counts = [rows.count(row) for row in members]
        assert sum(counts) == len(rows)
        assert set(counts) <= {len(rows) // len(members), -(-len(rows) // len(members))}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["shuffle", "units", "stratified"]))
def test_draws_are_pure_in_any_order(seed: int, kind: str) -> None:
    studies = labelled(60, seed)

    def bind():
        if kind == "shuffle":
            return ShuffleSampler(4, seed).bind(studies)
        if kind == "units":
            return ShuffleSampler(4, seed, by="abnormal", units=UNITS).bind(studies)
        return StratifiedSampler("abnormal", {"normal": 1, "abnormal": 3}, 6, seed, UNITS).bind(studies)

    first, second = bind(), bind()
    forward = [(draw.unit, draw.rows.tolist()) for draw in epochs_of(first, 3)]
    places = [(epoch, step) for epoch in range(3) for step in range(first.num_batches)]
    order = np.random.default_rng(seed).permutation(len(places))
    for place in order:
        draw = second.draw(*places[place])
        assert (draw.unit, draw.rows.tolist()) == forward[place]
        assert draw.rows.dtype == np.int64


def test_units_have_streams_of_their_own() -> None:
    """Sections share neither their order nor their place in the rounds with the full report."""
    studies = make_studies(40, columns={f"abnormal:{unit}": [0, 1] * 20 for unit in ("report", "liver")})
    sampler = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, 10, 0, AlternatingUnits(("liver",)))
    bound = sampler.bind(studies)
    report, liver = bound.draw(0, 0), bound.draw(0, 1)
    assert (report.unit, liver.unit) == ("report", "liver")
    assert set(report.rows.tolist()) != set(liver.rows.tolist())


def test_an_epoch_counts_studies_eligible_for_any_unit() -> None:
    columns = {"abnormal:report": [0, 1, -1, -1, 0, 1, -1], "abnormal:liver": [-1, -1, 0, 1, 0, 1, -1]}
    studies = make_studies(7, columns=columns)
    units = AlternatingUnits(("liver",))
    for quotas in ({"normal": 1, "abnormal": 1}, {"normal": 3, "abnormal": 1}):
        sampler = StratifiedSampler("abnormal", quotas, 2, 0, units, small_stratum="repeat")
        assert sampler.bind(studies).num_batches == 3
    assert ShuffleSampler(2, 0, by="abnormal", units=units).bind(studies).num_batches == 3
    full = AlternatingUnits(("liver",), schedule="full")
    assert ShuffleSampler(2, 0, by="abnormal", units=full).bind(studies).num_batches == 2


def test_ranks_get_a_random_part_of_the_batch() -> None:
    studies = make_studies(64, columns={"abnormal": [0] * 32 + [1] * 32})
    bound = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, 8, 0).bind(studies)
    shares = Counter(int((bound.draw(epoch, step).rows[:4] < 32).sum()) for epoch in range(20) for step in range(8))
    assert shares[2] > shares[0] + shares[4]
    assert len(shares) >= 4


def test_repeat_fills_a_batch_from_too_few_studies_evenly() -> None:
    studies = make_studies(20, columns={"abnormal": [0] * 3 + [1] * 17})
    quotas = {"normal": 4, "abnormal": 4}
    with pytest.raises(SamplerError, match=r"stratum 'normal' has 3 studies but a batch takes up to 4.*repeat"):
        StratifiedSampler("abnormal", quotas, 8, 0).bind(studies)
    bound = StratifiedSampler("abnormal", quotas, 8, 0, small_stratum="repeat").bind(studies)
    rows = np.concatenate([draw.rows for draw in epochs_of(bound, 3)])
    counts = [int((rows == row).sum()) for row in range(3)]
    assert sum(counts) == 4 * 3 * bound.num_batches
    assert max(counts) - min(counts) <= 1
    assert set(bound.draw(0, 0).rows.tolist()) >= {0, 1, 2}


def test_a_million_studies_give_a_batch_without_an_array_per_epoch() -> None:
    num = 1_000_000
    values = np.random.default_rng(0).integers(-1, 2, num)
    base = make_studies(1)
    table = base.table.take(np.zeros(num, np.int64)).append_column("abnormal", [values])
    studies = type(base)(table)
    for sampler in (ShuffleSampler(16, 0), StratifiedSampler("abnormal", {"normal": 1, "abnormal": 3}, 16, 0)):
        bound = sampler.bind(studies)
        bound.draw(0, 0)
        tracemalloc.start()
        batches = [bound.draw(epoch, step).rows for epoch, step in [(7, 0), (10**9, bound.num_batches - 1)]]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000  # bytes; one int8 per study would be ten times that
        assert all(len(set(rows.tolist())) == 16 for rows in batches)


# Substitutes for studies that cannot be read


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 50))
def test_substitutes_visit_the_rest_of_the_stratum_once_and_the_batch_last(seed: int, epoch: int) -> None:
    studies = labelled(50, seed)
    bound = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, 4, seed, UNITS).bind(studies)
    draw = bound.draw(epoch, 1)
    row = int(draw.rows[0])
    values = studies.column(f"abnormal:{draw.unit}")
    members = set(np.flatnonzero(values == values[row]).tolist())
    found = [
        bound.substitute(row, draw.unit, epoch=epoch, step=1, attempt=attempt) for attempt in range(len(members) - 1)
    ]
    assert sorted([*found, row]) == sorted(members)
    in_batch = [member in draw.rows for member in found]
    assert in_batch == sorted(in_batch)
    assert sum(in_batch) == 1
    with pytest.raises(SamplerError, match=r"all .* other members of its stratum were tried"):
        bound.substitute(row, draw.unit, epoch=epoch, step=1, attempt=len(members) - 1)


def test_substitutes_of_the_plain_samplers_are_other_studies() -> None:
    studies = make_studies(10, columns={"abnormal": [0] * 9 + [-1]})
    sequential = SequentialSampler(2).bind(studies)
    shuffle = ShuffleSampler(2, 0, by="abnormal").bind(studies)
    assert {sequential.substitute(3, "", epoch=0, step=1, attempt=a) for a in range(9)} == set(range(10)) - {3}
    assert {shuffle.substitute(3, "", epoch=0, step=1, attempt=a) for a in range(8)} == set(range(9)) - {3}


# Fingerprints and refusals


def test_the_fingerprint_covers_studies_and_fields_and_nothing_else() -> None:
    studies = labelled(40, 0)
    quotas = {"normal": 25, "abnormal": 75}
    same = [
        StratifiedSampler("abnormal", quotas, 4, 0, UNITS),
        StratifiedSampler("abnormal", {"abnormal": 3, "normal": 1.0}, 4, 0, UNITS),
    ]
    other = [
        ShuffleSampler(4, 0),
        ShuffleSampler(4, 1),
        ShuffleSampler(5, 0),
        ShuffleSampler(4, 0, by="abnormal", units=UNITS),
        SequentialSampler(4),
        StratifiedSampler("abnormal", quotas, 4, 1, UNITS),
        StratifiedSampler("abnormal", {"normal": 50, "abnormal": 50}, 4, 0, UNITS),
        StratifiedSampler("abnormal", quotas, 4, 0, AlternatingUnits(SECTIONS, schedule="sections")),
    ]
    prints = [sampler.bind(studies).fingerprint for sampler in [*same, *other]]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 1 + len(other)
    assert same[0].bind(labelled(40, 1)).fingerprint != prints[0]


@pytest.mark.parametrize("seed", [0.5, "1", None, True])
def test_a_senseless_seed_is_refused(seed) -> None:
    with pytest.raises(SamplerError, match="seed must be a whole number"):
        ShuffleSampler(4, seed)


@pytest.mark.parametrize("batch_size", [0, -4, 2.5, "8", True])
def test_a_senseless_batch_size_is_refused(batch_size) -> None:
    for make in (SequentialSampler, lambda size: ShuffleSampler(size, 0)):
        with pytest.raises(SamplerError, match="whole number >= 1"):
            make(batch_size)


def test_what_cannot_be_drawn_is_refused_with_the_way_out() -> None:
    studies = make_studies(12, columns={"abnormal:report": [0, 1] * 6, "abnormal:liver": [0] + [1] * 9 + [-1] * 2})
    quotas = {"normal": 1, "abnormal": 1}
    units = AlternatingUnits(("liver",))
    with pytest.raises(SamplerError, match=r"unit 'liver', stratum 'normal' has 1 studies .* up to 2"):
        StratifiedSampler("abnormal", quotas, 4, 0, units).bind(studies)
    with pytest.raises(SamplerError, match=r"no column 'abnormal:spleen'.*Studies.join.*ShuffleSampler"):
        StratifiedSampler("abnormal", quotas, 2, 0, AlternatingUnits(("spleen",))).bind(studies)
    with pytest.raises(SamplerError, match="quota for '2', but none of 12 studies"):
        StratifiedSampler("abnormal:report", {"0": 1, "2": 1}, 2, 0).bind(studies)
    with pytest.raises(SamplerError, match="batch_size=13 is larger than the 12 studies"):
        ShuffleSampler(13, 0).bind(studies)
    with pytest.raises(SamplerError, match=r"unit 'liver', stratum 'known' has 10 studies .* up to 11"):
        ShuffleSampler(11, 0, by="abnormal", units=units).bind(studies)
    with pytest.raises(SamplerError, match="nothing to draw"):
        StratifiedSampler("abnormal", {"normal": 0}, 2, 0)
    with pytest.raises(SamplerError, match="'error' or 'repeat', got 'skip'"):
        StratifiedSampler("abnormal", quotas, 2, 0, small_stratum="skip")


@pytest.mark.parametrize(("epoch", "step"), [(0, 3), (0, -1), (-1, 0)])
def test_a_step_out_of_range_is_refused(epoch: int, step: int) -> None:
    studies = make_studies(12, columns={"abnormal": [0, 1] * 6})
    for sampler in (
        SequentialSampler(4),
        ShuffleSampler(4, 0),
        StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, 4, 0),
    ):
        with pytest.raises(SamplerError, match=r"an epoch has 3 batches, step 0\.\.2"):
            sampler.bind(studies).draw(epoch, step)
