"""Stamps of price files: times of day, time zones, days that must not move, unix stamps and slips of the pen."""

import numpy as np
import pandas as pd
import pytest
from price_files import HEADER, ROWS

from moe_trader.env import MarketError
from moe_trader.env.reading.date_formats import fitting_formats
from moe_trader.option import ConfigError

BAR = "10,12,9,11"


def stamps(market, length=16):
    return [str(stamp)[:length] for stamp in market.instruments[0].time]


# A day and a time of day


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["0930", "0931"], ["2018-12-27T09:30", "2018-12-27T09:31"]),
        (["0", "100", "2300"], ["2018-12-27T00:00", "2018-12-27T01:00", "2018-12-27T23:00"]),
        (["930", "1015"], ["2018-12-27T09:30", "2018-12-27T10:15"]),
        (["0", "1", "23"], ["2018-12-27T00:00", "2018-12-27T01:00", "2018-12-27T23:00"]),
        (["09", "10"], ["2018-12-27T09:00", "2018-12-27T10:00"]),
        (["93000", "101500"], ["2018-12-27T09:30", "2018-12-27T10:15"]),
        (["000000", "000100"], ["2018-12-27T00:00", "2018-12-27T00:01"]),
        (["0.0", "100.0"], ["2018-12-27T00:00", "2018-12-27T01:00"]),
        (["9:30", "10:00"], ["2018-12-27T09:30", "2018-12-27T10:00"]),
        (["09:30", "09:31"], ["2018-12-27T09:30", "2018-12-27T09:31"]),
    ],
)
def test_times_without_colons_are_as_long_as_the_longest(times, expected, write, load):
    for day in ("2018-12-27", "20181227", "2018.12.27"):
        path = write("prices.csv", "Date,Time,Open,High,Low,Close", *(f"{day},{time},{BAR}" for time in times))
        assert stamps(load(path)) == expected


def test_times_of_a_parquet_file_may_be_whole_numbers(load, tmp_path):
    table = pd.DataFrame({"Date": [20181227, 20181227], "Time": [930, 1000], "Close": [11.0, 12.0]})
    table.to_parquet(tmp_path / "prices.parquet")
    assert stamps(load(tmp_path / "prices.parquet", env="parquet")) == ["2018-12-27T09:30", "2018-12-27T10:00"]


@pytest.mark.parametrize(
    ("times", "shown", "width"),
    [(["0", "45"], "45", "HH"), (["0", "5900"], "5900", "HHMM"), (["1", "960"], "960", "HHMM")],
)
def test_digits_that_are_no_time_are_refused(times, shown, width, write, load):
    path = write("prices.csv", "Date,Time,Open,High,Low,Close", *(f"2018-12-27,{time},{BAR}" for time in times))
    with pytest.raises(
        MarketError, match=rf"row 3, column 'Time': '{shown}' is no time of day as {width}, .*; write 09:30, or all six"
    ):
        load(path)


@pytest.mark.parametrize("times", [range(20), ["09", "10", "11"]])
def test_hours_without_minutes_are_told_once(times, write, load, warnings):
    rows = [f"20200102,{time},{BAR}" for time in times]
    path = write("prices.csv", "Date,Time,Open,High,Low,Close", *rows)
    assert stamps(load(path))[1] == f"2020-01-02T{int(times[1]):02}:00"
    told = "prices.csv: column 'Time' is read as hours; write times such as 00:05, or set env.market.date_format ('%Y"
    assert warnings().count(told) == 1
    assert stamps(load(path, "env.market.date_format='%Y%m%d %M'"))[1] == f"2020-01-02T00:{int(times[1]):02}"
    assert warnings().count(told) == 1, "a format says what they are"


def test_minutes_beyond_any_hour_are_read_with_a_format(write, load):
    path = write("prices.csv", "Date,Time,Open,High,Low,Close", f"20200102,0,{BAR}", f"20200102,45,{BAR}")
    assert stamps(load(path, "env.market.date_format='%Y%m%d %M'")) == ["2020-01-02T00:00", "2020-01-02T00:45"]


