"""Prices and volumes."""

from __future__ import annotations

from reading_kinds.base import HEADER, NO_VOLUME, ROWS, STANDARD, kind

kind("decimal commas", *(line.replace(",", ";").replace(".", ",") for line in (HEADER, *ROWS)), outcome="refused")
kind(
    "thousands and currency signs",
    HEADER,
    *(
        f'{row.split(",")[0]},"${row.split(",")[1]}",{",".join(row.split(",")[2:5])},"1,{row.split(",")[5]}"'
        for row in ROWS
    ),
    bars=STANDARD.replace(" 100\n", " 1100\n").replace(" 200\n", " 1200\n").replace(" 300\n", " 1300\n"),
    outcome="refused",
)
kind(
    "volumes such as 1.2M",
    HEADER,
    *(f"{row.rpartition(',')[0]},{volume}" for row, volume in zip(ROWS, ("1.2M", "350K", "2B"), strict=True)),
    bars=STANDARD.replace(" 100\n", " 1200000\n").replace(" 200\n", " 350000\n").replace(" 300\n", " 2000000000\n"),
)
kind(
    "a high that misses the close by a rounding error",
    HEADER,
    ROWS[0],
    "2018-12-28,11,12.499,10,12.5,200",
    ROWS[2],
    bars=STANDARD.replace("11 13 10", "11 12.5 10"),
    outcome="repaired",
)
kind(
    "a close above its high",
    HEADER,
    ROWS[0],
    "2018-12-28,11,12.4,10,12.5,200",
    ROWS[2],
    bars=STANDARD.replace("11 13 10", "11 12.5 10"),
    outcome="refused",
)
kind("a close far above its high", HEADER, *ROWS, "2019-01-02,12,13,11,20,1", outcome="refused")
kind(
    "an open of 0",
    HEADER,
    "2018-12-27,0,12,9,11,100",
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "11 12 9 11"),
    outcome="refused",
)
kind(
    "open, high and low of 0",
    HEADER,
    "2018-12-27,0,0,0,11,100",
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "11 11 11 11"),
    outcome="refused",
)
kind(
    "an empty open",
    HEADER,
    "2018-12-27,,12,9,11,100",
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "11 12 9 11"),
    outcome="refused",
)
kind("an empty adjusted close", f"{HEADER},Adj Close", *(f"{row}," for row in ROWS), outcome="repaired")
kind(
    "a negative adjusted close",
    f"{HEADER},Adj Close",
    f"{ROWS[0]},-0.2",
    f"{ROWS[1]},12.5",
    f"{ROWS[2]},13",
    outcome="refused",
)
kind(
    "an adjusted close",
    f"{HEADER},Adj Close",
    f"{ROWS[0]},5.5",
    f"{ROWS[1]},12.5",
    f"{ROWS[2]},13",
    bars=STANDARD.replace("10.5 12 9 11 100", "5.25 6 4.5 5.5 200"),
    settings=("env.market.splits=keep",),
)
kind("volumes of -1", HEADER, *(f"{row.rpartition(',')[0]},-1" for row in ROWS), bars=NO_VOLUME, outcome="repaired")
kind("a negative volume", HEADER, *ROWS[:2], "2018-12-31,12,14,11,13,-300", bars=NO_VOLUME, outcome="refused")
kind(
    "swapped volume columns",
    "Date,Open,High,Low,Close,Volume BTC,Volume USD",
    *(
        f"{row.rpartition(',')[0]},{money},{row.rpartition(',')[2]}"
        for row, money in zip(ROWS, (1100, 2500, 3900), strict=True)
    ),
    outcome="repaired",
)
kind(
    "volume columns swapped in some rows",
    f"{HEADER},Volume USD",
    f"{ROWS[0].rpartition(',')[0]},1100,100",
    f"{ROWS[1]},2500",
    f"{ROWS[2]},3900",
    outcome="repaired",
)
kind(
    "a volume next to one of zeros",
    "Date,Open,High,Low,Close,Tick Volume,Vol",
    *(f"{row},0" for row in ROWS),
    outcome="repaired",
)
kind(
    "a split that nobody adjusted",
    HEADER,
    "2018-12-26,42,48,36,42,25",
    *ROWS[:0],
    "2018-12-27,10.5,12,9,11,100",
    *ROWS[1:],
    bars="2018-12-26 10.5 12 9 10.5 100\n" + STANDARD.strip(),
    outcome="refused",
)
kind(
    "a reverse split of 100",
    HEADER,
    "2018-12-26,0.105,0.12,0.09,0.11,10000",
    "2018-12-27,11.0,12,9,11,100",
    *ROWS[1:],
    bars="2018-12-26 10.5 12 9 11 100\n" + STANDARD.strip().replace("10.5 12 9 11", "11 12 9 11"),
    outcome="refused",
)
