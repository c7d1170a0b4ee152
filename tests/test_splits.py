"""Training, validation and test bars: in order, apart, and never empty."""

import datetime
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_trader.env import SPLITS, Market, MarketError
from moe_trader.env.splits import ByDate, ByFraction, BySeries
from moe_trader.env.task import PreparedTask
from moe_trader.option import ConfigError


def day(text):
    return datetime.date.fromisoformat(text)


@pytest.fixture(scope="module")
def nasdaq(make_settings):
    """The default task: what `env=nasdaq` trains and tests on."""
    return make_settings("env=nasdaq", small=False).env.prepare()


def test_nasdaq_trains_to_2011_validates_to_2014_and_tests_from_2015(nasdaq):
    (one,) = nasdaq.market.instruments
    segments = nasdaq.task.split.segments(nasdaq.market)
    dates = {
        split: (str(one.time[part.start])[:10], str(one.time[part.stop - 1])[:10])
        for split, (part,) in segments.items()
    }
    assert dates == {
        "train": ("1999-01-04", "2011-12-30"),
        "validation": ("2012-01-03", "2014-12-31"),
        "test": ("2015-01-02", "2018-12-31"),
    }


def test_the_first_test_reward_belongs_to_the_first_bar_of_2015(nasdaq):
    (one,) = nasdaq.market.instruments
    first = int(np.argmax(one.time >= np.datetime64("2015-01-01")))
    (row,) = nasdaq.evaluated("test")
    assert str(row.time[0])[:10] == "2014-12-31"  # decided at the last close of 2014
    np.testing.assert_array_equal(row.close, one.close[first - 1 :])
    lanes = nasdaq.walk("test", 1)
    lanes.reset(0, np.random.default_rng(0))
    lanes.step(np.array([nasdaq.task.positions.fractions.index(1.0)]))
    earned = math.log(one.close[first] / one.open[first] * (1 - nasdaq.rules.costs.rate))
    assert lanes.rewards[0] == pytest.approx(earned, abs=1e-12)


def test_validation_never_reaches_a_test_bar(nasdaq):
    (row,) = nasdaq.evaluated("validation")
    assert str(row.time[0])[:10] == "2011-12-30"
    assert (
        row.close[-1] == nasdaq.market.instruments[0].close[nasdaq.market.instruments[0].time < day64("2015-01-01")][-1]
    )
    env = nasdaq.vec_env("validation", 8, seed=0)
    env.reset()
    stop = nasdaq.task.split.segments(nasdaq.market)["validation"][0].stop
    newest = 0
    for _ in range(2000):
        env.step(np.zeros(8))
        newest = max(newest, int(env.lanes.bars.max()))
    assert stop - 20 < newest < stop


def day64(text):
    return np.datetime64(text)


def test_an_end_date_leaves_the_bars_after_it_out(make_market):
    market = make_market(np.full(1000, 1.0))  # from 2000-01-03
    split = ByDate(validation=day("2001-01-01"), test=day("2002-01-01"), end=day("2003-01-01"))
    last = split.segments(market)["test"][0].stop - 1
    assert str(market.instruments[0].time[last])[:10] == "2002-12-31"
    whole = ByDate(validation=day("2001-01-01"), test=day("2002-01-01"), end=None)
    assert whole.segments(market)["test"][0].stop == 1000


@settings(max_examples=100, deadline=None)
@given(
    bars=st.integers(100, 1500),
    train=st.floats(0.05, 0.9),
    rest=st.floats(0.05, 0.9),
    dates=st.tuples(st.integers(10, 60), st.integers(10, 60)),
)
def test_splits_are_in_order_apart_and_leave_no_bar_out(bars, train, rest, dates, make_market):
    market = make_market(np.full(bars, 1.0))
    first = day("2000-01-03") + datetime.timedelta(dates[0])
    ways = (
        ByFraction(train=train, validation=(1 - train) * rest),
        ByDate(validation=first, test=first + datetime.timedelta(dates[1]), end=None),
    )
    for split in ways:
        try:
            segments = split.segments(market)
        except MarketError:  # small shares of few bars
            assert bars * min(train, (1 - train) * rest, (1 - train) * (1 - rest)) < 3
            continue
        assert tuple(segments) == SPLITS
        used = [bar for name in SPLITS for part in segments[name] for bar in range(part.start, part.stop)]
        assert used == list(range(bars))


