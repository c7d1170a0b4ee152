"""Headings of price files as vendors write them, and those that look like what they are not."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
from price_files import HEADER, ROWS

from moe_trader.env import MarketError
from moe_trader.env.reading.columns import find_columns

PRICES = "Date,Open,High,Low,Close"


def bar(write, load, header, *rows):
    return load(write("x.csv", header, *rows)).instruments[0]


# What is a volume


@pytest.mark.parametrize(
    "heading", ["BTC", "USDT", "(BTC)", "_USD", "(lots)", "lots", "shares", "(Shares)", "contracts", "1INCH", "MASK"]
)
def test_a_volume_in_a_unit_is_read_and_told(heading, write, load, warnings):
    called = f"Volume{'' if heading.startswith('_') else ' '}{heading}"
    one = bar(write, load, f"{PRICES},{called}", "2018-12-27,10,12,9,11,100")
    assert one.volume.tolist() == [100]
    assert f"x.csv: volume is read from column '{called}'; env.market.columns.volume names another" in warnings()


@pytest.mark.parametrize(
    "made", ["MA", "MA 20", "MA20", "SMA", "EMA", "(MA)", "avg", "Average", "% Change", "%", "(%)", "Change", "chg"]
)
def test_what_is_made_from_volume_is_no_volume(made, write, load, warnings):
    one = bar(write, load, f"{PRICES},Volume {made}", "2018-12-27,10,12,9,11,100")
    assert one.volume.tolist() == [0]
    assert "volume is read" not in warnings()
    one = bar(write, load, f"{PRICES},Volume {made},Volume (lots)", "2018-12-27,10,12,9,11,-100,7")
    assert one.volume.tolist() == [7]


@pytest.mark.parametrize("made", ["ratio", "Profile", "20", "Weighted Average Price"])
def test_nor_are_these(made):
    assert "volume" not in find_columns([*PRICES.split(","), f"Volume {made}"], "x")


def test_a_volume_that_the_user_names_is_not_told(write, load, warnings):
    path = write("x.csv", f"{PRICES},Volume BTC,Volume MA", "2018-12-27,10,12,9,11,100,90")
    assert load(path, "env.market.columns.volume='Volume MA'").instruments[0].volume.tolist() == [90]
    assert "volume is read" not in warnings()


# Names that vendors use


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Gmt time,Open,High,Low,Close,Volume", "2018-12-27 00:00:00.000,10,12,9,11,100"),
        ("ticker,volume,open,close,high,low,window_start,transactions", "X,100,10,11,12,9,1545868800000000000,5"),
        ("v,vw,o,c,h,l,t,n", "100,10.5,10,11,12,9,1545868800000,5"),
        ("Date,Price,Open,High,Low,Vol.,Change %", "2018-12-27,11,10,12,9,100,0.5%"),
        ("Date,Open,High,Low,Close*,Adj Close**,Volume", "2018-12-27,10,12,9,11,11,100"),
        ("unix_timestamp,open,high,low,close,volume", "1545868800,10,12,9,11,100"),
        ("Local time,Open,High,Low,Close,Volume", "2018-12-27,10,12,9,11,100"),
        ("\ufeffDatum;Eröffnung;Hoch;Tief;Schluss;Volumen", "2018-12-27;10;12;9;11;100"),
        ('"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"', '"2018-12-27","11","10","12","9","100","1%"'),
        ('"Date","Dernier","Ouv."," Plus Haut","Plus Bas","Vol."', "2018-12-27,11,10,12,9,100"),
        ("Fecha,Último,Apertura,Máximo,Mínimo,Vol.", "2018-12-27,11,10,12,9,100"),
        ("Data,Ultimo,Apertura,Massimo,Minimo,Vol.", "2018-12-27,11,10,12,9,100"),
        ("Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen", "2018-12-27,10,12,9,11,100"),
        ("日期,股票代码,开盘,收盘,最高,最低,成交量,成交额", "2018-12-27,600000,10,11,12,9,100,1100"),
    ],
)
def test_vendors(header, row, write, load):
    one = bar(write, load, header, row)
    assert str(one.time[0]) == "2018-12-27T00:00:00.000000"
    assert [getattr(one, name)[0] for name in ("open", "high", "low", "close", "volume")] == [10, 12, 9, 11, 100]


@pytest.mark.parametrize("heading", ["Adj. Close", "AdjustedClose", "Adj Close*", "Adjusted_Close", "adjClose"])
def test_an_adjusted_close_is_found_however_it_is_written(heading, write, load):
    rows = [f"2018-12-{day},10,12,9,11,{adjusted}" for day, adjusted in ((27, 5.5), (28, 11))]
    assert bar(write, load, f"{PRICES},{heading}", *rows).close.tolist() == [5.5, 11]


def test_a_price_beside_a_close_is_not_the_close(write, load):
    assert bar(write, load, "Date,Price,Close", "2018-12-27,5,11").close.tolist() == [11]


# Columns that are missing


def test_a_missing_column_names_the_setting_and_the_columns_there(write, load):
    path = write("x.csv", "Date,Quote", "2018-12-27,11")
    with pytest.raises(
        MarketError,
        match=r"x\.csv: missing column close \(any of close, .*\); where it is called something else, set "
        r"env\.market\.columns\.close=Quote; columns there: Date, Quote$",
    ):
        load(path)
    assert load(path, "env.market.columns.close=Quote").instruments[0].close.tolist() == [11]


@pytest.mark.parametrize(
    ("header", "row"),
    [("Wann,Open,High,Low,Close", "10,12,9,11"), ("Trade day,Close", "11"), ("Wann,Close,Volume", "11,5")],
)
def test_an_unknown_time_next_to_known_prices_is_suggested(header, row, write, load):
    path = write("x.csv", header, *(f"2018-12-{day},{row}" for day in (27, 28)))
    with pytest.raises(
        MarketError, match=r"missing column time \(any of .* set '?env\.market\.columns\.time="
    ) as error:
        load(path)
    words = shlex.split(str(error.value).partition("; where it is called something else, set ")[2].partition(";")[0])
    assert [word.replace('"', "") for word in words] == [f"env.market.columns.time={header.partition(',')[0]}"]
    assert load(path, *words).instruments[0].close.tolist() == [11, 11]


def test_a_header_that_is_one_cell_says_what_stands_between_columns(write, load):
    lines = [line.replace(",", "!") for line in (HEADER, *ROWS)]
    with pytest.raises(MarketError, match=r"there: Date!Open\S*; this is one cell: put a comma, .*, or say sep=X in"):
        load(write("x.csv", *lines))


@pytest.mark.parametrize("layout", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d,%H:%M"])
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("header", [None, "Wann,P,Q,R,S"])
def test_opens_and_closes_are_distinguished_whichever_row_is_the_newest(header, newest_first, layout, write, load):
    """Each open is the close before, so that only the order of time tells O H L C from C H L O."""
    closes = 100.0 * np.exp(np.random.default_rng(0).normal(0, 0.01, 61).cumsum())
    rows = [
        f"{day.strftime(layout)},{was},{max(was, close) + 1},{min(was, close) - 1},{close}"
        for day, was, close in zip(pd.date_range("2020-01-25", periods=60), closes, closes[1:], strict=False)
    ]
    names = [header.replace("Wann", "Wann,Uhr") if header and "," in layout else header] if header else []
    path = write("x.csv", *names, *(rows[::-1] if newest_first else rows))
    with pytest.raises(MarketError, match="missing column time") as error:
        load(path)
    words = shlex.split(re.search(r"(?<=set ).*?(?=; )", str(error.value))[0])
    one = load(path, *words, "env.market.opens_are_real=true").instruments[0]
    assert one.open.tolist() == closes[:60].tolist()
    assert one.close.tolist() == closes[1:].tolist()


@pytest.mark.parametrize("header", ["Tag;Beginn;Oben;Unten;Ende;Umsatz", "Tag;Open;Oben;Unten;Ende;Umsatz"])
def test_columns_of_decimal_commas_are_suggested_and_no_volume_as_a_close(header, write, load):
    """The volume alone is a number as it stands, 31.205; and an open that is known says nothing of the close."""
    rows = [f"{at:02}.01.2020;1.00{at},34;1.10{at},40;990,29;1.00{at},50;31.205" for at in range(1, 9)]
    path = write("x.csv", header, *rows)
    with pytest.raises(MarketError, match="missing column time") as error:
        load(path)
    one = load(path, *shlex.split(re.search(r"(?<=set ).*?(?=, or|; )", str(error.value))[0])).instruments[0]
    first = [getattr(one, name)[0] for name in ("open", "high", "low", "close", "volume")]
    assert first == [1001.34, 1101.4, 990.29, 1001.5, 31205]
