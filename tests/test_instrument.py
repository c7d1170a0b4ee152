"""What an instrument and a market promise, whoever made them."""

import dataclasses

import numpy as np
import pytest

from moe_trader.env import Instrument, Market, MarketError
from moe_trader.env.contents import contents

ARRAYS = ("time", "open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def one(make_instrument):
    return make_instrument(np.linspace(50.0, 60.0, 30))


def with_value(one, name, bar, value):
    column = getattr(one, name).copy()
    column[bar] = value
    return dataclasses.replace(one, **{name: column})


@pytest.mark.parametrize("name", ARRAYS)
def test_its_arrays_cannot_be_written_to(name, one):
    with pytest.raises(ValueError, match="read-only"):
        getattr(one, name)[0] = getattr(one, name)[1]


def test_an_array_that_the_caller_keeps_stays_writable():
    given = {name: np.full(9, 5.0) for name in ARRAYS[1:]}
    time = np.arange(9).astype("datetime64[D]").astype("datetime64[us]")
    regime = np.zeros(9, dtype=np.int64)
    one = Instrument("mine", time, **given, regime=regime)
    for column in (time, regime, *given.values()):
        column[0] = column[1]  # no error
    assert np.shares_memory(one.close, given["close"]), "a million bars need not be copied"
    assert not one.regime.flags.writeable


def test_numbers_of_other_kinds_become_what_is_promised():
    bars = {name: [1, 2, 3] for name in ARRAYS[1:]}
    one = Instrument("mine", np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[D]"), **bars)
    assert [getattr(one, name).dtype for name in ARRAYS] == ["datetime64[us]", *["float64"] * 5]


@pytest.mark.parametrize("name", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_price_that_is_none_is_refused_with_its_bar(name, value, one):
    with pytest.raises(
        MarketError,
        match=rf"^hand: expected {name} to be positive and finite, got bar 7 at 2000-01-12T.* with .*{name} {value:g}.*"
        r" \(1 such bars\); mend or drop them where the market is loaded$",
    ):
        with_value(one, name, 7, value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("volume", -1.0, "volume to be finite and not negative"),
        ("volume", np.nan, "volume to be finite and not negative"),
        ("high", 40.0, "open and close to lie between low and high"),
        ("low", 59.0, "open and close to lie between low and high"),
        ("time", np.datetime64("2000-01-03"), "every bar to close later than the one before"),
        ("time", np.datetime64("NaT"), "every bar to close later than the one before"),
    ],
)
def test_a_bar_that_breaks_a_promise_is_refused(name, value, expected, one):
    with pytest.raises(MarketError, match=rf"^hand: expected {expected}, got bar [78] at "):
        with_value(one, name, 7, value)


def test_a_price_that_rounding_moved_is_not():
    prices = {"open": 1.0, "high": 1.0 - 1e-15, "low": 1.0, "close": 1.0}
    time = np.arange(2).astype("datetime64[D]")
    assert len(Instrument("mine", time, **{k: np.full(2, v) for k, v in prices.items()}, volume=np.zeros(2))) == 2


def test_arrays_of_other_lengths_are_refused(one):
    with pytest.raises(
        MarketError, match=r"^hand: expected one number a bar in each array, got volume of shape \(29,\)"
    ):
        dataclasses.replace(one, volume=one.volume[1:])
    with pytest.raises(MarketError, match=r"got regime of shape \(30, 1\) and close of shape \(30,\)$"):
        dataclasses.replace(one, regime=np.zeros((30, 1)))
    with pytest.raises(MarketError, match=r"got time of shape \(0,\)"):
        dataclasses.replace(one, **{name: getattr(one, name)[:0] for name in ARRAYS})


def test_what_is_no_number_is_refused(one):
    with pytest.raises(MarketError, match=r"^hand: close: expected an array of float64 \(could not convert string"):
        dataclasses.replace(one, close=["a"] * 30)


def test_a_market_without_instruments_or_with_two_of_one_name_is_refused(one):
    with pytest.raises(MarketError, match=r"^mine: expected at least one instrument, got none$"):
        Market("mine", (), opens_are_real=True)
    with pytest.raises(MarketError, match=r"^mine: 2 instruments are called 'hand'; rename them$"):
        Market("mine", (one, one), opens_are_real=True)


def test_a_single_bar_is_too_few_for_a_return(make_market):
    market = make_market([1.0])
    message = (
        r"^hand has a single bar, at 2000-01-03T.*, and a return needs two; load more bars of it, or leave it out$"
    )
    with pytest.raises(MarketError, match=message):
        _ = market.instruments[0].bars_per_year
    with pytest.raises(MarketError, match=message):
        contents(market.instruments[0])


@pytest.mark.parametrize("close", [10**400, [10**400] * 30, None])
def test_what_is_no_price_at_all_is_refused(close, one):
    with pytest.raises(MarketError, match=r"^hand: (close|open|high|low|time|volume)?.*expected "):
        dataclasses.replace(one, close=close)


def test_a_symbol_is_a_text(one):
    with pytest.raises(MarketError, match=r"^symbol: expected the name of an instrument, got 3$"):
        dataclasses.replace(one, symbol=3)


@pytest.mark.parametrize("instruments", [None, 3, "x", [1], {}])
def test_a_market_holds_instruments(instruments):
    with pytest.raises(MarketError, match=r"^mine: instruments: expected a tuple of them, got "):
        Market("mine", instruments, opens_are_real=True)


def test_whether_opens_are_real_is_true_or_false(one):
    with pytest.raises(MarketError, match=r"^mine: opens_are_real: expected True or False, got array"):
        Market("mine", (one,), opens_are_real=np.zeros(3))