def test_fractions_are_shares_of_the_bars(make_market):
    segments = ByFraction(train=0.65, validation=0.15).segments(make_market(np.full(1000, 1.0)))
    assert [(part.start, part.stop) for (part,) in segments.values()] == [(0, 650), (650, 800), (800, 1000)]


def test_every_instrument_is_cut_by_the_same_dates(make_instrument):
    early = make_instrument(np.full(900, 1.0), symbol="early")
    late = make_instrument(
        np.full(700, 1.0), symbol="late", time=np.busday_offset("2000-10-02", np.arange(700), roll="forward")
    )
    market = Market("two", (early, late), opens_are_real=True)
    segments = ByDate(validation=day("2001-06-01"), test=day("2002-06-01"), end=None).segments(market)
    for name, bounds in {"validation": ("2001-06-01", "2002-06-01"), "train": ("2000-01-01", "2001-06-01")}.items():
        assert [part.instrument for part in segments[name]] == [0, 1]
        for part in segments[name]:
            time = market.instruments[part.instrument].time[part.start : part.stop]
            assert (time >= day64(bounds[0])).all()
            assert (time < day64(bounds[1])).all()


@pytest.fixture
def old_and_new(make_instrument):
    """2,600 bars of one instrument, and another that was listed for the last 800 of them."""
    rng = np.random.default_rng(0)
    time = np.busday_offset("2000-01-03", np.arange(2600), roll="forward")
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (2, 2600)), axis=1))
    old = make_instrument(close[0], time=time, symbol="OLD")
    new = make_instrument(close[1, 1800:], time=time[1800:], symbol="NEW")
    return Market("two", (old, new), opens_are_real=True)


@pytest.mark.parametrize("shares", [(0.65, 0.15), (0.8, 0.1)])
def test_fractions_cut_every_instrument_at_the_same_time(shares, old_and_new):
    segments = ByFraction(train=shares[0], validation=shares[1]).segments(old_and_new)
    spans = {}
    for split, parts in segments.items():
        times = [old_and_new.instruments[part.instrument].time[part.start : part.stop] for part in parts]
        spans[split] = np.concatenate(times)
    assert spans["train"].max() < spans["validation"].min()
    assert spans["validation"].max() < spans["test"].min()
    old = [(parts[0].start, parts[0].stop) for parts in segments.values()]
    edges = [0, round(2600 * shares[0]), round(2600 * sum(shares)), 2600]
    assert old == list(pairwise(edges)), "the market's times are those of its older instrument"


def test_an_instrument_without_bars_in_a_split_is_not_in_it_and_named(old_and_new, make_settings, caplog):
    task = make_settings("env=csv", "env.path=none.csv", small=False).env
    prepared = PreparedTask(task, old_and_new, None)
    members = {split: [row.instrument for row in prepared.evaluated(split)] for split in SPLITS}
    assert members == {"train": ["OLD"], "validation": ["OLD", "NEW"], "test": ["OLD", "NEW"]}
    assert [record.message for record in caplog.records] == [
        "two: left out of the train split, with too few bars there: NEW",
        "two: short in the validation split, which covers 546 days: NEW 165 days (23.2 % of the weight)",
    ]
    assert prepared.training_env(4, 0).reset().shape[0] == 4


def test_a_split_is_refused_only_where_no_instrument_has_bars(old_and_new, make_settings):
    task = make_settings("env=csv", "env.path=none.csv", "env.split.validation=0.34999", small=False).env
    with pytest.raises(
        MarketError,
        match=r"^two: the test split of OLD has 0 bars \(no other instrument has more\), and needs at least 2; its "
        r"2600 bars run from 2000-01-03T.* to 2009-.*: change env\.split$",
    ):
        PreparedTask(task, old_and_new, None)


