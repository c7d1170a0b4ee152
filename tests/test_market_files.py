"""The user's own price files as a market: several files, symbol columns, and every kind of damage met so far."""

import gzip
import logging

import numpy as np
import pandas as pd
import pytest
from price_files import COLUMNS, HEADER, ROWS

from moe_trader.config import compose
from moe_trader.env import MarketError
from moe_trader.env.reading.bars import Reading, to_bars


def days(one):
    return [str(stamp)[:10] for stamp in one.time]


def assert_same_bars(one, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# Which files


def test_several_files_are_several_instruments(write, load, tmp_path):
    for name in ("b.csv", "a.csv", "c.txt"):
        write(name, HEADER, *ROWS)
    market = load(f"{tmp_path}/*.csv")
    assert [one.symbol for one in market.instruments] == ["a", "b"]
    assert market.name == tmp_path.name
    named = load(f"[{tmp_path}/b.csv,{tmp_path}/a.csv]")
    assert [one.symbol for one in named.instruments] == ["b", "a"]
    assert [one.symbol for one in load(f"[{tmp_path}/c.txt,'{tmp_path}/*.csv']").instruments] == ["c", "a", "b"]


def test_one_long_file_with_a_symbol_column(write, load):
    rows = [f"{row},{symbol}" for row in ROWS for symbol in ("KO", "000001", "NA")]
    market = load(write("long.csv", f"{HEADER},Ticker", *rows))
    assert market.name == "long"
    assert [one.symbol for one in market.instruments] == ["KO", "000001", "NA"]
    for one in market.instruments:
        assert one.close.tolist() == [11, 12, 13]


def test_symbols_choose_instruments_and_their_order(write, load):
    rows = [f"{row},{symbol}" for symbol in ("A", "B", "C") for row in ROWS]
    path = write("long.csv", f"{HEADER},symbol", *rows)
    assert [one.symbol for one in load(path, "env.market.symbols=[C,A]").instruments] == ["C", "A"]
    with pytest.raises(MarketError, match=r"^env\.market\.symbols: none of the files holds X, Y$"):
        load(path, "env.market.symbols=[X,A,Y]")


def test_only_what_is_chosen_must_be_sound(write, load):
    path = write("long.csv", f"{HEADER},symbol", *(f"{row},A" for row in ROWS), "2018-12-27,1,1,1,-1,0,B")
    assert len(load(path, "env.market.symbols=[A]").instruments) == 1
    with pytest.raises(MarketError, match=r"long\.csv \(B\): row 5: close is -1"):
        load(path)


def test_one_name_for_several_instruments_is_refused(write, load):
    path = write("long.csv", f"{HEADER},symbol", *(f"{ROWS[0]},{symbol}" for symbol in "AB"))
    with pytest.raises(MarketError, match=r"^env\.market\.symbol: one name for 2 instruments; choose with .*symbols$"):
        load(path, "env.market.symbol=X")


def test_an_instrument_in_two_files_is_refused(write, load, tmp_path):
    (tmp_path / "other").mkdir()
    paths = [write("a.csv", HEADER, *ROWS), write("other/a.csv", HEADER, *ROWS)]
    with pytest.raises(MarketError, match=r"^env\.path: a stands in several files"):
        load(f"[{paths[0]},{paths[1]}]")


def test_a_glob_that_matches_nothing_and_an_empty_list_are_refused(load, tmp_path):
    with pytest.raises(MarketError, match=r"/\*\.csv: no file matches$"):
        load(f"{tmp_path}/*.csv")
    with pytest.raises(MarketError, match=r"^env\.path: an empty list; give at least one file$"):
        load("[]")


def test_a_row_without_a_symbol_is_named(write, load):
    path = write("long.csv", f"{HEADER},symbol", f"{ROWS[0]},A", f"{ROWS[1]},", f"{ROWS[2]},A")
    with pytest.raises(MarketError, match=r"long\.csv: row 3, column 'symbol': no symbol \(1 such rows\); set env"):
        load(path)


def test_several_instruments_can_be_traded(write, make_settings, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 1200)))
        stamps = np.busday_offset("2000-01-03", np.arange(1200), roll="forward")
        write(f"{name}.csv", "date,open,close,high,low", *(
            f"{stamp},{price * 1.001},{price},{price * 1.01},{price * 0.99}"
            for stamp, price in zip(stamps, close, strict=True)
        ))  # fmt: skip
    task = make_settings("env=csv", f"env.path={tmp_path}/*.csv", small=False).env.prepare()
    assert [row.instrument for row in task.evaluated("test")] == ["a", "b"]
    env = task.training_env(2, seed=0)
    env.reset()
    assert np.isfinite(env.step(np.array([0, 2]))[1]).all()


