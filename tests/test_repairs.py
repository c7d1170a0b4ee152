"""What settings repair, leave out and join, and where each stops."""

import numpy as np
import pandas as pd
import pytest
from price_files import HEADER, ROWS

from moe_trader.env import MarketError


def days(n, start="2018-01-01"):
    return [str(day)[:10] for day in pd.date_range(start, periods=n)]


def bars(n, **changed):
    """Lines of n sound bars, of which ``row_3="..."`` replaces the third."""
    lines = [f"{day},10,12,9,11,100" for day in days(n)]
    for name, line in changed.items():
        at = int(name.removeprefix("row_")) - 1
        lines[at] = f"{days(n)[at]},{line}"
    return lines


# Rows that are no bars


@pytest.mark.parametrize(
    "line", ["10,12,9,,100", "10,12,9,x,100", "10,12,9,0,100", "10,12,9,-1,100", "10,12,9,1e99,100", "10,12,9,99,100"]
)
def test_bad_rows_are_dropped_and_counted_up_to_a_tenth(line, write, load, warnings):
    market = load(write("x.csv", HEADER, *bars(20, row_3=line, row_9=line)), "env.market.bad_rows=drop")
    assert len(market.instruments[0]) == 18
    assert market.repaired == (2,)
    assert "2 bad rows left out (first: row 4" in warnings()
    path = write("x.csv", HEADER, *bars(20, row_3=line, row_9=line, row_12=line))
    with pytest.raises(MarketError, match=r"row 4.*; 3 of 20 rows are bad, and at most a tenth may be left out"):
        load(path, "env.market.bad_rows=drop")
    with pytest.raises(MarketError) as refused:
        load(path)
    assert "bad_rows=drop" not in str(refused.value), "what would be refused again is not suggested"


@pytest.mark.parametrize(
    ("layout", "words"),
    [("%Y-%m-%d", ()), ("%d.%m.%Y", ("env.market.date_format=%d.%m.%Y",)), ("%Y-%m-%dT00:00:00Z", ()), ("%s", ())],
)
def test_a_row_of_totals_without_a_date_is_dropped(layout, words, write, load):
    dates = [pd.Timestamp(day, tz="UTC").strftime(layout) for day in days(20)]
    lines = [f"{date},10,12,9,11,100" for date in dates]
    path = write("x.csv", HEADER, *lines, ",200,240,180,220,2000")
    with pytest.raises(
        MarketError, match=r"row 22, column 'Date': .*; set env\.market\.bad_rows=drop to leave such"
    ) as error:
        load(path, *words)
    assert "date_format" not in str(error.value)
    market = load(path, *words, "env.market.bad_rows=drop")
    assert market.repaired == (1,)
    assert market.sha256() == load(write("x.csv", HEADER, *lines), *words).sha256()
    with pytest.raises(MarketError, match=r"row 22, .*; 3 of 23 rows are bad, and at most a tenth may be left out"):
        load(write("x.csv", HEADER, *lines, *[",200,240,180,220,2000"] * 3), *words, "env.market.bad_rows=drop")


def test_the_first_row_of_a_repeated_stamp_is_kept(write, load):
    lines = [*bars(20), f"{days(20)[-1]},1,1,1,1,1"]
    one = load(write("x.csv", HEADER, *lines), "env.market.bad_rows=drop").instruments[0]
    assert (len(one), one.close[-1]) == (20, 11)


def test_a_date_that_a_given_format_cannot_read_is_never_dropped(write, load):
    """A wrong format reads some rows, and those wrongly."""
    lines = [f"{day[8:]}/{day[5:7]}/{day[:4]},10,12,9,11,100" for day in days(14)]
    with pytest.raises(MarketError, match=r"'13/01/2018' is no date; expected the format '%m/%d/%Y'; set .*%d/%m/%Y"):
        load(write("x.csv", HEADER, *lines), "env.market.date_format=%m/%d/%Y", "env.market.bad_rows=drop")


@pytest.mark.parametrize(
    ("at", "bound"), [("row_2", "env.market.start=2018-01-03"), ("row_19", "env.market.end=2018-01-19")]
)
def test_rows_outside_the_bounds_are_not_checked(at, bound, write, load):
    path = write("x.csv", HEADER, *bars(20, **{at: "-1,-1,-1,-1,-1"}))
    with pytest.raises(MarketError, match=rf"open is -1.*; set {bound} to "):
        load(path)
    market = load(path, bound)
    assert len(market.instruments[0]) == 18
    assert market.repaired == (0,)
    assert "2 rows outside env.market.start and end left out" in market.notes[0]
    with pytest.raises(MarketError, match=r"no rows from 2030-01-01 to the end .*: the file holds 2018-01-01\S* to "):
        load(path, "env.market.start=2030-01-01")


# Bars outside their own range