@pytest.mark.parametrize(
    ("overrides", "blame", "remedy"),
    [
        (
            (),
            r"env\.features \(with env\.window and what the gate reads\) need the first 160",
            "use shorter feature spans or a longer split",
        ),
        (
            ("env.regimes.trend_bars=200",),
            r"env\.regimes needs the first 200",
            r"use shorter spans in env\.regimes or a longer split",
        ),
    ],
)
@pytest.mark.parametrize("bars", [2, 60])
def test_a_market_too_short_for_a_warm_up_is_refused_by_what_needs_it(
    bars, overrides, blame, remedy, make_settings, make_market
):
    task = make_settings("env=csv", "env.path=none.csv", *overrides, small=False).env
    market = make_market(100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, bars))))
    if bars == 2:
        blame, remedy = "needs at least 2", "change env.split"
    with pytest.raises(MarketError, match=rf"^by_hand: the \w+ split of hand has \d+ bars.* {blame}.*{remedy}$"):
        PreparedTask(task, market, None)


def test_whole_series_go_to_the_split_they_are_named_after(settings):
    market = settings.env.market.load()
    segments = BySeries().segments(market)
    names = {split: [market.instruments[part.instrument].symbol for part in parts] for split, parts in segments.items()}
    assert names == {"train": ["train_0", "train_1"], "validation": ["validation_0"], "test": ["test_0"]}
    assert all((part.start, part.stop) == (0, 700) for parts in segments.values() for part in parts)


# What is refused


@pytest.mark.parametrize(
    ("overrides", "split"),
    [
        (["env.split.validation=1990-01-01"], "train"),
        (["env.split.validation=2015-01-01", "env.split.test=2015-01-02"], "validation"),
        (["env.split.test=2018-12-31"], "test"),
        (["env.split.test=2030-01-01"], "test"),
    ],
)
def test_an_empty_split_is_refused(overrides, split, make_settings):
    task = make_settings("env=nasdaq", *overrides, small=False).env
    with pytest.raises(MarketError, match=rf"nasdaq: the {split} split of \^IXIC has [01] bars.*change env\.split"):
        task.prepare()


@pytest.mark.parametrize(
    "overrides",
    [
        ["env.split.validation=2016-01-01"],
        ["env.split.test=2012-01-01"],
        ["env.split.end=2015-01-01"],
        ["env.split.end=2014-01-01"],
    ],
)
def test_dates_out_of_order_are_refused(overrides, make_settings):
    with pytest.raises(ConfigError, match=r"env\.split: expected validation < test < end, got 201"):
        make_settings("env=nasdaq", *overrides, small=False)


@pytest.mark.parametrize("value", ["soon", "2015-02-30", "2015", "2015.5", "null"])
def test_what_is_no_date_is_refused(value, make_settings):
    got = "None" if value == "null" else f"'?{value}'?"
    with pytest.raises(ConfigError, match=rf"^env\.split\.test: expected a date like 2012-01-01, got {got}$"):
        make_settings("env=nasdaq", f"env.split.test={value}", small=False)


@pytest.mark.parametrize(("train", "validation"), [(0.0, 0.5), (0.5, 0.0), (0.7, 0.3), (0.9, 0.2), (-0.1, 0.5)])
def test_fractions_that_leave_a_split_empty_are_refused(train, validation, make_settings):
    shares = (f"env.split.train={train}", f"env.split.validation={validation}")
    message = r"^env\.split: expected train \+ validation < 1, got 0\.\d \+ 0\.\d$"
    if min(train, validation) <= 0:
        message = r"^env\.split\.(train|validation): Input should be greater than 0, got -?0\.\d$"
    with pytest.raises(ConfigError, match=message):
        make_settings("env=csv", "env.market.path=none.csv", *shares, small=False)


def test_a_series_with_another_name_is_refused(make_instrument):
    market = Market("mine", (make_instrument(np.full(9, 1.0), symbol="AAPL"),), opens_are_real=True)
    with pytest.raises(MarketError, match="mine: instrument 'AAPL' is not called train_, validation_ or test_"):
        BySeries().segments(market)


def test_a_split_without_a_series_is_refused(make_instrument):
    market = Market("mine", (make_instrument(np.full(9, 1.0), symbol="train_0"),), opens_are_real=True)
    with pytest.raises(MarketError, match="mine: no instrument is called validation_0"):
        BySeries().segments(market)


def test_a_training_split_that_the_features_use_up_is_refused(make_settings):
    task = make_settings("env=nasdaq", "env.split.validation=1999-08-20", small=False).env
    with pytest.raises(
        MarketError, match=r"the train split of \^IXIC has 1\d\d bars.*use shorter feature spans or a longer"
    ):
        task.prepare()
