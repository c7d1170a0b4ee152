"""Found by trying to break it."""

from __future__ import annotations

import decimal
import gzip
import json
from pathlib import Path

import pyarrow as pa

from reading_kinds.base import CLOSES, HEADER, ROWS, STANDARD, frame, kind

kind(
    "a volume of -1 in one row",
    HEADER,
    *ROWS[:2],
    "2018-12-31,12,14,11,13,-1",
    bars=STANDARD.replace("13 300", "13 0"),
    outcome="repaired",
)
kind(
    "an adjusted close that is empty in one row",
    f"{HEADER},Adj Close",
    f"{ROWS[0]},11",
    f"{ROWS[1]},",
    f"{ROWS[2]},13",
    outcome="refused",
)
kind(
    "futures adjusted by differences",
    "Date,Close",
    *(f"2018-12-{day},{day - 25.5}" for day in range(20, 32)),
    bars="\n".join(f"2018-12-{day} {day - 25.5} {day - 25.5} {day - 25.5} {day - 25.5} 0" for day in range(26, 32)),
    outcome="refused",
    settings=("env.market.splits=keep",),
)
kind(
    "unix stamps for a close",
    "Date,Close",
    *(f"2018-12-{day},{1545868800 + 86400 * (day - 27)}" for day in range(20, 32)),
    bars={},
    outcome="refused",
    remedy="holds stamps, not prices (1545264000): it moves as the time does; export the prices",
)
kind(
    "days of a spreadsheet for an open",
    HEADER,
    *(f"2018-12-{day},{43434 + day},13,9,{day / 2},1" for day in range(20, 26)),
    bars="\n".join(f"2018-12-{day} {day / 2} {day / 2} {day / 2} {day / 2} 1" for day in range(20, 26)),
    outcome="refused",
)
kind(
    "a preamble, and a heading that the user names",
    "Report of prices,close of day",
    "Date,Open,High,Low,Settled,Volume",
    *ROWS,
    settings=("env.market.columns.close=Settled",),
)
kind("no header, decimal commas", *(row.replace(",", ";").replace(".", ",") for row in ROWS), outcome="refused")
kind(
    "no header, symbols",
    *(f"{name},{row}" for row in ROWS for name in ("KO", "XOM")),
    bars={"KO": STANDARD, "XOM": STANDARD},
    outcome="refused",
)
kind("no header, below a preamble", "EURUSD,M1,2018", "", *ROWS, outcome="refused")
kind(
    "a header, and positions that the user gives",
    "when,a,b,c,d,Volume",
    *ROWS,
    settings=(
        "env.market.columns.time=0",
        "env.market.columns.open=1",
        "env.market.columns.high=2",
        "env.market.columns.low=3",
        "env.market.columns.close=4",
    ),
)
kind(
    "Chinese headings in GBK",
    files={"x.csv": "\n".join(("日期,开盘,最高,最低,收盘,成交量", *ROWS)).encode("gbk")},
    outcome="refused",
)
kind(
    "an empty file",
    files={"x.csv": b""},
    bars={},
    outcome="refused",
    remedy="an empty file: export or download it again",
)
kind(
    "only a header", HEADER, bars={}, outcome="refused", remedy="no rows below the header; export or download it again"
)
kind(
    "only a header of unknown headings",
    "Tag,Wert",
    bars={},
    outcome="refused",
    remedy="no row below them has as many cells: give the file with its header and rows",
)
kind(
    "a web page",
    "<!DOCTYPE html>",
    "<html></html>",
    bars={},
    outcome="refused",
    remedy="this is a web page, no table; the download failed or needs a login: load it again",
)
kind(
    "json that is cut off",
    files={"x.json": '[{"Date": "2018-12-27", "Clo'},
    bars={},
    outcome="refused",
    remedy="if it is cut off, export or download it again",
)
kind(
    "json of Alpha Vantage",
    files={
        "x.json": json.dumps(
            {
                "Meta Data": {"1. Information": "Daily"},
                "Time Series (Daily)": {
                    row[0]: {
                        "1. open": row[1],
                        "2. high": row[2],
                        "3. low": row[3],
                        "4. close": row[4],
                        "5. volume": row[5],
                    }
                    for row in (line.split(",") for line in ROWS[::-1])
                },
            }
        )
    },
    outcome="refused",
    remedy="pd.DataFrame.from_dict(json.loads(Path('x.json').read_text())['Time Series (Daily)'], orient='index')"
    ".to_parquet('x.parquet')",
)
kind(
    "a zone's short name",
    HEADER,
    "2018-12-27 16:00:00 EST,10.5,12,9,11,100",
    "2018-12-28 16:00:00 EST,11,13,10,12.5,200",
    bars="2018-12-27T21:00 10.5 12 9 11 100\n2018-12-28T21:00 11 13 10 12.5 200",
    outcome="refused",
)
kind(
    "several columns that may be the close",
    "when,bid,ask",
    "2018-12-27,11,11.5",
    "2018-12-28,12.5,13",
    "2018-12-31,13,13.5",
    bars=CLOSES,
    outcome="refused",
)
kind(
    "dates as bytes",
    files={"x.parquet": lambda path: frame().assign(Date=[row[:10].encode() for row in ROWS]).to_parquet(path)},
)
kind(
    "decimals of a database",
    files={
        "x.parquet": lambda path: (
            frame().assign(Close=[decimal.Decimal(close) for close in ("11", "12.5", "13")]).to_parquet(path)
        )
    },
)

