"""Walk-forward folds: in order, purged, under embargo, at the same time for every instrument, and never empty."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_trader.env import SPLITS, Market, MarketError
from moe_trader.env.features import lookback
from moe_trader.env.splits import playable
from moe_trader.env.task import PreparedTask
from moe_trader.env.walk_forward import WalkForward
from moe_trader.option import ConfigError


def folds_of(market, lookback=1, **changes):
    given = {"folds": 4, "train": 0.3, "validation": 0.1, "anchored": True, "purge": None, "embargo": 0} | changes
    return [WalkForward(fold=k, **given).segments(market, lookback) for k in range(given["folds"])]


def places(segments):
    return {split: (part.start, part.stop) for split, (part,) in segments.items()}


@pytest.fixture(scope="module")
def market(make_market):
    return make_market(np.full(1000, 1.0))


def test_anchored_training_starts_at_the_first_bar_and_grows(market):
    found = [places(fold) for fold in folds_of(market, purge=1)]
    assert found == [
        {"train": (0, 299), "validation": (300, 399), "test": (400, 550)},
        {"train": (0, 449), "validation": (450, 549), "test": (550, 700)},
        {"train": (0, 599), "validation": (600, 699), "test": (700, 850)},
        {"train": (0, 749), "validation": (750, 849), "test": (850, 1000)},
    ]


def test_rolling_training_keeps_its_length_and_the_same_tests(market):
    found = [places(fold) for fold in folds_of(market, purge=1, anchored=False)]
    assert [fold["train"] for fold in found] == [(0, 299), (150, 449), (300, 599), (450, 749)]
    anchored = [places(fold) for fold in folds_of(market, purge=1)]
    for split in ("validation", "test"):
        assert [fold[split] for fold in found] == [fold[split] for fold in anchored]


def test_purge_is_taken_from_the_earlier_split_and_embargo_from_the_later(market):
    assert places(folds_of(market, lookback=20, purge=30, embargo=7)[1]) == {
        "train": (0, 420),
        "validation": (457, 520),
        "test": (557, 700),
    }


def test_by_default_the_purge_is_as_long_as_an_observation(market):
    assert places(folds_of(market, lookback=20)[0])["train"] == (0, 280)


@settings(max_examples=200, deadline=None)
@given(
    bars=st.integers(50, 1500),
    folds=st.integers(1, 8),
    train=st.floats(0.05, 0.8),
    rest=st.floats(0.05, 0.9),
    anchored=st.booleans(),
    uses=st.integers(1, 80),
    more=st.integers(0, 20),
    embargo=st.integers(0, 20),
)
def test_no_bar_is_trained_on_and_seen_or_paid_later(
    bars, folds, train, rest, anchored, uses, more, embargo, make_market
):
    market = make_market(np.full(bars, 1.0))
    shares = {"folds": folds, "train": train, "validation": (1 - train) * rest, "anchored": anchored}
    tests = []
    for fold in range(folds):
        one = WalkForward(fold=fold, purge=uses + more, embargo=embargo, **shares)
        try:
            segments = one.segments(market, uses)
            found, observed = places(segments), places(playable(market, segments, uses, 0))
        except MarketError:
            continue
        assert tuple(found) == SPLITS
        for earlier, later in (("train", "validation"), ("validation", "test")):
            # A split's first decision is at the bar before it, and its observation uses that bar and those before.
            assert found[later][0] - uses >= found[earlier][1]
            assert found[later][0] - found[earlier][1] == uses + more + embargo
        for start, stop in found.values():
            assert 0 <= start < stop <= bars
        for start, stop in observed.values():
            assert stop - 1 - start >= 2
            assert start >= uses - 1
        tests.append(found["test"])
    for (_, stop), (start, _) in pairwise(tests):
        assert stop <= start


@settings(max_examples=100, deadline=None)
@given(bars=st.integers(60, 1500), folds=st.integers(1, 6), share=st.floats(0.2, 0.6))
def test_without_embargo_the_tests_are_all_bars_after_the_first_validation(bars, folds, share, make_market):
    found = folds_of(make_market(np.full(bars, 1.0)), folds=folds, train=share, validation=0.1)
    tests = [places(fold)["test"] for fold in found]
    assert tests[0][0] == round(bars * (share + 0.1))
    assert tests[-1][1] == bars
    assert all(one[1] == other[0] for one, other in pairwise(tests))
    lengths = [stop - start for start, stop in tests]
    assert max(lengths) - min(lengths) <= 1


def instrument(make_instrument, symbol, first, bars):
    time = np.busday_offset(first, np.arange(bars), roll="forward")
    return make_instrument(np.full(bars, 1.0), symbol=symbol, time=time)


def test_every_instrument_is_cut_at_the_same_time(make_instrument):
    old = instrument(make_instrument, "old", "2000-01-03", 1000)
    young = instrument(make_instrument, "young", "2001-10-01", 545)
    market = Market("two", (old, young), opens_are_real=True)
    for fold in folds_of(market, lookback=10):
        latest = dict.fromkeys(SPLITS)
        observed = playable(market, fold, 10, 0)
        for split, parts in observed.items():
            latest[split] = max(market.instruments[part.instrument].time[part.stop - 1] for part in parts)
        for earlier, later in (("train", "validation"), ("validation", "test")):
            first = min(market.instruments[part.instrument].time[part.start + 1] for part in observed[later])
            assert latest[earlier] < first


def test_an_instrument_listed_later_is_left_out_until_it_has_bars(make_instrument):
    old = instrument(make_instrument, "old", "2000-01-03", 1000)
    young = instrument(make_instrument, "young", "2001-10-01", 545)  # bar 455 of the other
    market = Market("two", (old, young), opens_are_real=True)
    found = [playable(market, fold, 10, 0) for fold in folds_of(market, lookback=10)]
    members = [{split: [part.instrument for part in parts] for split, parts in fold.items()} for fold in found]
    assert members[0] == {"train": [0], "validation": [0], "test": [0, 1]}
    assert members[1] == {"train": [0], "validation": [0, 1], "test": [0, 1]}
    assert members[2] == {"train": [0, 1], "validation": [0, 1], "test": [0, 1]}


# In a task


def test_a_fold_of_nasdaq_is_purged_by_what_its_observations_use(make_settings):
    task = make_settings("env=nasdaq", "env/split=walk_forward", "env.split.fold=3", "env.window=4", small=False).env
    uses = lookback(task.features, task.window)
    assert uses == 164  # a window of 4, and 160 bars for the slowest feature
    prepared = task.prepare()
    (one,) = prepared.market.instruments
    rows = {split: prepared.evaluated(split)[0] for split in SPLITS}
    for earlier, later in (("train", "validation"), ("validation", "test")):
        last = int(np.searchsorted(one.time, rows[earlier].paid[-1]))
        first = int(np.searchsorted(one.time, rows[later].time[0]))
        assert first - (uses - 1) > last
    assert [str(rows["test"].paid[at])[:4] for at in (0, -1)] == ["2013", "2014"]


def test_the_scaler_knows_the_training_bars_of_its_fold_alone(make_settings):
    scalers = [
        make_settings("env=nasdaq", "env/split=walk_forward", f"env.split.fold={k}", small=False).env.prepare().scaler
        for k in (0, 5)
    ]
    assert scalers[0] != scalers[1]


@pytest.mark.parametrize("regimes", [63, 300])
def test_a_fold_leaves_an_instrument_out_whichever_warm_up_it_is_too_short_for(regimes, make_settings, make_instrument):
    """300 bars are enough for the features' 161, and not for 300 of the regimes."""
    overrides = ("env=csv", "env.path=none.csv", "env/split=walk_forward", f"env.regimes.trend_bars={regimes}")
    task = make_settings(*overrides, "env.split.fold=5", small=False).env
    rng = np.random.default_rng(0)

    def drawn(symbol, first, bars):
        time = np.busday_offset(first, np.arange(bars), roll="forward")
        return make_instrument(100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars))), symbol=symbol, time=time)

    old = drawn("old", "2000-01-03", 3000)
    young = drawn("young", old.time[2700].astype("datetime64[D]"), 300)
    prepared = PreparedTask(task, Market("two", (old, young), opens_are_real=True), None)
    members = [row.instrument for row in prepared.evaluated("test")]
    assert members == (["old", "young"] if regimes == 63 else ["old"])