# Parquet


def test_parquet_reads_as_csv_does(write, load, tmp_path):
    path = write("prices.csv", HEADER, *ROWS)
    table = pd.read_csv(path)
    table.to_parquet(tmp_path / "text.parquet")
    table["Date"] = pd.to_datetime(table["Date"])
    table.to_parquet(tmp_path / "dates.parquet")
    table.set_index("Date").to_parquet(tmp_path / "index.parquet")
    table.set_index(table["Date"].rename(None)).drop(columns="Date").to_parquet(tmp_path / "nameless.parquet")
    table.assign(Date=table["Date"].dt.date).to_parquet(tmp_path / "days.parquet")
    table.assign(Date=table["Date"].dt.tz_localize("UTC").dt.as_unit("ns")).to_parquet(tmp_path / "aware.parquet")
    table.iloc[::-1].to_parquet(tmp_path / "newest_first.parquet")
    table.astype({"Open": "Float64", "Volume": "Int64"}).to_parquet(tmp_path / "nullable.parquet")
    for file in sorted(tmp_path.glob("*.parquet")):
        market = load(file, env="parquet")
        assert market.name == file.stem
        assert_same_bars(market.instruments[0], load(path).instruments[0])


def test_parquet_with_a_symbol_column_and_rows_counted_from_one(load, tmp_path):
    table = pd.DataFrame({"time": pd.date_range("2020-01-01", periods=4), "close": [1.0, 2.5, 1.2, 1.3]})
    table["ticker"] = ["A", "B", "A", "B"]
    table.to_parquet(tmp_path / "long.parquet")
    assert [one.symbol for one in load(tmp_path / "long.parquet", env="parquet").instruments] == ["A", "B"]
    table.loc[2, "close"] = np.nan
    table.assign(open=1.0, high=3.0, low=0.5).to_parquet(tmp_path / "long.parquet")
    with pytest.raises(MarketError, match=r"long\.parquet \(A\): row 3, column 'close': an empty cell is no number"):
        load(tmp_path / "long.parquet", env="parquet")


