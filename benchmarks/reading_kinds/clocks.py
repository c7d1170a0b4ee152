"""Years of two digits, zones by name, times of day, months."""

from __future__ import annotations

import datetime

from reading_kinds.base import CLOSES, HEADER, HOURS, PRICES, ROWS, dated, kind

OLD = "1950-12-29 10.5 12 9 11 100\n1951-01-03 11 13 10 12.5 200\n1951-01-04 12 14 11 13 300"
for layout in ("%m/%d/%y", "%d-%b-%y", "%y%m%d"):
    days = dated(layout, ("1950-12-29", "1951-01-03", "1951-01-04"))
    kind(f"years before 1969 as {layout}", HEADER, *days, bars=OLD, outcome="refused")
    kind(f"years before 1969 as {layout}, newest first", HEADER, *days[::-1], bars=OLD, outcome="refused")
kind(
    "years of two digits from 1966 to 1971",
    "Date,Close",
    *(f"15-Jun-{year},{year}" for year in range(66, 72)),
    bars="\n".join(f"19{year}-06-15 {year} {year} {year} {year} 0" for year in range(66, 72)),
    outcome="refused",
)
SUMMER = "2018-03-09T14:30 10.5 12 9 11 100\n2018-03-12T13:30 11 13 10 12.5 200"
for name, stamps in (
    ("US/Eastern in summer and winter", ("20180309 09:30:00 US/Eastern", "20180312 09:30:00 US/Eastern")),
    ("America/New_York without seconds", ("2018-03-09 09:30 America/New_York", "2018-03-12 09:30 America/New_York")),
    ("EST and EDT", ("03/09/2018 09:30 EST", "03/12/2018 09:30 EDT")),
    ("Eastern Time", ("2018-03-09 09:30 ET", "2018-03-12 09:30 ET")),
    ("EST and EDT, am and pm", ("2018-03-09 09:30 AM EST", "2018-03-12 09:30 AM EDT")),
    ("Dukascopy's offsets", ("09.03.2018 15:30:00.000 GMT+0100", "12.03.2018 15:30:00.000 GMT+0200")),
):
    kind(name, HEADER, f"{stamps[0]},{PRICES[0]}", f"{stamps[1]},{PRICES[1]}", bars=SUMMER, outcome="refused")
kind(
    "days of the European order with offsets",
    HEADER,
    f"27/12/2018 10:00:00 +01:00,{PRICES[0]}",
    f"28/12/2018 10:00:00 +01:00,{PRICES[1]}",
    bars="2018-12-27T09:00 10.5 12 9 11 100\n2018-12-28T09:00 11 13 10 12.5 200",
    outcome="refused",
)
NEW_YORK = "\n".join((HEADER, f"2018-12-27T09:30:00-05:00,{PRICES[0]}", f"2018-12-28T09:30:00-05:00,{PRICES[1]}"))
PLAIN = "\n".join((HEADER, f"2018-12-27 14:30,{PRICES[0]}", f"2018-12-28 14:30,{PRICES[1]}"))
IN_UTC = "2018-12-27T14:30 10.5 12 9 11 100\n2018-12-28T14:30 11 13 10 12.5 200"
kind(
    "one file with offsets and one without",
    files={"a.csv": NEW_YORK, "b.csv": PLAIN},
    bars={"a": IN_UTC, "b": IN_UTC},
    outcome="refused",
)
kind(
    "months with offsets and without",
    files={"x-2018-12.csv": NEW_YORK, "x-2019-01.csv": PLAIN.replace("2018-12", "2019-01")},
    bars={"x": IN_UTC + "\n" + IN_UTC.replace("2018-12", "2019-01")},
    outcome="refused",
    settings=("env.market.symbol=x",),
)
kind(
    "a zone that the user names",
    files={"x.csv": PLAIN.replace("14:30", "09:30")},
    bars=IN_UTC,
    settings=("env.market.time_zone=America/New_York",),
)
kind(
    "am and pm in a column of their own",
    "Date,Time,Open,High,Low,Close,Volume",
    *(f"2018-12-27,{clock},{row}" for clock, row in zip(("11:30 AM", "12:30 PM", "1:30 p.m."), PRICES, strict=True)),
    bars=HOURS.replace("T09:00", "T11:30").replace("T10:00", "T12:30").replace("T11:00", "T13:30"),
)
kind(
    "am and pm in a column of their own, days of the American order",
    "Date,Time,Open,High,Low,Close,Volume",
    *(f"12/27/2018,{hour}:00:00 AM,{row}" for hour, row in zip((9, 10, 11), PRICES, strict=True)),
    bars=HOURS,
    outcome="refused",
)
kind(
    "days that stand once above their hours",
    "Date,Time,Open,High,Low,Close,Volume",
    *(f"{day},{hour}:00,{row}" for day, hour, row in zip(("2018-12-27", "", ""), ("09", 10, 11), PRICES, strict=True)),
    bars=HOURS,
    outcome="repaired",
)
kind(
    "an hour in a column of its own",
    "Date,Hour,Open,High,Low,Close,Volume",
    *(f"2018-12-27,{hour},{row}" for hour, row in zip((9, 10, 11), PRICES, strict=True)),
    bars=HOURS,
    outcome="repaired",
)
kind(
    "year, month and day in columns",
    "Year,Month,Day,Open,High,Low,Close,Volume",
    *(row.replace("-", ",", 2) for row in ROWS),
)
kind(
    "year to minute in columns",
    "year,month,day,hour,minute,open,high,low,close,volume",
    *(f"2018,12,27,{hour},0,{row}" for hour, row in zip((9, 10, 11), PRICES, strict=True)),
    bars=HOURS,
)
QUARTERS = "\n".join(
    f"1990-{month:02d}-01 {close} {close} {close} {close} 0" for month, close in ((1, 11), (4, 12), (7, 13), (10, 14))
)
for name, texts in (
    ("1990Q1", ("1990Q1", "1990Q2", "1990Q3", "1990Q4")),
    ("1990-Q1", ("1990-Q1", "1990-Q2", "1990-Q3", "1990-Q4")),
    ("Q1 1990", ("Q1 1990", "Q2 1990", "Q3 1990", "Q4 1990")),
    ("1990.01, and 1990.1 for October", ("1990.01", "1990.04", "1990.07", "1990.1")),
    ("1990.1 to 1990.10", ("1990.1", "1990.4", "1990.7", "1990.10")),
    ("1990M01", ("1990M01", "1990M04", "1990M07", "1990M10")),
):
    lines = [f"{text},{close}" for text, close in zip(texts, (11, 12, 13, 14), strict=True)]
    kind(f"quarters as {name}", "Date,Close", *lines, bars=QUARTERS)
