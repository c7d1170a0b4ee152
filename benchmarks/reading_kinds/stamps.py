"""Stamps."""

from __future__ import annotations

from reading_kinds.base import HEADER, HOURS, PRICES, ROWS, UNIX, dated, kind

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
for layout in ("%d%m%Y", "%m%d%Y", "%Y:%m:%d", "%Y_%m_%d"):
    kind(f"dates as {layout}", HEADER, *dated(layout), outcome="refused")
kind(
    "unquoted dates with a comma",
    HEADER,
    *dated("%b %d, %Y"),
    bars={},
    outcome="refused",
    remedy="quote cells that hold what separates them",
)
kind("a zone in the heading", "Timestamp (UTC),Open,High,Low,Close,Volume", *ROWS)