@pytest.mark.parametrize(("miss", "widened"), [(0.0005, True), (0.002, False), (0.09, False)])
def test_bars_are_widened_up_to_a_tenth(miss, widened, write, load):
    path = write("x.csv", HEADER, *bars(20, row_3=f"10,{11 * (1 - miss)},9,11,100"))
    if widened:
        assert load(path).instruments[0].high[2] == 11
    else:
        with pytest.raises(MarketError, match=r"row 4: open and close must .*; set env\.market\.ranges=widen to widen"):
            load(path)
    market = load(path, "env.market.ranges=widen")
    assert market.instruments[0].high[2] == 11
    assert market.repaired == (1,)


def test_a_bar_that_misses_by_more_is_never_widened(write, load):
    path = write("x.csv", HEADER, *bars(20, row_3="10,12,11.9,10,100"))
    with pytest.raises(MarketError, match=r"1 such rows, by up to 19\.00%; bars are widened by up to 10%\); set env"):
        load(path, "env.market.ranges=widen")
    dropped = load(path, "env.market.ranges=widen", "env.market.bad_rows=drop")
    assert len(dropped.instruments[0]) == 19


def test_many_missing_opens_are_not_real(write, load, warnings):
    few = load(write("x.csv", HEADER, *bars(40, row_3="0,12,9,11,1")), "env.market.ranges=widen")
    assert few.opens_are_real
    many = load(write("x.csv", HEADER, *bars(20, row_3="0,12,9,11,1", row_5=",,,11,1")), "env.market.ranges=widen")
    assert not many.opens_are_real
    assert [getattr(many.instruments[0], name)[4] for name in ("open", "high", "low", "close")] == [11, 11, 11, 11]
    assert "2 of 20 opens are missing: they are taken as not real" in warnings()


# Columns


def test_a_column_that_is_declared_absent_is_not_read(write, load):
    lines = [f"{line},x" for line in bars(5)]
    path = write("x.csv", HEADER.replace("Volume", "Adj Close,Volume"), *lines)
    market = load(path, "env.market.columns.volume=none", "env.market.columns.adjusted_close=none")
    assert not market.instruments[0].volume.any()
    assert "columns ignored: Adj Close, Volume" in market.notes[0]


def test_a_position_and_a_heading_of_digits_are_distinguished(write, load):
    path = write("x.csv", "Date,1,2", "2018-12-27,11,12", "2018-12-28,11,12")
    assert load(path, "env.market.columns.close=1").instruments[0].close[0] == 11
    assert load(path, "'env.market.columns.close=\"1\"'".strip("'")).instruments[0].close[0] == 11
    assert load(path, "env.market.columns.close=2").instruments[0].close[0] == 12
    assert load(path, 'env.market.columns.close="2"').instruments[0].close[0] == 12


# Volumes under each other's heading


@pytest.mark.parametrize("swapped", [range(0), range(20), range(7), range(11, 20), [2, 3, 9, 17]])
def test_units_are_read_wherever_they_stand(swapped, write, load, warnings):
    rng = np.random.default_rng(0)
    units, price = rng.uniform(10, 500, 20).round(4), rng.uniform(9000, 9500, 20).round(2)
    lines = []
    for at, day in enumerate(days(20)):
        pair = [f"{units[at]}", f"{units[at] * price[at]:.2f}"]
        lines.append(
            f"{day},{price[at]},{price[at]},{price[at]},{price[at]},{','.join(pair[:: -1 if at in swapped else 1])}"
        )
    market = load(write("x.csv", f"{HEADER},Volume USD", *lines))
    np.testing.assert_allclose(market.instruments[0].volume, units)
    assert ("holds the units traded" in warnings()) == (len(swapped) > 0)


def test_columns_that_are_not_price_times_each_other_stay_as_they_are(write, load, warnings):
    rng = np.random.default_rng(0)
    lines = [f"{day},100,100,100,100,{rng.uniform(1, 9)},{rng.uniform(1, 9)}" for day in days(20)]
    load(write("x.csv", f"{HEADER},Volume FUT", *lines))
    assert "holds the units" not in warnings()


# One instrument in several files


def test_pieces_may_differ_in_the_unit_of_their_stamps_and_a_split_between_them_is_found(write, load, tmp_path):
    """As Binance's archives do since 2025."""
    old = [f"{stamp}000,40,48,36,44" for stamp in (1735516800, 1735603200)]
    new = [f"{stamp}000000,11,12,9,11" for stamp in (1735689600, 1735776000)]
    write("X-1d-2024-12.csv", "open_time,open,high,low,close", *old)
    write("X-1d-2025-01.csv", "open_time,open,high,low,close", *new)
    with pytest.raises(MarketError, match=r"row 2 of \S*X-1d-2025-01\.csv: the price jumps from 44\.0 to 11\.0"):
        load(f"{tmp_path}/X*.csv", "env.market.symbol=X")
    market = load(f"{tmp_path}/X*.csv", "env.market.symbol=X", "env.market.splits=repair")
    (one,) = market.instruments
    assert [str(stamp)[:10] for stamp in one.time] == ["2024-12-30", "2024-12-31", "2025-01-01", "2025-01-02"]
    assert one.close.tolist() == [11, 11, 11, 11]
    assert market.repaired == (2,)
    assert any("2 files joined" in note for note in market.notes[0])