def test_a_format_speaks_of_day_and_time_with_a_space_between(write, load):
    lines = ("Date,Time,Open,High,Low,Close", f"27/12/2018,09:30,{BAR}", f"02/01/2019,09:31,{BAR}")
    path = write("prices.csv", *lines)
    expected = ["2018-12-27T09:30", "2019-01-02T09:31"]
    assert stamps(load(path, "env.market.date_format='%d/%m/%Y %H:%M'")) == expected
    with pytest.raises(MarketError, match=r"'27/12/2018 09:30' is no date; expected the format '%d/%m/%Y'; set"):
        load(path, "env.market.date_format='%d/%m/%Y'")
    with pytest.raises(MarketError, match=r"expected ISO 8601 .*; set 'env\.market\.date_format=\"%d/%m/%Y %H:%M\"'"):
        load(path)
    bare = write("bare.csv", *(line.replace(":", "") for line in lines))
    assert stamps(load(bare, "env.market.date_format='%d/%m/%Y %H%M'")) == expected


def test_digits_without_any_separator(write, load):
    rows = [f"{stamp},{BAR}" for stamp in ("201812270930", "201812271000")]
    assert stamps(load(write("prices.csv", "time,open,high,low,close", *rows))) == [
        "2018-12-27T09:30",
        "2018-12-27T10:00",
    ]

    slip = write("slip.csv", "time,open,high,low,close", *rows, f"201812271060,{BAR}")
    with pytest.raises(MarketError, match=r"row 4, column 'time': '201812271060' is no date; expected the format"):
        load(slip)


@pytest.mark.parametrize("between", ["  ", "-", " "])
def test_stamps_of_interactive_brokers(between, write, load):
    rows = [f"20200102{between}{clock},{BAR}" for clock in ("09:30:00", "09:31:00")]
    path = write("prices.csv", "time,open,high,low,close", *rows)
    assert stamps(load(path)) == ["2020-01-02T09:30", "2020-01-02T09:31"]


def test_stamps_that_merely_resemble_them_are_refused(write, load):
    rows = [f"20200102  09:30:00,{BAR}", f"20200102 - 09:31,{BAR}"]
    with pytest.raises(
        MarketError, match=r"row 3, column 'time': '20200102 - 09:31' is no date; expected ISO 8601 .*date_format"
    ):
        load(write("prices.csv", "time,open,high,low,close", *rows))
    row = f"20200102 09:30:00 US/Eastern,{BAR}"
    with pytest.raises(MarketError, match=r"'20200102 09:30:00 US/Eastern' is no date; expected .*\.market\.date_fo"):
        load(write("prices.csv", "time,open,high,low,close", row))


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (["27/12/2018", "28/12/2018", "02/01/2019"], ["%d/%m/%Y"]),
        (["12/27/2018", "12/28/2018", "01/02/2019"], ["%m/%d/%Y"]),
        (["02/01/2019", "03/01/2019", "04/01/2019"], ["%m/%d/%Y", "%d/%m/%Y"]),
        (["02/01/2019", "03/01/2019", "01/02/2019"], ["%d/%m/%Y"]),  # the other leaves them out of order
        (["01/02/03", "02/02/03", "03/02/03"], ["%m/%d/%y", "%d/%m/%y", "%y/%m/%d"]),
        (["01.05.2017 00:00:00.000", "31.05.2017 01:00:00.000"], ["%d.%m.%Y %H:%M:%S.%f"]),
        (["27/12/2018", "soon"], []),
        (["2018-W52-4", "2018-W52-5"], []),
        ([], []),
    ],
)
def test_formats_that_read_every_stamp_are_found(stamps, expected):
    assert fitting_formats(pd.Series(stamps, dtype=str)) == expected


def test_both_formats_are_named_where_day_and_month_can_change_places(write, load):
    path = write("prices.csv", HEADER, *(f"0{day}/01/2019,{BAR},1" for day in (2, 3, 4)))
    with pytest.raises(
        MarketError,
        match=r"'02/01/2019' is no date; expected .*; day and month can change places here; set "
        r"env\.market\.date_format=%m/%d/%Y to read 02/01/2019 as 2019-02-01, or "
        r"env\.market\.date_format=%d/%m/%Y to read 02/01/2019 as 2019-01-02$",
    ):
        load(path)