def test_what_is_no_parquet_is_refused(load, tmp_path, write):
    with pytest.raises(MarketError, match=r"nowhere\.parquet: no such file; give the path of a file of bars$"):
        load(tmp_path / "nowhere.parquet", env="parquet")
    with pytest.raises(MarketError, match=r"prices\.parquet: cannot be read as Parquet \("):
        load(write("prices.parquet", "PAR1 is how one begins"), env="parquet")
    pd.DataFrame({"time": [], "close": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(MarketError, match=r"empty\.parquet: no rows$"):
        load(tmp_path / "empty.parquet", env="parquet")


# Files that look unusual, and are read


@pytest.mark.parametrize(
    ("unit", "scale"), [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
def test_unix_stamps_in_any_unit(unit, scale, write, load, warnings, tmp_path):
    stamps = [1545868800 * scale, 1545955200 * scale, 1546214400 * scale]
    rows = [f"{stamp},{row.partition(',')[2]}" for stamp, row in zip(stamps, ROWS, strict=True)]
    one = load(write("prices.csv", HEADER, *rows)).instruments[0]
    assert days(one) == ["2018-12-27", "2018-12-28", "2018-12-31"]
    assert f"'Date' holds unix stamps in {unit}" in warnings(logging.INFO)
    pd.read_csv(tmp_path / "prices.csv").to_parquet(tmp_path / "prices.parquet")
    assert_same_bars(load(tmp_path / "prices.parquet", env="parquet").instruments[0], one)


def test_fractions_of_a_unix_second_are_kept(write, load):
    rows = [f"1545868800.25,{ROWS[0].partition(',')[2]}", f"1545868800.5,{ROWS[1].partition(',')[2]}"]
    one = load(write("prices.csv", HEADER, *rows)).instruments[0]
    assert [str(stamp)[-6:] for stamp in one.time] == ["250000", "500000"]


@pytest.mark.parametrize(
    "lines",
    [
        ("<TICKER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "X,20181227,000000,10,12,9,11,100"),
        ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<VOL>", "2018.12.27\t00:00:00\t10\t12\t9\t11\t100"),
        ("Date;Time;Open;High;Low;Close;Volume", "2018-12-27;00:00;10;12;9;11;100"),
        ("timestamp|1. open|2. high|3. low|4. close|5. volume", "2018-12-27 00:00:00 UTC|10|12|9|11|100"),
        ("https://www.example.com", "date,symbol,open,high,low,close,Volume X", "2018/12/27,X,10,12,9,11,100"),
        ("", "date,open,high,low,close,volume", "2018-12-27T00:00:00.000Z,10,12,9,11,100"),
        (",Open,High,Low,Close,Volume", "2018-12-27,10,12,9,11,100"),
        ("\ufeffdate,open,high,low,close,volume", "2018-12-27,10,12,9,11,100"),
        ("Price,Close,High,Low,Open,Volume", "Ticker,X,X,X,X,X", "Date,,,,,", "2018-12-27,11,12,9,10,100"),
        ('"Date","Open","High","Low","Close","Volume"', '"2018-12-27","10","12","9","11","100"'),
        ("Date,Open,High,Low,Close,Volume,", "2018-12-27,10,12,9,11,100,"),
    ],
)  # fmt: skip
def test_dialects(lines, write, load):
    market = load(write("X.csv", *lines))
    (one,) = market.instruments
    assert one.symbol == "X"
    assert [getattr(one, name)[0] for name in COLUMNS[1:]] == [10, 12, 9, 11, 100]
    assert str(one.time[0]) == "2018-12-27T00:00:00.000000"


def test_a_time_of_day_in_its_own_column_counts(write, load):
    rows = ("2018-12-27,09:30,10,12,9,11", "2018-12-27,09:31,11,13,10,12")
    one = load(write("prices.csv", "Date,Time,Open,High,Low,Close", *rows)).instruments[0]
    assert [str(stamp)[:16] for stamp in one.time] == ["2018-12-27T09:30", "2018-12-27T09:31"]


def test_headings_may_be_given(write, load):
    path = write("prices.csv", "when,first,High,Low,Close,last_price", "2018-12-27,10,12,9,99,11")
    one = load(
        path,
        "env.market.columns.time=when",
        "env.market.columns.open=first",
        "env.market.columns.close=last_price",
    ).instruments[0]
    assert (one.open[0], one.close[0]) == (10, 11)
    with pytest.raises(MarketError, match=r"no column 'whem' \(env\.market\.columns\.time\); columns there: when, fi"):
        load(path, "env.market.columns.time=whem")


def test_the_same_file_compressed_with_lines_above_the_header(load, tmp_path):
    lines = "\n".join(["# from a vendor", "", HEADER, ROWS[0], ROWS[1].replace("12,200", "-12,200")])
    (tmp_path / "prices.csv.gz").write_bytes(gzip.compress(lines.encode()))
    with pytest.raises(MarketError, match=r"prices\.csv\.gz: row 5: close is -12"):
        load(tmp_path / "prices.csv.gz")


# Prices that are adjusted, or ought to be


def test_an_adjusted_close_scales_the_whole_bar_and_keeps_the_money_traded(write, load, warnings):
    path = write("prices.csv", f"{HEADER},Adj Close", f"{ROWS[0]},5.5", f"{ROWS[1]},12", f"{ROWS[2]},13")
    one = load(path).instruments[0]
    assert [getattr(one, name)[0] for name in COLUMNS[1:]] == [5, 6, 4.5, 5.5, 200]
    assert one.open.tolist()[1:] == [11.5, 12.5]
    assert "scaled to the adjusted close (1 rows)" in warnings(logging.INFO)
    plain = load(path, "env.market.adjust=false").instruments[0]
    assert plain.open.tolist() == [10, 11.5, 12.5]


def test_an_adjusted_close_of_a_newest_first_file_stays_with_its_row(write, load):
    rows = (f"{ROWS[0]},5.5", f"{ROWS[1]},12", f"{ROWS[2]},13")
    path, turned = write("a.csv", f"{HEADER},adj_close", *rows), write("b.csv", f"{HEADER},adj_close", *rows[::-1])
    assert_same_bars(load(path).instruments[0], load(turned).instruments[0])


SPLIT = ("2020-08-27,490,510,480,500,10", "2020-08-28,500,505,490,500,10", "2020-08-31,126,130,124,129,40")


def test_a_split_that_nobody_adjusted_is_refused_or_repaired_or_kept(write, load, warnings):
    path = write("prices.csv", HEADER, *SPLIT)
    with pytest.raises(
        MarketError,
        match=r"prices\.csv: row 4: the price jumps from 500\.0 to 126\.0, as if a split was not adjusted \(1 such rows"
        r"\); give adjusted prices; set env\.market\.splits=repair .*splits=keep",
    ):
        load(path)
    one = load(path, "env.market.splits=repair").instruments[0]
    assert one.close.tolist() == [125, 125, 129]
    assert one.volume.tolist() == [40, 40, 40]
    assert "row 4: the price jumps from 500.0 to 126.0" in warnings()
    assert load(path, "env.market.splits=keep").instruments[0].close.tolist() == [500, 500, 129]


def test_a_reverse_split_and_one_before_it(write, load):
    rows = (*SPLIT, "2020-09-01,1290,1300,1280,1290,4")
    one = load(write("prices.csv", HEADER, *rows), "env.market.splits=repair").instruments[0]
    np.testing.assert_allclose(one.close, [1250, 1250, 1290, 1290])


def test_an_adjusted_split_and_a_mere_crash_are_no_splits(write, load):
    adjusted = (f"{SPLIT[0]},125", f"{SPLIT[1]},125", f"{SPLIT[2]},129")
    one = load(write("adjusted.csv", f"{HEADER},Adj Close", *adjusted)).instruments[0]
    assert one.close.tolist() == [125, 125, 129]
    crash = (*SPLIT[:2], "2020-08-31,340,350,330,340,90")
    assert load(write("crash.csv", HEADER, *crash)).instruments[0].close.tolist() == [500, 500, 340]


# Opens that nobody could trade at


def stale(n, repeats):
    close = 100 + np.arange(n) % 7 + 0.5
    opening = np.concatenate([[100.0], np.where(np.arange(1, n) <= repeats, close[:-1], close[:-1] + 0.25)])
    stamps = np.busday_offset("2000-01-03", np.arange(n), roll="forward")
    return [f"{stamps[i]},{opening[i]},120,80,{close[i]},1" for i in range(n)]


def test_opens_that_repeat_the_close_before_are_not_real(write, load, warnings, make_settings):
    path = write("stale.csv", HEADER, *stale(1000, 500))
    assert not load(path).opens_are_real
    assert "500 of 999 opens repeat the close before" in warnings()
    with pytest.raises(MarketError, match=r"set env\.fill=next_close, or env\.market\.opens_are_real=true if ord"):
        make_settings("env=csv", f"env.path={path}", small=False).env.prepare()
    assert make_settings("env=csv", f"env.path={path}", "env.fill=next_close", small=False).env.prepare()
    assert load(path, "env.market.opens_are_real=true").opens_are_real


def test_opens_that_repeat_it_now_and_then_are_real(write, load):
    assert load(write("fresh.csv", HEADER, *stale(1000, 499))).opens_are_real


def test_adjusting_does_not_hide_stale_opens(write, load):
    rows = [f"{row},{50 + at / 3}" for at, row in enumerate(stale(1000, 900))]
    assert not load(write("stale.csv", f"{HEADER},Adj Close", *rows)).opens_are_real


def test_closes_alone_make_bars_of_one_price(write, load, warnings):
    market = load(write("closes.csv", "Date,Close", "2018-12-27,11", "2018-12-28,12"))
    assert not market.opens_are_real
    one = market.instruments[0]
    for name in ("open", "high", "low", "close"):
        assert getattr(one, name).tolist() == [11, 12]
    assert "closes only: open, high and low are set to them" in warnings()


# Damage: repaired, and counted in a warning

REPAIRED = {
    "a high that misses the close by a rounding error": (
        (HEADER, ROWS[0], "2018-12-28,11.5,11.999,10,12,200", ROWS[2]),
        "1 rows whose high or low misses the open or close by less than 0.1 % widened (first: row 3)",
        [12, 12, 14],
    ),
    "a low that misses the open by a rounding error": (
        (HEADER, "2018-12-27,10,12,10.001,11,100", *ROWS[1:]),
        "1 rows whose high or low misses",
        [12, 13, 14],
    ),
    "holidays without a price": (
        (HEADER, ROWS[0], "2018-12-28,,,,,", "2018-12-29,.,.,.,.,.", "2018-12-30,NaN,NaN,NaN,NaN,0", ROWS[2]),
        "3 rows without a price left out (first: row 3)",
        [12, 14],
    ),
    "a dot for a missing close": (
        ("DATE,CLOSE", "2018-12-27,12", "2018-12-28,.", "2018-12-31,14"),
        "1 rows without a price left out (first: row 3)",
        [12, 14],
    ),
    "a missing volume": (
        (HEADER, ROWS[0], "2018-12-28,11.5,13,10,12,", ROWS[2]),
        "1 rows without a volume read as 0 (first: row 3)",
        [12, 13, 14],
    ),
    "swapped volume columns": (
        (
            "Date,Open,High,Low,Close,Volume BTC,Volume USD",
            "2018-12-27,3800,3900,3700,3800,380000,100",
            "2018-12-28,3820,3900,3700,3850,770000,200",
        ),
        "column 'Volume USD' holds the units traded",
        [3900, 3900],
    ),
}


@pytest.mark.parametrize("kind", REPAIRED)
def test_repaired_with_a_warning(kind, write, load, warnings):
    lines, message, highs = REPAIRED[kind]
    market = load(write("prices.csv", *lines))
    one = market.instruments[0]
    if message[0].isdigit():
        assert market.repaired == (int(message.split()[0]),)
    assert one.high.tolist() == highs
    assert f"prices.csv: {message}" in warnings()
    assert (np.maximum(one.open, one.close) <= one.high).all()
    assert (np.minimum(one.open, one.close) >= one.low).all()
    if "swapped" in kind:
        assert "volume is read from" not in warnings()
        assert one.volume.tolist() == [100, 200]


def test_of_two_volume_columns_in_the_right_order_the_first_is_read(write, load, warnings):
    header = "Date,Open,High,Low,Close,Volume BTC,Volume USD"
    one = load(write("prices.csv", header, "2018-12-27,3800,3900,3700,3800,100,380000")).instruments[0]
    assert one.volume.tolist() == [100]
    assert "volume is read from column 'Volume BTC'" in warnings()
    assert "units traded" not in warnings()


def test_ticks_stand_for_a_volume_that_is_all_zero(write, load, warnings):
    header = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
    rows = ("2018.12.27\t00:00:00\t10\t12\t9\t11\t100\t0\t5", "2018.12.28\t00:00:00\t10\t12\t9\t11\t200\t0\t5")
    assert load(write("x.csv", header, *rows)).instruments[0].volume.tolist() == [100, 200]
    assert "column '<VOL>' is all 0: volume is read from '<TICKVOL>'" in warnings()
    rows = [row.replace("\t0\t5", "\t7\t5") for row in rows]
    path = write("x.csv", header, *rows)
    assert load(path).instruments[0].volume.tolist() == [7, 7]
    assert load(path, "env.market.columns.volume=tickvol").instruments[0].volume.tolist() == [100, 200]


# Damage: refused with file, row and reason

SECONDS = ("1545868800,10,12,9,11,100", "1545955200,11,13,10,12,200")
REFUSED = {
    "half a bar": ((HEADER, ROWS[0], "2018-12-28,11,13,10,.,200"), r"row 3, column 'Close': '\.' is no number"),
    "a truncated last row": ((HEADER, ROWS[0], "2018-12-28,11,13,1"), r"row 3, column 'Close': an empty cell is no"),
    "text for a price": ((HEADER, "2018-12-27,10,12,9,n.v.,1", ROWS[1]), r"row 2, column 'Close': 'n\.v\.' is no"),
    "thousands separators": (
        (HEADER, '2018-12-27,10,12,9,"1,100",1'),
        r"row 2, column 'Close': '1,100' is no number \(1 such rows\); write numbers with a decimal point, and without",
    ),
    "decimal commas": (
        ("Date;Open;High;Low;Close", "2018-12-27;10,5;12;9;11"),
        r"row 2, column 'Open': '10,5' is no number \(1 such rows\); write numbers with a decimal point",
    ),
    "currency signs": (
        (HEADER, "2018-12-27,10,12,9,$11,1"),
        r"'\$11' is no number \(1 such rows\); .* and without thousands separators or currency signs",
    ),
    "an absurd price": (
        ("Date,Close", "2018-12-27,1", "2018-12-28,1e308"),
        r"row 3: close is 1e\+308; expected 1e-30 to 1e\+30; repair or drop this row",
    ),
    "a price of almost nothing": (("Date,Close", "2018-12-27,1", "2018-12-28,1e-320"), r"row 3: close is 1e-320"),
    "an absurd volume": ((HEADER, "2018-12-27,10,12,9,11,1e300"), r"row 2: volume is 1e\+300; expected at most 1e\+30"),
    "commas within and between": ((HEADER, ROWS[0], "2018-12-28,11,5,13,10,12,200"), r"row 3: 7 cells below a h"),
    "rows all longer than the header": ((HEADER, f"{ROWS[0]},1", f"{ROWS[1]},2"), r"row 2: 7 cells below a h"),
    "yes for a price": (("Date,Close", "2018-12-27,True", "2018-12-28,True"), r"column 'Close' holds booleans, not "),
    "a zero price": ((HEADER, ROWS[0], "2018-12-28,0,13,0,12,200"), r"row 3: open is 0\.0; prices must be positive"),
    "a negative price": ((HEADER, ROWS[0], "2018-12-28,11,13,-10,12,2"), r"row 3: low is -10\.0; prices must be posit"),
    "a zero adjusted close": (
        (f"{HEADER},Adj Close", f"{ROWS[0]},0", f"{ROWS[1]},1"),
        r"row 2: adjusted_close is 0\.0; prices must be positive",
    ),
    "a negative volume": ((HEADER, ROWS[0], "2018-12-28,11,13,10,12,-2"), r"row 3: volume is -2\.0; it cannot be neg"),
    "a high below the close": (
        (HEADER, ROWS[0], "2018-12-28,11,11.5,10,12,200"),
        r"row 3: open and close must lie between low and high \(open 11\.0, high 11\.5, low 10\.0, close 12\.0; 1 such",
    ),
    "a stamp that stands twice": (
        (HEADER, ROWS[0], ROWS[0], ROWS[1]),
        r"rows 2 and 3: stamp 2018-12-27\S* stands twice; stamps must be unique and in order",
    ),
    "many stamps that stand twice": ((HEADER, *(row for row in ROWS for _ in "ab")), r"\(3 rows repeat a stamp\)"),
    "an hour that clocks repeat in autumn": (
        (HEADER, *(f"2018-10-28 0{hour}:00,10,12,9,11,100" for hour in (1, 2, 2, 3))),
        r"rows 3 and 4: stamp 2018-10-28T02:00\S* stands twice; .*; where clocks are set back an hour comes twice: gi",
    ),
    "rows in no order": (
        (HEADER, ROWS[0], ROWS[2], ROWS[1]),
        r"rows 3 and 4: stamp 2018-12-31\S* is followed by 2018-12-28\S*; stamps must be unique and in order",
    ),
    "rows in no order, newest first": ((HEADER, ROWS[2], ROWS[0], ROWS[1]), r"rows . and .: stamp 2018-12-\S* is foll"),
    "unix stamps in two units": (
        (HEADER, *SECONDS, f"1545868900000{SECONDS[0][10:]}"),
        r"row 4, column 'Date': '1545868900000' is no unix stamp in seconds, as most others are; write all stamps in "
        r"one unit, or as dates",
    ),
    "text among unix stamps": ((HEADER, *SECONDS, f"soon{SECONDS[0][10:]}"), r"'soon' is no unix stamp in seconds"),
    "Excel's day numbers": ((HEADER, f"43461{SECONDS[0][10:]}"), r"row 2, column 'Date': '43461' is no date; expected"),
    "days first": ((HEADER, ROWS[0].replace("2018-12-27", "27/12/2018")), r"row 2, column 'Date': '27/12/2018' is no"),
    "a time zone here and none there": (
        (HEADER, "2018-12-27T16:00:00-05:00,10,12,9,11,100", "2018-12-28T16:00:00,11,13,10,12,200"),
        r"row 3, column 'Date': '2018-12-28T16:00:00' has no time zone, and others have one",
    ),
    "no header": ((*ROWS,), r"missing column time .*; the first row looks like data: add a header"),
    "two columns of one name": (("Date,close,Close", "2018-12-27,1,2"), r"columns 'close' and 'Close' cannot be dist"),
    "a page instead of a file": (("<!DOCTYPE html>", "<html>", "</html>"), r"this is a web page, no table; the down"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_file_row_and_reason(kind, write, load):
    lines, message = REFUSED[kind]
    path = write("prices.csv", *lines)
    with pytest.raises(MarketError, match=message) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "np." not in str(error.value)


def test_rows_of_a_long_file_are_counted_in_the_file(write, load):
    rows = [f"{row},{symbol}" for row in ROWS for symbol in ("A", "B")]
    rows[3] = rows[3].replace("11.5", "ten")
    with pytest.raises(MarketError, match=r"long\.csv \(B\): row 5, column 'Open': 'ten' is no number"):
        load(write("long.csv", f"{HEADER},symbol", *rows))


def test_a_table_in_memory_reads_as_a_file_does():
    table = pd.DataFrame({"Date": ["2018-12-27", "2018-12-28"], "Close": [1.0, 1.1]}, index=[7, 8])
    bars = to_bars(table, "x", "the table", Reading())
    assert bars.instrument.close.tolist() == [1.0, 1.1]
    with pytest.raises(MarketError, match=r"^the table: row 8: close is -1\.1"):
        to_bars(table.assign(Close=[1.0, -1.1]), "x", "the table", Reading())


def test_the_config_of_a_file_survives_composition():
    market = compose(["env=csv", "env.path=x.csv", "env.market.columns.close=last"])["env"]["market"]
    assert (market["path"], market["columns"]["close"]) == ("x.csv", "last")