def test_repairs_of_each_joined_file_are_noted(write, load, tmp_path):
    for year in (2018, 2019):
        write(
            f"X-{year}.csv",
            f"{HEADER},Trades",
            *(f"{year}-01-{day:02},10,12,9,11,{1 - 2 * (day == 7)},5" for day in range(1, 9)),
        )
    market = load(f"{tmp_path}/X*.csv", "env.market.symbol=X")
    assert market.repaired == (2,)
    assert market.notes[0][1:] == (
        "columns ignored: Trades",
        *(f"X-{year}.csv: 1 rows with a volume of -1 read as 0 (first: row 8)" for year in (2018, 2019)),
    )


def test_files_whose_times_overlap_are_several_instruments_or_cannot_be_joined(write, load, tmp_path):
    for name in ("fund_1.csv", "fund_2.csv"):
        write(name, HEADER, *ROWS)
    assert [one.symbol for one in load(f"{tmp_path}/*.csv").instruments] == ["fund_1", "fund_2"]
    with pytest.raises(MarketError, match=r"3 rows of \S+fund_2\.csv are not later than the last of \S+fund_1\.csv; f"):
        load(f"{tmp_path}/*.csv", "env.market.symbol=fund")


def test_zones_that_differ_cannot_be_joined(write, load, tmp_path):
    write("a_2018.csv", "time,close", "2018-12-27T09:00,1", "2018-12-28T10:00,1")
    write("a_2019.csv", "time,close", "2019-12-27T09:00Z,1", "2019-12-28T10:00Z,1")
    with pytest.raises(MarketError, match=r"stamps of \S+a_2018\.csv and \S+a_2019\.csv differ in their time zone"):
        load(f"{tmp_path}/*.csv", "env.market.symbol=a")


# Marks of decimals and thousands


@pytest.mark.parametrize(("decimal", "mark"), [("comma", "."), ("point", ",")])
def test_a_given_mark_of_decimals_holds_for_whole_columns(decimal, mark, write, load):
    """Columns that would be numbers without it as well: 1.003 is 1003 throughout."""
    path = write(
        "x.csv", "Date;Close;Volume", f"2018-12-27;1{mark}003;31{mark}205", f"2018-12-28;997;1{mark}204{mark}000"
    )
    one = load(path, f"env.market.decimal={decimal}").instruments[0]
    assert one.close.tolist() == [1003, 997]
    assert one.volume.tolist() == [31205, 1204000]


def test_units_and_money_are_distinguished_with_a_given_mark(write, load):
    rows = [f"{day};100,5;{100.5 * (10 + at):.1f};{10 + at}".replace(".", ",") for at, day in enumerate(days(9))]
    one = load(write("x.csv", "Date;Close;Volume;Volume BTC", *rows), "env.market.decimal=comma").instruments[0]
    assert one.volume.tolist() == [10 + at for at in range(9)]


def test_prices_that_go_on_in_dotted_thousands_are_refused(write, load):
    closes = ["990", "994", "997", "1.003", "1.010", "998", "1.100"]
    path = write("x.csv", "Date;Close", *(f"{day};{close}" for day, close in zip(days(7), closes, strict=True)))
    with pytest.raises(
        MarketError,
        match=r"row 5, column 'Close': prices go on from 997 to 1\.003, as where a dot stands between thousands; set "
        r"env\.market\.decimal=comma to read 1\.003 as 1003, or env\.market\.decimal=point to read 1\.003 as 1\.003$",
    ):
        load(path)
    comma = load(path, "env.market.decimal=comma").instruments[0]
    assert comma.close.tolist() == [990, 994, 997, 1003, 1010, 998, 1100]
    point = load(path, "env.market.decimal=point", "env.market.splits=keep").instruments[0]
    assert point.close.tolist() == [990, 994, 997, 1.003, 1.01, 998, 1.1]


@pytest.mark.parametrize("mark", ["'", "\u2019"])
def test_an_apostrophe_separates_thousands_only_before_three_digits(mark, write, load):
    path = write("x.csv", "Date;Close", f"2018-12-27;10{mark}905.5", f"2018-12-28;1{mark}010{mark}906")
    assert load(path, "env.market.decimal=point", "env.market.splits=keep").instruments[0].close.tolist() == [
        10905.5,
        1010906,
    ]
    for price in (f"109{mark}05", f"109{mark}055{mark}1", f"109{mark}0555"):  # 109 and 5/32
        path = write("x.csv", "Date;Close", f"2018-12-27;{price}", f"2018-12-28;{price}")
        for words in ([], ["env.market.decimal=point"]):
            with pytest.raises(MarketError, match=r"is no number \(2 such rows\); write numbers with a .*signs$"):
                load(path, *words)