for layout, outcome in (("%Y%m", "refused"), ("%Y-%m", "read"), ("%b %Y", "refused"), ("%b-%y", "refused")):
    lines = [f"{datetime.date(1990, month, 1):{layout}},{month + 10}" for month in (1, 2, 3)]
    bars = "\n".join(f"1990-0{month}-01 {month + 10} {month + 10} {month + 10} {month + 10} 0" for month in (1, 2, 3))
    kind(f"months as {layout}", "Month,Close", *lines, bars=bars, outcome=outcome)
kind(
    "weeks",
    "Week,Close",
    "2018-W51,11",
    "2018-W52,12.5",
    "2019-W01,13",
    bars=CLOSES.replace("12-27", "12-17").replace("12-28", "12-24"),
)

kind(
    "24:00",
    HEADER,
    *(f"2018-12-27 {hour}:00,{row}" for hour, row in zip((22, 23, 24), PRICES, strict=True)),
    bars=HOURS.replace("T09", "T22").replace("T10", "T23").replace("2018-12-27T11", "2018-12-28T00"),
)
kind(
    "days of a spreadsheet with times",
    HEADER,
    *(f"{day}.375,{row}" for day, row in zip((43461, 43462, 43465), PRICES, strict=True)),
    bars="2018-12-27T09:00 10.5 12 9 11 100\n2018-12-28T09:00 11 13 10 12.5 200\n2018-12-31T09:00 12 14 11 13 300",
    outcome="refused",
)
kind(
    "a European day and a time of digits",
    "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
    *(f"27/12/18,{hour}0000,{row}" for hour, row in zip(("09", "10", "11"), PRICES, strict=True)),
    bars=HOURS,
    outcome="refused",
)
kind(
    "days and hours without zeros in front",
    HEADER,
    *(f"2018/1/{day} 9:05,{row}" for day, row in zip((9, 10, 11), PRICES, strict=True)),
    bars="2018-01-09T09:05 10.5 12 9 11 100\n2018-01-10T09:05 11 13 10 12.5 200\n2018-01-11T09:05 12 14 11 13 300",
)
kind(
    "an hour that comes twice, in a zone that the user names",
    "time,close",
    *(f"2018-10-28 {clock},{at}" for at, clock in enumerate(("01:00", "02:00", "02:00", "03:00"), 11)),
    bars="\n".join(
        f"2018-10-{stamp}:00 {at} {at} {at} {at} 0" for at, stamp in enumerate(("27T23", "28T00", "28T01", "28T02"), 11)
    ),
    settings=("env.market.time_zone=Europe/Berlin",),
)
kind(
    "days that stand once, and times that go past midnight",
    "Date,Time,Close",
    *("2018-12-27,23:00,11", ",00:00,12", ",01:00,13"),
    bars={},
    outcome="refused",
    remedy="no day, and its time '00:00' is not later than that of the row above; write the day in each row",
)
kind(
    "an hour and a minute in columns",
    "Date,Hour,Minute,Open,High,Low,Close,Volume",
    *(f"2018-12-27,{hour},0,{row}" for hour, row in zip((9, 10, 11), PRICES, strict=True)),
    bars=HOURS,
)
