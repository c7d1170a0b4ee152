"""Training, validation and test bars: in order, apart, and never empty."""

import datetime
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_trader.env import SPLITS, Market, MarketError
from moe_trader.env.splits import ByDate, ByFraction, BySeries
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


@pytest.mark.parametrize("value", ["soon", "2015-02-30"])
def test_what_is_no_date_is_refused(value, make_settings):
    with pytest.raises(ConfigError, match=r"env\.split\.test: .*date"):
        make_settings("env=nasdaq", f"env.split.test={value}", small=False)


@pytest.mark.parametrize(("train", "validation"), [(0.0, 0.5), (0.5, 0.0), (0.7, 0.3), (0.9, 0.2), (-0.1, 0.5)])
def test_fractions_that_leave_a_split_empty_are_refused(train, validation, make_settings):
    shares = (f"env.split.train={train}", f"env.split.validation={validation}")
    with pytest.raises(
        ConfigError, match=r"env\.split: expected train > 0, validation > 0 and train \+ validation < 1"
    ):
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