# Time zones


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "UTC"])
def test_whole_days_stay_the_days_they_are_where_they_are_traded(zone, write, load, tmp_path):
    index = pd.date_range("2018-03-08", periods=5, tz=zone, name="Date")
    table = pd.DataFrame({"Close": np.linspace(10, 11, 5)}, index=index)
    table.to_parquet(tmp_path / "prices.parquet")
    table.to_csv(tmp_path / "prices.csv")
    expected = [f"2018-03-{day:02}T00:00" for day in range(8, 13)]
    assert stamps(load(tmp_path / "prices.parquet", env="parquet")) == expected
    assert stamps(load(tmp_path / "prices.csv")) == expected
    later = table.set_axis(index + pd.Timedelta(hours=16))
    later.to_parquet(tmp_path / "later.parquet")
    utc = [str(stamp)[:16] for stamp in later.index.tz_convert("UTC").tz_localize(None).to_numpy()]
    assert stamps(load(tmp_path / "later.parquet", env="parquet")) == utc


def test_files_with_and_without_a_zone_are_no_one_market(write, load, tmp_path):
    plain = write("plain.csv", HEADER, *(row.replace(",", " 16:00,", 1) for row in ROWS))
    aware = write("aware.csv", HEADER, *(row.replace(",", "T16:00-05:00,", 1) for row in ROWS))
    dates = write("dates.csv", HEADER, *ROWS)
    for other in (plain, dates):
        with pytest.raises(
            MarketError,
            match=r"^env\.path: the stamps of aware are in UTC .*, those of \w+ name no time zone; set env\.market\.t",
        ):
            load(f"[{aware},{other}]")
    one, two = load(f"[{aware},{plain}]", "env.market.time_zone=America/New_York").instruments
    assert (one.time == two.time).all()
    one, two = load(f"[{aware},{dates}]", "env.market.time_zone=America/New_York").instruments
    assert str(two.time[0]) == "2018-12-27T00:00:00.000000", "days are days"
    zulu = write("zulu.csv", HEADER, *(row.replace(",", " UTC,", 1) for row in ROWS))
    assert len(load(f"[{zulu},{dates}]").instruments) == 2
    days = write("days.csv", HEADER, *(row.replace(",", "T00:00+05:30,", 1) for row in ROWS))
    assert len(load(f"[{days},{dates}]").instruments) == 2, "days are days"


# Unix stamps


def test_unix_stamps_before_1973_are_known_by_their_neighbours(write, load):
    days = pd.bdate_range("1965-01-04", "1980-01-04")
    for unit in ("s", "ms", "us"):
        numbers = days.as_unit(unit).asi8
        path = write("prices.csv", "time,close", *(f"{number},10" for number in numbers))
        assert stamps(load(path), 10) == [str(day)[:10] for day in days]


def test_unix_stamps_whose_unit_changes_along_the_file(write, load, warnings):
    hours = pd.date_range("2024-12-31T22:00", periods=5, freq="h")
    numbers = [*hours[:2].as_unit("ms").asi8, *hours[2:].as_unit("us").asi8]
    for rows in (numbers, numbers[::-1]):
        path = write("prices.csv", "time,close", *(f"{number},10" for number in rows))
        assert stamps(load(path)) == [str(hour)[:16].replace(" ", "T") for hour in hours]
        assert "column 'time': the unit of its unix stamps changes" in warnings()


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([1545868800, 1545955200000, 1545955300000, 1545868900000], "'1545868800'"),
        ([-1e15, 1545868800, 1545955200], "'-1000000000000000.0'"),
        ([5, 1545868800, 1545955200], "'5'"),
    ],
)
def test_a_stranger_among_unix_stamps_is_refused(numbers, shown, write, load):
    with pytest.raises(
        MarketError, match=rf"row 2, column 'time': {shown} is no unix stamp in \w+, as most others are"
    ):
        load(write("prices.csv", "time,close", *(f"{number},10" for number in numbers)))