# What is refused


def test_a_fold_that_does_not_exist_is_refused(make_settings):
    with pytest.raises(ConfigError, match=r"^env\.split: fold: there is no fold 6; expected 0 to 5, since folds=6$"):
        make_settings("env=nasdaq", "env/split=walk_forward", "env.split.fold=6", small=False)
    with pytest.raises(ConfigError, match=r"^env\.split\.fold: Input should be greater than or equal to 0, got -1$"):
        make_settings("env=nasdaq", "env/split=walk_forward", "env.split.fold=-1", small=False)


def test_shares_that_leave_no_test_are_refused(make_settings):
    shares = ("env.split.train=0.8", "env.split.validation=0.2")
    with pytest.raises(ConfigError, match=r"^env\.split: expected train \+ validation < 1, got 0\.8 \+ 0\.2$"):
        make_settings("env=nasdaq", "env/split=walk_forward", *shares, small=False)


def test_a_purge_shorter_than_an_observation_is_refused(make_settings):
    task = make_settings("env=nasdaq", "env/split=walk_forward", "env.split.purge=100", small=False).env
    with pytest.raises(
        MarketError,
        match=r"^env\.split\.purge: expected at least 161, the bars an observation uses \(env\.window, what the gate "
        r"reads, and the longest warm-up of env\.features\), got 100; set env\.split\.purge=null",
    ):
        task.prepare()


@pytest.mark.parametrize(
    ("changes", "split", "numbers"),
    [
        ({"purge": 300}, "train", r"of 300 bars between its cuts, the embargo takes 0 and the purge 300"),
        ({"purge": 99}, "validation", r"of 100 bars between its cuts, the embargo takes 0 and the purge 99"),
        ({"embargo": 150, "validation": 0.3}, "test", r"of 100 bars between its cuts, the embargo takes 150"),
        ({"folds": 400, "purge": 1}, "test", r"of 1 bars between its cuts, the embargo takes 0 and the purge 0"),
    ],
)
def test_a_fold_without_bars_is_refused_with_its_numbers(changes, split, numbers, market):
    message = rf"^by_hand: fold \d+ of env\.split has no {split} bars: {numbers}.*use fewer folds, larger shares or"
    with pytest.raises(MarketError, match=message):
        folds_of(market, **changes)
