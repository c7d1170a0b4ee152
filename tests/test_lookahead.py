"""The look-ahead self-check: it finds what uses later bars, by name, and accuses nobody else."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from test_feature_options import bars

from moe_trader.env import Feature, Market, MarketError
from moe_trader.env.lookahead import LookAhead, LookAheadError, unscaled

CHECK = LookAhead(cuts=12, seed=0)


class Mine(Feature):
    """One column, computed by a function of the instrument."""

    def __init__(self, function, warmup=20):
        self.function, self.leading = function, warmup

    def columns(self):
        return ["mine"]

    def warmup(self):
        return self.leading

    def compute(self, instrument):
        return np.asarray(self.function(instrument), dtype=np.float64).reshape(-1, 1)


def closes(one):
    return pd.Series(np.log(one.close))


def weekly_close(one):
    week = one.time.astype("datetime64[W]")
    return closes(one).groupby(week).transform("last")


def next_opening_day(one):
    """Whether the next bar follows at once: known only when it comes."""
    return np.append(np.diff(one.time) > np.timedelta64(1, "D"), False)


LEAKS = {
    "centred mean": lambda one: closes(one).rolling(5, center=True).mean(),
    "filled centred mean": lambda one: closes(one).rolling(5, center=True, min_periods=1).mean(),
    "next return": lambda one: closes(one).shift(-1).fillna(0.0) - closes(one),
    "ten bars on": lambda one: closes(one).shift(-10).fillna(0.0),
    "whole mean": lambda one: closes(one) - closes(one).mean(),
    "whole deviation": lambda one: closes(one).diff().fillna(0.0) / closes(one).diff().std(),
    "rank in all": lambda one: closes(one).rank(pct=True),
    "highest ever": lambda one: one.close / one.close.max(),
    "backward fill": lambda one: closes(one).where(np.arange(len(one)) % 5 == 0).bfill().ffill(),
    "week's last close": weekly_close,
    "later volume": lambda one: pd.Series(one.volume).shift(-1).fillna(0.0),
    "later range": lambda one: pd.Series(one.high / one.low).rolling(3).max().shift(-2).fillna(0.0),
    "next stamp": next_opening_day,
    "share of the series": lambda one: np.arange(len(one)) / len(one),
}
HONEST = {
    "trailing mean": lambda one: closes(one).rolling(5).mean(),
    "expanding deviation": lambda one: closes(one).diff() / closes(one).diff().expanding().std(),
    "last bar's volume": lambda one: pd.Series(one.volume).shift(1).fillna(0.0),
    "cumulative sums": lambda one: np.cumsum(np.log(one.high / one.low)),
    "convolution": lambda one: np.convolve(np.log(one.close), np.ones(9) / 9)[: len(one)],
    "nothing": lambda one: np.zeros(len(one)),
    "never known": lambda one: np.full(len(one), np.nan),
}


@pytest.fixture(scope="module")
def market():
    return Market("drawn", (bars(3), dataclasses.replace(bars(4), symbol="other")), opens_are_real=True)


@pytest.mark.parametrize("function", LEAKS.values(), ids=LEAKS)
def test_what_uses_later_bars_is_found(function, market):
    (leak,) = CHECK.leaks({"honest": Mine(HONEST["trailing mean"]), "leaking": Mine(function)}, market)
    assert (leak.feature, leak.column) == ("leaking", "mine")
    assert leak.instrument in ("drawn", "other")


@pytest.mark.parametrize("function", HONEST.values(), ids=HONEST)
def test_what_uses_earlier_bars_is_not_accused(function, market):
    features = {"honest": Mine(function)}
    assert CHECK.leaks(features, market) == []
    CHECK.check(features, market)


def test_the_error_names_feature_column_bar_and_cause(market):
    with pytest.raises(
        LookAheadError,
        match=r"^env\.features\.smooth: mine of drawn at 2000-\d\d-\d\dT.* changed when the bars after 2000-\d\d-.* "
        r"were altered\nA row may use its own bar and earlier ones alone: look for centred windows, shift\(-1\)",
    ):
        CHECK.check({"fine": Mine(HONEST["trailing mean"]), "smooth": Mine(LEAKS["filled centred mean"])}, market)


def test_every_leaking_feature_is_named_once_in_the_order_of_the_config(market):
    features = {name: Mine(function) for name, function in LEAKS.items()}
    assert [leak.feature for leak in CHECK.leaks(features, market)] == list(LEAKS)


def test_a_row_that_changed_was_at_or_before_the_altered_bars(market):
    for leak in CHECK.leaks({name: Mine(function) for name, function in LEAKS.items()}, market):
        after = np.datetime64(leak.cause.split()[3])
        assert leak.time <= after


def test_a_feature_that_reads_the_true_regimes_is_found(settings):
    market = settings.env.market.load()
    (leak,) = CHECK.leaks({"cheat": Mine(lambda one: one.regime)}, market)
    assert str(leak).startswith("env.features.cheat: mine of train_0 at ")
    assert str(leak).endswith("changed when the true regimes were, which no observation may hold")


def test_a_feature_that_is_different_each_time_is_found(market):
    rng = np.random.default_rng(0)
    (leak,) = CHECK.leaks({"dice": Mine(lambda one: rng.random(len(one)))}, market)
    assert leak.cause == "it was computed a second time: it is not a function of the bars"


def test_a_feature_that_fails_on_fewer_bars_is_named(market):
    def fails(one):
        if len(one) < 400:
            raise RuntimeError("four hundred bars are needed")
        return np.zeros(len(one))

    with pytest.raises(
        LookAheadError,
        match=r"^env\.features\.fragile: Mine\.compute fails on \d+ bars of drawn when the bars after 2000-.* were cut "
        r"off \(RuntimeError: four hundred bars are needed\); it must take any bars, and any number of them beyond its "
        r"warmup\(\) of 20: make that longer, or the rows before it NaN$",
    ):
        CHECK.leaks({"fragile": Mine(fails)}, market)


def averaged(one, span=250):
    windows = np.lib.stride_tricks.sliding_window_view(np.log(one.close), span)
    return np.concatenate([np.full(span - 1, np.nan), windows.mean(axis=1)])


def test_a_feature_is_never_asked_for_less_than_its_warm_up(market):
    assert CHECK.leaks({"windows": Mine(averaged, warmup=249)}, market) == []
    with pytest.raises(
        LookAheadError, match=r"windows: Mine\.compute fails on \d+ bars .*its warmup\(\) of 200: make that"
    ):
        CHECK.leaks({"windows": Mine(averaged, warmup=200)}, market)


RARE = {
    "the first year": lambda one: closes(one).diff().shift(-1).where(one.time < np.datetime64("2000-12"), 0.0),
    "one weekday": lambda one: closes(one).diff().shift(-1).where(one.time.astype("M8[D]").astype(int) % 7 == 4, 0.0),
    "filled start": lambda one: closes(one).rolling(60).std().bfill(),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rare", ["the first year", "one weekday"])
def test_what_looks_ahead_on_some_bars_alone_is_found(rare, seed):
    """A year of twenty, and one bar in five, with ten moments over them all."""
    long = Market("long", (bars(3, n=5000),), opens_are_real=True)
    (leak,) = LookAhead(cuts=10, seed=seed).leaks({"rare": Mine(RARE[rare])}, long)
    assert leak.feature == "rare"


def test_rows_filled_from_later_ones_are_found_unless_they_are_warm_up(market):
    filled = RARE["filled start"]
    (leak,) = CHECK.leaks({"filled": Mine(filled, warmup=0)}, market)
    assert leak.time < bars(3).time[60]
    assert CHECK.leaks({"filled": Mine(filled, warmup=60)}, market) == []


def test_a_feature_in_currency_is_not_scale_free(market):
    features = {"price": Mine(lambda one: one.close), "gain": Mine(lambda one: closes(one).diff())}
    assert unscaled(features, market) == {"price": "mine"}


def test_rows_that_do_not_fit_are_refused(market):
    with pytest.raises(MarketError, match=r"env\.features\.short: expected rows of shape \(400, 1\)"):
        CHECK.leaks({"short": Mine(lambda one: np.zeros(len(one) - 1))}, market)


def test_the_check_leaves_the_market_as_it_was(market):
    before = market.sha256()
    CHECK.leaks({name: Mine(function) for name, function in LEAKS.items()}, market)
    assert market.sha256() == before


def test_the_same_seed_checks_the_same_moments(market):
    features = {"smooth": Mine(LEAKS["filled centred mean"])}
    assert CHECK.leaks(features, market) == CHECK.leaks(features, market)
    assert CHECK.leaks(features, market) != LookAhead(cuts=12, seed=1).leaks(features, market)


def test_two_bars_are_enough(make_market):
    assert CHECK.leaks({"honest": Mine(lambda one: closes(one))}, make_market([1.0, 2.0])) == []
