"""Splits that nobody adjusted, however they hide, and jumps that are none."""

import numpy as np
import pandas as pd
import pytest

from moe_trader.env import MarketError

HEADER = "Date,Open,High,Low,Close,Volume"


@pytest.fixture
def prices(write):
    """``prices(close, opens, adjusted)``: a file of these bars, on weekdays unless told otherwise."""

    def made(close, opens=None, adjusted=None, freq="B"):
        close = np.asarray(close, dtype=float)
        opens = close * 1.001 if opens is None else np.asarray(opens, dtype=float)
        table = pd.DataFrame({"Open": opens, "High": np.maximum(opens, close), "Low": np.minimum(opens, close)})
        table = table.assign(Close=close, Volume=100.0)
        if adjusted is not None:
            table["Adj Close"] = adjusted
        table.insert(0, "Date", pd.date_range("2018-01-01", periods=len(close), freq=freq))
        return write("prices.csv", table.to_csv(index=False).rstrip())

    return made


def walk(n=40, volatility=0.01):
    return 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, volatility, n)))


def halved(close, at=20, by=2.0):
    return np.where(np.arange(len(close)) < at, close, close / by)


@pytest.mark.parametrize("factor", [1.0, 0.99])
def test_an_adjusted_close_that_misses_a_split_is_no_excuse(factor, prices, load):
    close = halved(walk())
    path = prices(close, adjusted=factor * close)
    what = "even scaled to the adjusted close the price jumps from"
    with pytest.raises(
        MarketError, match=rf"prices\.csv: row 22: {what} .* \(1 such rows\); give adjusted prices; set"
    ):
        load(path)
    market = load(path, "env.market.splits=repair")
    np.testing.assert_allclose(market.instruments[0].close, factor * walk() / 2)
    assert market.repaired == (20,)


def test_a_split_within_a_bar_whose_open_repeats_the_close_before(prices, load, warnings):
    close = halved(walk())
    path = prices(close, opens=np.append(close[0], close[:-1]))
    with pytest.raises(MarketError, match=r"row 22: the price jumps from \S+ to \S+, as if a split was not adjusted"):
        load(path)
    market = load(path, "env.market.splits=repair")
    (one,) = market.instruments
    np.testing.assert_allclose(one.close, walk() / 2)
    np.testing.assert_allclose(one.open[1:], walk()[:-1] / 2)
    np.testing.assert_array_equal(one.high, np.maximum(one.open, one.close))
    np.testing.assert_array_equal(one.low, np.minimum(one.open, one.close))
    assert market.repaired == (21,)
    tripled = halved(walk(), by=1 / 3)
    (one,) = load(prices(tripled, opens=np.append(tripled[0], tripled[:-1])), "env.market.splits=repair").instruments
    np.testing.assert_allclose(one.open[1:], walk()[:-1] * 3)
    np.testing.assert_array_equal(one.low, np.minimum(one.open, one.close))


def test_a_market_that_never_closes_may_double_within_a_bar(prices, load, warnings):
    close = halved(walk(), by=0.5)
    assert len(load(prices(close, opens=np.append(close[0], close[:-1]), freq="D")).instruments[0]) == 40
    assert "1 jumps of the price are kept as the market's own (first: row 22, from 9" in warnings()
    with pytest.raises(MarketError, match="as if a split was not adjusted"):
        load(prices(close, freq="D"))  # from a close to the next open, which are the same moment


@pytest.mark.parametrize("factor", [1.5, 1.92, 100, 1000, 1 / 1.5])
def test_a_jump_that_no_split_explains_is_kept_and_told(factor, prices, load, warnings):
    close = halved(walk(), by=factor)
    np.testing.assert_allclose(load(prices(close)).instruments[0].close, close)
    assert f"1 jumps of the price are kept as the market's own (first: row 22, from {close[19]} to" in warnings()
    assert "look for splits, and for slips of the decimal point" in warnings()


def test_closes_alone_that_change_their_unit(write, load, warnings):
    rows = [f"2018-01-0{at + 1},{close}" for at, close in enumerate((998, 997, 1.003, 1.004))]
    file = write("prices.csv", "Date,Close", *rows)
    with pytest.raises(MarketError, match=r"row 4, column 'Close': prices go on from 997 to 1\.003, as where"):
        load(file)
    load(file, "env.market.decimal=point")
    assert "1 jumps of the price are kept as the market's own (first: row 4, from 997.0 to 1.003)" in warnings()


def test_a_slip_of_the_decimal_point_is_told(prices, load, warnings):
    close = walk()
    close[20] /= 100
    load(prices(close))
    assert "2 jumps of the price are kept as the market's own (first: row 22" in warnings()
    assert "2 jumps" in warnings()


def test_wild_markets_are_read_without_a_word_as_long_as_they_do_not_jump(prices, load, warnings):
    load(prices(walk(500, 0.08), opens=np.append(100, walk(500, 0.08)[:-1]), freq="D"))
    assert "jumps" not in warnings()
    crash = halved(walk(), by=1.9)
    load(prices(crash), "env.market.splits=keep")
    assert "jumps" not in warnings(), "the user vouches for what a split could explain"
    load(prices(halved(walk(), by=100)), "env.market.splits=keep")
    assert "jumps" in warnings()
