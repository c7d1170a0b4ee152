"""Stamps."""

from __future__ import annotations

import datetime

from reading_kinds.base import CLOSES, HEADER, HOURS, PRICES, ROWS, UNIX, dated, kind

for unit, zeros in (("seconds", ""), ("milliseconds", "000"), ("microseconds", "000000"), ("nanoseconds", "000000000")):
    kind(f"unix stamps in {unit}", HEADER, *(f"{stamp}{zeros},{row}" for stamp, row in zip(UNIX, PRICES, strict=True)))
kind("days without separators", HEADER, *(row.replace("-", "") for row in ROWS))
kind("stamps in UTC", HEADER, *(row.replace(",", "T00:00:00.000Z,", 1) for row in ROWS))
kind(
    "offsets of summer and winter",
    HEADER,
    "2018-03-09T16:00:00-05:00,10.5,12,9,11,100",
    "2018-03-12T16:00:00-04:00,11,13,10,12.5,200",
    bars="2018-03-09T21:00 10.5 12 9 11 100\n2018-03-12T20:00 11 13 10 12.5 200",
)
kind(
    "Interactive Brokers",
    "time,open,high,low,close,volume",
    *(f"20181227  {hour}:00:00,{row}" for hour, row in zip(("09", "10", "11"), PRICES, strict=True)),
    bars=HOURS,
)
kind(
    "day and time of digits",
    "Date,Time,Open,High,Low,Close,Volume",
    *(f"20181227,{hour}00,{row}" for hour, row in zip(("9", "10", "11"), PRICES, strict=True)),
    bars=HOURS,
)
kind(
    "times at open and close",
    "Open time,Open,High,Low,Close,Volume,Close time",
    *(f"{stamp - 3600},{row},{stamp}" for stamp, row in zip(UNIX, PRICES, strict=True)),
)
for layout in (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%b-%Y",
    "%b %d %Y",
    "%m/%d/%y",
    "%d.%m.%Y %H:%M:%S.%f",
    "%Y年%m月%d日",
):
    kind(f"dates as {layout}", HEADER, *dated(layout), outcome="refused")
kind(
    "dates whose day and month can change places",
    HEADER,
    *dated("%m/%d/%Y", ("2018-01-02", "2018-02-03", "2018-03-04")),
    bars="2018-01-02 10.5 12 9 11 100\n2018-02-03 11 13 10 12.5 200\n2018-03-04 12 14 11 13 300",
    outcome="refused",
)
kind(
    "a named time zone",
    HEADER,
    "20181227 09:30:00 US/Eastern,10.5,12,9,11,100",
    "20181228 09:30:00 US/Eastern,11,13,10,12.5,200",
    bars="2018-12-27T14:30 10.5 12 9 11 100\n2018-12-28T14:30 11 13 10 12.5 200",
    outcome="refused",
)
kind(
    "days of a spreadsheet",
    HEADER,
    *(f"{day},{row}" for day, row in zip((43461, 43462, 43465), PRICES, strict=True)),
    outcome="refused",
)
kind(
    ".NET ticks",
    HEADER,
    *(
        f"{ticks},{row}"
        for ticks, row in zip((636814656000000000, 636815520000000000, 636818112000000000), PRICES, strict=True)
    ),
    outcome="refused",
)
kind(
    "stamps that a spreadsheet rounded",
    HEADER,
    *(f"1.54587E+12,{row}" for row in PRICES),
    bars={},
    outcome="refused",
    remedy="format the column as a plain number",
)
kind(
    "minutes without hours",
    "Date,Time,Close",
    "20181227,0,11",
    "20181227,45,12.5",
    bars="2018-12-27T00:00 11 11 11 11 0\n2018-12-27T00:45 12.5 12.5 12.5 12.5 0",
    outcome="refused",
)
kind(
    "a stamp without the offset of the others",
    HEADER,
    *(f"{at + 1}".join(("2018-12-", "T00:00Z,")) + f"{at},{at},{at},{at},1" for at in range(10, 20)),
    "2018-12-21T00:00,20,20,20,20,1",
    bars="\n".join(f"2018-12-{at + 1} {at} {at} {at} {at} 1" for at in range(10, 20)),
    outcome="refused",
)

# Years of two digits, zones by name, times of day, months

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
    rows = [f"{text},{close}" for text, close in zip(texts, (11, 12, 13, 14), strict=True)]
    kind(f"quarters as {name}", "Date,Close", *rows, bars=QUARTERS)
for layout, outcome in (("%Y%m", "refused"), ("%Y-%m", "read"), ("%b %Y", "refused"), ("%b-%y", "refused")):
    rows = [f"{datetime.date(1990, month, 1):{layout}},{month + 10}" for month in (1, 2, 3)]
    bars = "\n".join(f"1990-0{month}-01 {month + 10} {month + 10} {month + 10} {month + 10} 0" for month in (1, 2, 3))
    kind(f"months as {layout}", "Month,Close", *rows, bars=bars, outcome=outcome)
kind(
    "weeks",
    "Week,Close",
    "2018-W51,11",
    "2018-W52,12.5",
    "2019-W01,13",
    bars=CLOSES.replace("12-27", "12-17").replace("12-28", "12-24"),
)
