"""Rows."""

from __future__ import annotations

from reading_kinds.base import HEADER, HOURS, NO_VOLUME, PRICES, ROWS, STANDARD, kind

kind("a row out of order", HEADER, ROWS[0], ROWS[2], ROWS[1], outcome="refused")
kind(
    "newest first but for one row",
    HEADER,
    *ROWS[::-1],
    "2018-12-29,12.5,13,12,12.5,1",
    bars=STANDARD.replace("2018-12-31", "2018-12-29 12.5 13 12 12.5 1\n2018-12-31"),
    outcome="refused",
)
kind("a row twice", HEADER, ROWS[0], ROWS[0], *ROWS[1:], outcome="refused")
kind(
    "holidays without a price",
    HEADER,
    ROWS[0],
    "2018-12-28,.,.,.,.,.",
    ROWS[2],
    bars="2018-12-27 10.5 12 9 11 100\n2018-12-31 12 14 11 13 300",
    outcome="repaired",
)
kind("a footer", HEADER, *ROWS, "Data by a vendor,,,,,", outcome="repaired")
kind("a word for a price", HEADER, *ROWS, "2019-01-02,n.v.,14,11,13,300", outcome="refused")
kind("a negative close in a later year", HEADER, *ROWS, "2020-04-20,1,2,-40,-37.6,9", outcome="refused")
kind("negative closes at the beginning", HEADER, "1990-01-01,-1,-1,-1,-1,1", *ROWS, outcome="refused")
kind("a last row cut off", HEADER, *ROWS, "2019-01-02,12,14", outcome="refused")
kind("thousands that look like cells", HEADER, *ROWS, "2019-01-02,12,14,11,13,1,234", outcome="refused")
kind(
    "a header that lacks its first heading",
    "Date,Open,High,Low,Close,Volume",
    *(f"2018-12-27,{hour}:00,{row}" for hour, row in zip(("09", "10", "11"), PRICES, strict=True)),
    bars=HOURS,
    outcome="refused",
)
kind("a header that lacks its last heading", "Date,Open,High,Low,Close", *ROWS, bars=NO_VOLUME, outcome="refused")
kind("every row twice", HEADER, *(row for row in ROWS for _ in range(2)), outcome="refused")
kind("the file after itself", HEADER, *ROWS, *ROWS, outcome="refused")
kind(
    "every stamp twice, with other prices",
    HEADER,
    *(text for row in ROWS for text in (row, f"{row}9")),
    bars={},
    outcome="refused",
    remedy="make one bar of each stamp, as pandas does with table.drop_duplicates(TIME, keep='last')",
)