# Downloads that failed, and files of programs

for name, text, remedy in (
    ("a page that was not found", "404: Not Found", "a message, and no prices: 404: Not Found; download it again"),
    ("a limit of downloads", "Exceeded the daily hits limit", "Exceeded the daily hits limit; download it again"),
    ("a message in json", '{"Note": "Thank you for using Alpha Vantage!"}', "Alpha Vantage!; download it again"),
    (
        "a pointer of Git LFS",
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
        "run git lfs pull",
    ),
    ("a PDF", b"%PDF-1.4\n\0\xe2\xe3", "a file of a program, and no text; export it there as csv"),
    ("R's data", gzip.compress(b"X\n\0\0\0\3\0\4\2\0"), "a file of a program, and no text; export it there as csv"),
    ("a 7z archive", b"7z\xbc\xaf\x27\x1c\0\4", "unpack it, and give the path of what it holds"),
):
    kind(name, files={"x.csv": text}, bars={}, outcome="refused", remedy=remedy)
kind(
    "Stata",
    files={"x.dta": lambda path: frame().to_stata(path, write_index=False)},
    outcome="refused",
    remedy="pd.read_stata('x.dta').to_parquet('x.parquet')",
)


def stream(path: Path) -> None:
    """Write Arrow's stream format."""
    table = pa.Table.from_pandas(frame())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


kind("a stream of Arrow", files={"x.arrows": stream})
kind("UTF-16 without a mark", files={"x.csv": "\n".join((HEADER, *ROWS)).encode("utf-16-le")})
kind("UTF-32", files={"x.csv": "\n".join((HEADER, *ROWS)).encode("utf-32")})
kind(
    "a letter of Latin-1 in the middle",
    files={"x.csv": "\n".join((f"{HEADER},Note", *(f"{row},x" for row in ROWS), ",,,,,,caf\xe9")).encode("latin-1")},
    outcome="refused",
)
kind(
    "a letter of Latin-1 far below",
    files={
        "x.csv": "\n".join(
            (
                "Date,Close,Note",
                *(f"2018-{month:02d}-{day:02d},{10 + day / 10},x" for month in (1, 3, 5) for day in range(1, 31)),
                "2018-07-01,13.5,caf\xe9",
            )
        ).encode("latin-1")
    },
    bars="2018-01-01 10.1 10.1 10.1 10.1 0\n... 91\n2018-07-01 13.5 13.5 13.5 13.5 0",
    outcome="refused",
)
