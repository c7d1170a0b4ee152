"""Kinds of price files that people have, and the bars in each, written by hand; benchmarks/reading.py reads them.

A bar is written as ``time open high low close volume``; ``... 60`` stands for bars between, of 60 in all.
"""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

Outcome = Literal["read", "repaired", "refused"]

STANDARD = """
2018-12-27 10.5 12 9 11 100
2018-12-28 11 13 10 12.5 200
2018-12-31 12 14 11 13 300
"""
HOURS = """
2018-12-27T09:00 10.5 12 9 11 100
2018-12-27T10:00 11 13 10 12.5 200
2018-12-27T11:00 12 14 11 13 300
"""
NO_VOLUME = """
2018-12-27 10.5 12 9 11 0
2018-12-28 11 13 10 12.5 0
2018-12-31 12 14 11 13 0
"""
CLOSES = """
2018-12-27 11 11 11 11 0
2018-12-28 12.5 12.5 12.5 12.5 0
2018-12-31 13 13 13 13 0
"""
HEADER = "Date,Open,High,Low,Close,Volume"
ROWS = ("2018-12-27,10.5,12,9,11,100", "2018-12-28,11,13,10,12.5,200", "2018-12-31,12,14,11,13,300")
PRICES = ("10.5,12,9,11,100", "11,13,10,12.5,200", "12,14,11,13,300")
UNIX = (1545868800, 1545955200, 1546214400)
CASES = Path(__file__).resolve().parents[1] / "tests" / "data" / "files"


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    :param files: the content of each, by name: lines, bytes, or a function that writes a file
    :param bars: of each instrument, as written by hand; of a refused file, once the first suggestion is pasted
    :param outcome: at default settings
    :param remedy: what a refusal says that no setting can do: the line that converts the file, or what to export
    :param path: of the files, below the folder they are in
    """

    name: str
    files: dict[str, str | bytes | Callable[[Path], None]]
    bars: dict[str, str]
    outcome: Outcome = "read"
    remedy: str | None = None
    path: str = "*"
    settings: tuple[str, ...] = field(default=())


KINDS: list[Kind] = []


def kind(
    name: str, *lines: str, bars: str | dict[str, str] = STANDARD, outcome: Outcome = "read", **more: object
) -> None:
    """Add a kind of one text file called ``x.csv``, or of ``files``."""
    files = more.pop("files", None) or {"x.csv": "\n".join(lines) + "\n"}
    path = more.pop("path", next(iter(files)) if len(files) == 1 else "*")
    held = bars if isinstance(bars, dict) else {"x": bars}
    KINDS.append(Kind(name, files, held, outcome, path=path, **more))  # type: ignore[arg-type]


def dated(layout: str, stamps: tuple[str, ...] = ("2018-12-27", "2018-12-28", "2018-12-31")) -> list[str]:
    """Return the rows with their dates in another format."""
    return [
        f"{datetime.datetime.fromisoformat(day).strftime(layout)},{row}"
        for day, row in zip(stamps, PRICES, strict=True)
    ]


def frame() -> pd.DataFrame:
    """Return the standard bars as a table."""
    rows = [row.split(",") for row in ROWS]
    table = pd.DataFrame(rows, columns=HEADER.split(",")).astype(dict.fromkeys(HEADER.split(",")[1:], float))
    return table.assign(Date=pd.to_datetime(table["Date"]))


# Read as they are: separators, headers and lines above them

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

# Stamps

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

# Rows

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

# Columns

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

# Prices and volumes

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

# Several files

MONTH = "time,close\n2018-12-27,11\n2018-12-28,12.5\n"
NEXT = "time,close\n2018-12-31,13\n"
kind(
    "months of one instrument",
    files={"BTCUSDT-1h-2018-12.csv": MONTH, "BTCUSDT-1h-2019-01.csv": NEXT},
    bars={"BTCUSDT": CLOSES},
    outcome="refused",
)
kind(
    "parts of one instrument",
    files={"eurusd_1.csv": MONTH, "eurusd_2.csv": NEXT},
    bars={"eurusd": CLOSES},
    outcome="refused",
)
kind(
    "one name in several folders",
    files={"2018/x.csv": MONTH, "2019/x.csv": NEXT},
    bars={"x": CLOSES},
    path="*/*.csv",
    outcome="refused",
)
kind(
    "years of two instruments",
    files={f"{name}_{year}.csv": text for name in "AB" for year, text in ((2018, MONTH), (2019, NEXT))},
    bars={"A": CLOSES, "B": CLOSES},
    outcome="refused",
)
kind(
    "a month that begins with the last row of the one before",
    files={"x-2018-12.csv": MONTH, "x-2019-01.csv": NEXT.replace("time,close\n", "time,close\n2018-12-28,12.5\n")},
    bars={"x": CLOSES},
    outcome="refused",
    settings=("env.market.symbol=x",),
)
kind(
    "several instruments",
    files={"a.csv": MONTH, "b.csv": MONTH},
    bars={"a": CLOSES.rpartition("2018-12-31")[0], "b": CLOSES.rpartition("2018-12-31")[0]},
)
kind("a folder", files={"data/x.csv": MONTH + NEXT.partition("\n")[2]}, bars=CLOSES, path="data", outcome="refused")

# Formats and encodings

kind("gzip", files={"x.csv.gz": gzip.compress("\n".join((HEADER, *ROWS)).encode())})
kind("UTF-16", files={"x.csv": "\n".join((HEADER, *ROWS)).encode("utf-16")})
kind(
    "Latin-1",
    files={"x.csv": "\n".join((HEADER + ",Währung", *(row + ",EUR" for row in ROWS))).encode("latin-1")},
    outcome="refused",
)
kind("Parquet", files={"x.parquet": lambda path: frame().set_index("Date").to_parquet(path)})
kind("Feather", files={"x.feather": lambda path: frame().to_feather(path)})
kind("ORC", files={"x.orc": lambda path: frame().to_orc(path)})
kind("json records", files={"x.json": frame().astype({"Date": str}).to_json(orient="records")})
kind("json lines", files={"x.jsonl": frame().astype({"Date": str}).to_json(orient="records", lines=True)})
kind("json columns", files={"x.json": frame().astype({"Date": str}).to_json(orient="columns")})
kind(
    "json columns of a vendor",
    files={
        "x.json": json.dumps(
            {
                "s": "ok",
                "t": UNIX,
                "o": [10.5, 11, 12],
                "h": [12, 13, 14],
                "l": [9, 10, 11],
                "c": [11, 12.5, 13],
                "v": [100, 200, 300],
            }
        )
    },
)
kind(
    "json rows without names",
    files={
        "x.json": json.dumps(
            [[1000 * stamp, *map(float, row.split(","))] for stamp, row in zip(UNIX, PRICES, strict=True)]
        )
    },
    outcome="refused",
)
kind(
    "nested json",
    files={"x.json": json.dumps({"data": frame().astype({"Date": str}).to_dict("records")})},
    outcome="refused",
    remedy="pd.DataFrame(json.loads(Path('x.json').read_text())['data']).to_parquet('x.parquet')",
)
kind(
    "a pickle",
    files={"x.pkl": lambda path: frame().to_pickle(path)},
    outcome="refused",
    remedy="pd.read_pickle('x.pkl').to_parquet('x.parquet')",
)
kind(
    "HDF5",
    files={"x.h5": b"\x89HDF\r\n\x1a\n"},
    bars={},
    outcome="refused",
    remedy="pd.read_hdf('x.h5').to_parquet('x.parquet')",
)
kind(
    "a workbook",
    files={"x.xlsx": b"PK\x03\x04"},
    bars={},
    outcome="refused",
    remedy="pd.read_excel('x.xlsx').to_csv('x.csv', index=False)",
)
kind(
    "prices as bytes",
    files={"x.parquet": lambda path: frame().assign(Open=[b"\xff\x00"] * 3).to_parquet(path)},
    bars=CLOSES.replace(" 0\n", " {}\n").format(100, 200, 300),
    outcome="refused",
)
kind(
    "dates for a close",
    files={"x.parquet": lambda path: frame().assign(Close=frame()["Date"], Settle=frame()["Close"]).to_parquet(path)},
    outcome="refused",
)
kind(
    "booleans for a close",
    files={"x.parquet": lambda path: frame()[["Date", "Close"]].assign(Close=True).to_parquet(path)},
    bars={},
    outcome="refused",
    remedy="export it as plain numbers",
)

# Found by trying to break it

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


LONG = "2020-01-01 100.69 100.69 100.69 100.69 0\n... 700\n2021-11-30 49.15 49.15 49.15 49.15 0"


def cases() -> list[Kind]:
    """Return the files that people reported, kept in the tests' data."""
    two = "2020-01-01 10 12 9 11 5\n2020-01-02 11 12 10 12 5"
    none = two.replace(" 5", " 0")
    held: dict[str, tuple[Outcome, dict[str, str]]] = {
        "adj_close_empty.csv": ("repaired", {"adj_close_empty": two}),
        "adj_close_negative.csv": ("refused", {"adj_close_negative": two}),
        "candles.json": ("refused", {"candles": "2020-01-01 95.9 96.2 95.1 96.2 10\n2020-01-02 96.2 97 96 96.8 12"}),
        "cjk_headings.csv": ("read", {"cjk_headings": two}),
        "close_above_high.csv": (
            "refused",
            {"close_above_high": "2020-01-01 32 33 31 32.5 5\n2020-01-02 32.59 32.84 32.59 32.84 5"},
        ),
        "dotnet_ticks.csv": (
            "refused",
            {
                "dotnet_ticks": "\n".join(
                    f"2018-01-0{day} {close} {close} {close} {close} 0"
                    for day, close in zip(range(1, 6), (100, 101, 102, 101, 103), strict=True)
                )
            },
        ),
        "freqtrade.feather": (
            "read",
            {"freqtrade": "2020-01-01T00:00 1 2 1 2 1\n2020-01-01T01:00 2 3 1 3 1\n2020-01-01T02:00 3 4 2 3 1"},
        ),
        "header_lacks_time.csv": (
            "refused",
            {
                "header_lacks_time": (
                    "2020-01-02T09:01 3602 3603 3597 3599 5699\n2020-01-02T09:02 3600 3601 3598 3599 894"
                )
            },
        ),
        "headerless_equal_prices.csv": (
            "refused",
            {
                "headerless_equal_prices": (
                    "2020-01-01T17:00 1.10 1.12 1.10 1.11 0\n2020-01-01T17:01 1.11 1.13 1.10 1.12 0"
                )
            },
        ),
        "headerless_klines.csv": (
            "refused",
            {
                "headerless_klines": (
                    "2020-01-01T00:59:59.999 7195.24 7196.25 7175.46 7177.02 511.81\n"
                    "2020-01-01T01:59:59.999 7176.47 7230 7175.71 7216.27 883.05"
                )
            },
        ),
        "months/*.csv": (
            "refused",
            {
                "BTCUSDT": (
                    "2023-01-30T23:59:59.999 10 12 9 11 5\n"
                    "2023-01-31T23:59:59.999 11 12 10 12 5\n"
                    "2023-02-01T00:59:59.999 12 13 11 12 5\n"
                    "2023-02-01T01:59:59.999 12 13 11 13 5"
                )
            },
        ),
        "newest_first_out_of_place.csv": (
            "refused",
            {
                "newest_first_out_of_place": "\n".join(
                    f"2017-11-12T{hour} {close} {close} {close} {close} 0"
                    for hour, close in (
                        ("03:00", 6201),
                        ("07:00", 6172),
                        ("08:00", 6201),
                        ("09:00", 6241),
                        ("10:00", 6375),
                        ("11:00", 6371),
                    )
                )
            },
        ),
        "open_zero.csv": ("refused", {"open_zero": two.replace("10 12 9 11", "11 12 9 11")}),
        "preamble_with_comma.csv": ("read", {"BTCUSD": two}),
        "reverse_split_100.csv": (
            "refused",
            {
                "reverse_split_100": (
                    "2020-01-01 100 100 100 100 0\n"
                    "2020-01-02 101 101 101 101 0\n"
                    "2020-01-03 102 102 102 102 0\n"
                    "2020-01-04 101.5 101.5 101.5 101.5 0\n"
                    "2020-01-05 102 102 102 102 0"
                )
            },
        ),
        "saved_twice.csv": ("read", {"saved_twice": none}),
        "volume_minus_one.csv": (
            "repaired",
            {"volume_minus_one": "2020-01-01T09:30 1.10 1.12 1.09 1.11 0\n2020-01-01T09:31 1.11 1.12 1.10 1.12 0"},
        ),
        "wide.csv": ("refused", {"BTC": none}),
        "volume_swapped.csv": (
            "repaired",
            {
                "volume_swapped": (
                    "2020-10-10T00:00 9973.96 9993.91 9954.01 9983.94 180.5003\n"
                    "... 60\n"
                    "2020-10-12T11:00 9796.52 9816.12 9776.93 9806.32 167.4390"
                )
            },
        ),
        "ends_early/*.csv": (
            "read",
            {
                "LONG": LONG,
                "SHORT": "2020-01-01 104.17 104.17 104.17 104.17 0\n... 470\n2021-04-14 171.71 171.71 171.71 171.71 0",
            },
        ),
        "unequal/*.csv": (
            "read",
            {
                "COIN": LONG,
                "STOCK": "2020-01-01 100.38 100.38 100.38 100.38 0\n... 500\n2021-11-30 58.61 58.61 58.61 58.61 0",
            },
        ),
    }
    found = [Kind(f"case {path}", {}, bars, outcome, path=str(CASES / path)) for path, (outcome, bars) in held.items()]
    for path in ("close_is_a_date.parquet", "prices_as_bytes.parquet"):
        found.append(Kind(f"case {path}", {}, {}, "refused", "export it as plain numbers", path=str(CASES / path)))
    return found
