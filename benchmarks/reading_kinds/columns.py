"""Columns."""

from __future__ import annotations

from reading_kinds.base import CLOSES, HEADER, HOURS, NO_VOLUME, PRICES, ROWS, STANDARD, UNIX, kind

kind("no header", *ROWS, outcome="refused")
kind(
    "no header, and cells that are equal",
    *(row.replace(",12,9,11", ",12,10.5,12") for row in ROWS[:1]),
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "10.5 12 10.5 12"),
    outcome="refused",
)
kind(
    "no header, day and time",
    *(f"20181227;{hour}:00;{row}".replace(",", ";") for hour, row in zip(("09", "10", "11"), PRICES, strict=True)),
    bars=HOURS,
    outcome="refused",
)
kind(
    "klines without a header",
    *(f"{stamp - 3600},{row},{stamp},1,2,3,4,0" for stamp, row in zip(UNIX, PRICES, strict=True)),
    outcome="refused",
)
kind(
    "headings in Chinese",
    "日期,开盘,收盘,最高,最低,成交量",
    "2018-12-27,10.5,11,12,9,100",
    "2018-12-28,11,12.5,13,10,200",
    "2018-12-31,12,13,14,11,300",
)
kind(
    "headings with accents and brackets", "Zeit [UTC],Eröffnung,Höchst,Tiefst,Schluß=,Menge^2", *ROWS, outcome="refused"
)
kind(
    "an unknown heading of the close",
    "Date,Quote",
    "2018-12-27,11",
    "2018-12-28,12.5",
    "2018-12-31,13",
    bars=CLOSES,
    outcome="refused",
)
kind(
    "no low",
    "Date,Open,High,Close",
    "2018-12-27,10.5,12,11",
    "2018-12-28,11,13,12.5",
    "2018-12-31,12,14,13",
    bars=CLOSES,
    outcome="refused",
)
kind("two closes", f"{HEADER},Close", *(f"{row},1" for row in ROWS), outcome="refused")
kind(
    "symbols under an unknown heading",
    f"Stock,{HEADER}",
    *(f"{name},{row}" for row in ROWS for name in ("A", "B")),
    bars={"A": STANDARD, "B": STANDARD},
    outcome="refused",
)
kind(
    "instruments side by side",
    "date,A:open,A:high,A:low,A:close,B:open,B:high,B:low,B:close",
    *(f"{row.rpartition(',')[0]},1,2,1,2" for row in ROWS),
    bars={"A": NO_VOLUME},
    outcome="refused",
)
kind(
    "a row without a symbol",
    f"{HEADER},symbol",
    *(f"{row},A" for row in ROWS),
    "2019-01-02,1,1,1,1,1,",
    bars={"A": STANDARD},
    outcome="refused",
)
kind(
    "an index of pandas before a German date",
    ",Datum,Open,High,Low,Close,Volume",
    *(f"{at},{row}" for at, row in enumerate(ROWS)),
)
kind(
    "an index of pandas before a day",
    ",Day,Close",
    "0,2018-12-27,11",
    "1,2018-12-28,12.5",
    "2,2018-12-31,13",
    bars=CLOSES,
)
kind(
    "an index of pandas before an unknown heading",
    ",Handelstag,Open,High,Low,Close,Volume",
    *(f"{at},{row}" for at, row in enumerate(ROWS)),
    outcome="refused",
)

# Other separators, headers of two rows, units

for mark in "~^":
    kind(f"separated by {mark}", *(line.replace(",", mark) for line in (HEADER, *ROWS)))
kind("leading spaces", *(f"   {line}" for line in (HEADER, *ROWS)))
kind("units in headings", "Date,Open (USD),High (USD),Low (USD),Close (USD),Volume (shares)", *ROWS)
kind("units below headings", HEADER, "[date],[USD],[USD],[USD],[USD],[shares]", *ROWS, outcome="refused")
kind("a heading that pandas numbered", "Date,Open,High,Low,Close,Volume,Close.1", *(f"{row},99" for row in ROWS))
kind(
    "a day and a stamp",
    "Date,Date_Time,Close",
    *(f"2018-12-27,{row[:10]},{c}" for row, c in zip(ROWS, (11, 12.5, 13), strict=True)),
    bars=CLOSES,
)
kind(
    "a year and a stamp",
    "trade_ts,year,close",
    *(f"{row[:10]},2018,{c}" for row, c in zip(ROWS, (11, 12.5, 13), strict=True)),
    bars=CLOSES,
    outcome="refused",
)
TWO = "2018-12-27 2 2 2 2 0\n2018-12-28 3 3 3 3 0"
for name, lines in (
    ("tickers above prices", (",A,B", "Date,Close,Close")),
    ("prices above tickers, as old yfinance", (",Close,Close", ",A,B", "Date,,")),
):
    bars = {"A": CLOSES.rpartition("2018-12-31")[0], "B": TWO}
    kind(name, *lines, "2018-12-27,11,2", "2018-12-28,12.5,3", bars=bars)
kind(
    "prices in two currencies",
    "Date,Close (USD),Close (EUR)",
    *(f"{row[:10]},{close},{close / 2}" for row, close in zip(ROWS, (11, 12.5, 13), strict=True)),
    bars=CLOSES,
    outcome="refused",
)
kind(
    "units in Chinese headings",
    "日期,收盘价(元),开盘价(元),最高价(元),最低价(元),成交量(手)",
    "2018-12-27,11,10.5,12,9,100",
    "2018-12-28,12.5,11,13,10,200",
    "2018-12-31,13,12,14,11,300",
)
kind(
    "a high of the year next to a close",
    "Date,Close,High (52w),Low (52w)",
    *(f"{row[:10]},{close},99,1" for row, close in zip(ROWS, (11, 12.5, 13), strict=True)),
    bars=CLOSES,
)