def test_of_two_unix_stamps_the_one_at_the_close_is_taken(write, load):
    header = "Open time,Open,High,Low,Close,Volume,Close time"
    rows = ("1545868800000,10,12,9,11,1,1545872399999", "1545872400000,10,12,9,11,1,1545875999999")
    assert stamps(load(write("prices.csv", header, *rows)), 19) == ["2018-12-27T00:59:59", "2018-12-27T01:59:59"]


@pytest.mark.parametrize("stamp", ["1.57792E+12", "1.58E+09", "1.57792e+18", "2.02E+07"])
def test_stamps_that_a_spreadsheet_rounded_are_refused(stamp, write, load):
    with pytest.raises(
        MarketError,
        match=r"row 2, column 'time': '1?2?\.\S+' is rounded, and no stamp \(2 such rows\); format the "
        r"column as a plain number without decimals before saving it as csv$",
    ):
        load(write("prices.csv", "time,close", f"{stamp},10", f"{stamp},11"))


def test_stamps_in_e_notation_with_all_their_digits_are_read(write, load):
    days = pd.bdate_range("2018-12-27", periods=3)
    rows = [f"{float(number)},10" for number in days.as_unit("ns").asi8]
    assert "e+18" in rows[0]
    assert stamps(load(write("prices.csv", "time,close", *rows)), 10) == [str(day)[:10] for day in days]


def test_a_time_zone_whose_clocks_are_set_back(write, load):
    # On 2018-10-28 in Berlin 02:00 to 03:00 came twice: from 00:00 and from 01:00 UTC.
    rows = [
        f"2018-10-28 {clock},10,12,9,11,{at}" for at, clock in enumerate(("01:30", "02:00", "02:30", "02:00", "02:30"))
    ]
    one = load(write("x.csv", HEADER, *rows), "env.market.time_zone=Europe/Berlin").instruments[0]
    assert [str(stamp)[5:16] for stamp in one.time] == [
        *("10-27T23:30", "10-28T00:00", "10-28T00:30", "10-28T01:00", "10-28T01:30"),
    ]
    with pytest.raises(
        MarketError, match=r"row 3, .*'2018-10-28 02:00' stands for no moment or for two in Europe/Berlin"
    ):
        load(write("y.csv", HEADER, *rows[:3]), "env.market.time_zone=Europe/Berlin")
    with pytest.raises(
        MarketError, match=r"row 2, .*'2018-03-25 02:30' stands for no moment or for two in Europe/Berlin"
    ):
        load(write("z.csv", HEADER, "2018-03-25 02:30,10,12,9,11,1"), "env.market.time_zone=Europe/Berlin")
    with pytest.raises(
        ConfigError, match=r"time_zone: 'Middle/Earth' is unknown; give IANA's name, as America/New_York"
    ):
        load(write("u.csv", HEADER, *ROWS), "env.market.time_zone=Middle/Earth")


# Slips


@pytest.mark.parametrize("slip", ["2218-01-01", "9999-12-31"])
def test_a_stamp_in_the_future_is_told(slip, write, load, warnings):
    load(write("prices.csv", HEADER, *ROWS, f"{slip},{BAR},1"))
    assert f"prices.csv: 1 stamps lie in the future (first: row 5, {slip}T00:00" in warnings()


def test_clocks_that_are_set_back_are_told_from_rows_in_no_order(write, load):
    back = (f"2018-10-28 {clock},10,12,9,11,1" for clock in ("01:30", "02:59", "02:00"))
    with pytest.raises(
        MarketError, match=r"rows 3 and 4: .* is followed by .*; where clocks are set back an hour comes twi"
    ):
        load(write("prices.csv", HEADER, *back))
    twice = (f"2018-10-28T0{hour}:00Z,10,12,9,11,1" for hour in (1, 2, 2))
    with pytest.raises(MarketError, match=r"stamps must be unique and in order; set env\.market\.bad_rows=drop to l"):
        load(write("prices.csv", HEADER, *twice))
