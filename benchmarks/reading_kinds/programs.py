"""Files as spreadsheets, R, Matlab and pandas write them."""

from __future__ import annotations

import json

import pandas as pd

from reading_kinds.base import CELLS, CLOSES, DAYS, HEADER, OHLCV, ROWS, STANDARD, UNIX, dated, frame, kind, rows

kind(
    "Excel, with empty columns and rows",
    files={
        "x.csv": "\r\n".join(
            (f"\ufeff{HEADER};;;".replace(",", ";"), *(f"{row};;;".replace(",", ";") for row in ROWS), ";;;;;;;;", "")
        ).encode()
    },
)
kind("zeros at the end", files={"x.csv": ("\n".join((HEADER, *ROWS)) + "\n").encode() + b"\0" * 64}, outcome="repaired")
kind("lines that end as on an old Mac", files={"x.csv": "\r".join((HEADER, *ROWS, "")).encode()})
kind("R, with names of rows", '"","Date","Open","High","Low","Close","Volume"', *rows('"1","{t}",' + OHLCV))
kind("R, whose header lacks that of the names", "Open High Low Close Volume", *rows("{t} {o} {h} {l} {c} {v}"))
kind(
    "quantmod",
    '"Index","AAPL.Open","AAPL.High","AAPL.Low","AAPL.Close","AAPL.Volume","AAPL.Adjusted"',
    *rows("{t}," + OHLCV + ",{c}"),
    bars={"AAPL": STANDARD},
    outcome="refused",
)
kind("days of Matlab", HEADER, *rows("{t}," + OHLCV, ("737421", "737422", "737425")), outcome="refused")
kind("Matlab's datestr", HEADER, *dated("%d-%b-%Y %H:%M:%S"), outcome="refused")
kind("single quotes", "'Date','Close'", *rows("'{t}','{c}'"), bars=CLOSES)
kind("Markdown", "| Date | Close |", "|---|---|", *rows("| {t} | {c} |"), bars=CLOSES, outcome="refused")
kind("the header again in the middle", HEADER, *ROWS[:2], HEADER, ROWS[2], outcome="repaired")
kind("a total below", HEADER, *ROWS, "Total,,,,,600", outcome="repaired")
kind("an average below", HEADER, *ROWS, "Average,11.2,13,10,12.2,200", outcome="refused")
for name, stamps in (
    ("weekdays in dates", ("Thu 27 Dec 2018", "Fri 28 Dec 2018", "Mon 31 Dec 2018")),
    ("ordinal days", ("27th December 2018", "28th December 2018", "31st December 2018")),
    ("German months", ("27. Dez 2018", "28. Dez 2018", "31. Dez 2018")),
    ("French months", ("27 déc. 2018", "28 déc. 2018", "31 déc. 2018")),
    ("Spanish months in full", ("27 diciembre 2018", "28 diciembre 2018", "31 diciembre 2018")),
):
    kind(name, "Date;Close", *rows("{t};{c}", stamps), bars=CLOSES, outcome="refused")
for orient in ("split", "table", "index", "values"):
    text = frame().assign(Date=list(DAYS)).to_json(orient=orient)
    kind(
        f"json that pandas writes as {orient}",
        files={"x.json": text},
        outcome="refused" if orient == "values" else "read",
    )
kind(
    "json of Yahoo",
    files={
        "x.json": json.dumps(
            {
                "chart": {
                    "result": [
                        {
                            "timestamp": UNIX,
                            "indicators": {
                                "quote": [
                                    {
                                        name: [float(row[at]) for row in CELLS]
                                        for at, name in enumerate(("open", "high", "low", "close", "volume"))
                                    }
                                ]
                            },
                        }
                    ]
                }
            }
        )
    },
    outcome="refused",
    remedy="(lambda one: pd.DataFrame(one['indicators']['quote'][0] | {'time': one['timestamp']}))"
    "(json.loads(Path('x.json').read_text())['chart']['result'][0]).to_parquet('x.parquet')",
)
indexed = frame().set_index("Date")
both = pd.concat({"A": indexed, "B": indexed}, names=["Ticker"])
for name, table, symbols in (
    ("Parquet with symbols in its index", both.swaplevel().sort_index(), "AB"),
    ("Parquet with a zone", indexed.tz_localize("America/New_York"), "x"),
    ("Parquet of text", indexed.astype(str).reset_index(), "x"),
    ("Parquet of nullable types", frame().astype({"Volume": "Int64", "Open": "Float64"}), "x"),
    ("Parquet of dates", frame().assign(Date=frame()["Date"].dt.date), "x"),
    ("Parquet of periods", indexed.to_period("D"), "x"),
):
    kind(name, files={"x.parquet": table.to_parquet}, bars=dict.fromkeys(symbols, STANDARD))
