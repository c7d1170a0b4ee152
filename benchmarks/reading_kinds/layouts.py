"""Read as they are: separators, headers and lines above them."""

from __future__ import annotations

from reading_kinds.base import CLOSES, HEADER, HOURS, PRICES, ROWS, STANDARD, UNIX, kind

kind("plain", HEADER, *ROWS)
for separator, called in (
    (";", "semicolons"),
    ("\t", "tabs"),
    ("|", "bars"),
    (" ", "spaces"),
    ("   ", "runs of spaces"),
):
    kind(f"separated by {called}", *(line.replace(",", separator) for line in (HEADER, *ROWS)))
kind("Excel's sep= line", "sep=;", *(line.replace(",", ";") for line in (HEADER, *ROWS)))
kind("a preamble without separators", "Prices of X", "", HEADER, *ROWS)
kind("a preamble with separators", "Timestamps are in UTC,example.com", HEADER, *ROWS)
kind("a preamble of key, value", "Symbol,X", "Period,Daily", "Source,a vendor", HEADER, *ROWS)
kind("comments", "# of a vendor, with commas", HEADER, *ROWS)
kind("blank lines", HEADER, ROWS[0], "", ROWS[1], "", ROWS[2])
kind("quoted cells", *(",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, *ROWS)))
kind("a byte order mark", "\ufeff" + HEADER, *ROWS)
kind("trailing separators", HEADER + ",", *(row + "," for row in ROWS))
kind(
    "other cases and orders",
    "VOLUME,low,Close,HIGH,open,timestamp",
    "100,9,11,12,10.5,2018-12-27",
    "200,10,12.5,13,11,2018-12-28",
    "300,11,13,14,12,2018-12-31",
)
kind(
    "MetaTrader",
    "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>",
    *(
        f"2018.12.27\t{hour}:00:00\t{row}".replace(",", "\t")
        for hour, row in zip(("09", "10", "11"), PRICES, strict=True)
    ),
    bars=HOURS,
)
kind(
    "Yahoo's page",
    "Date,Open,High,Low,Close*,Adj Close**,Volume",
    *(",".join([*row.split(",")[:5], row.split(",")[4], row.split(",")[5]]) for row in ROWS),
)
kind(
    "yfinance, one ticker",
    "Price,Close,High,Low,Open,Volume",
    "Ticker,X,X,X,X,X",
    "Date,,,,,",
    "2018-12-27,11,12,9,10.5,100",
    "2018-12-28,12.5,13,10,11,200",
    "2018-12-31,13,14,11,12,300",
)
kind(
    "yfinance, two tickers",
    "Price,Close,Close,Open,Open,High,High,Low,Low,Volume,Volume",
    "Ticker,A,B,A,B,A,B,A,B,A,B",
    "Date,,,,,,,,,,",
    "2018-12-27,11,1,10.5,1,12,1,9,1,100,1",
    "2018-12-28,12.5,2,11,2,13,2,10,2,200,2",
    "2018-12-31,13,3,12,3,14,3,11,3,300,3",
    bars={"A": STANDARD, "B": "2018-12-27 1 1 1 1 1\n2018-12-28 2 2 2 2 2\n2018-12-31 3 3 3 3 3"},
    settings=("env.market.splits=keep",),
)
kind(
    "Polygon",
    "ticker,volume,open,close,high,low,window_start,transactions",
    *(
        f"x,{v},{o},{c},{h},{low},{stamp}000000000,5"
        for stamp, (o, h, low, c, v) in zip(UNIX, (row.split(",") for row in PRICES), strict=True)
    ),
)
kind(
    "a symbol column",
    f"{HEADER},Ticker",
    *(f"{row},{name}" for row in ROWS for name in ("KO", "NA")),
    bars={"KO": STANDARD, "NA": STANDARD},
)
kind("closes only", "DATE,CLOSE", "2018-12-27,11", "2018-12-28,12.5", "2018-12-31,13", bars=CLOSES)
kind("newest first", HEADER, *ROWS[::-1])
kind("an index that pandas wrote twice", ",Unnamed: 0," + HEADER, *(f"{at},{at},{row}" for at, row in enumerate(ROWS)))
kind("headings that are the same and nobody wants", HEADER + ",note,Note", *(row + ",a,b" for row in ROWS))
kind("a preamble of forty lines", *(f"line {at} of a report" for at in range(40)), HEADER, *ROWS)
kind("a header separated by tabs above rows separated by commas", HEADER.replace(",", "\t"), *ROWS)
kind("a header separated by semicolons above rows separated by commas", HEADER.replace(",", ";"), *ROWS)
