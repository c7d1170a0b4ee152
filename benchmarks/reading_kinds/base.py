"""How a kind of price file is written down: its lines, and the bars in it, by hand.

A bar is written as ``time open high low close volume``; ``... 60`` stands for bars between, of 60 in all.
"""

from __future__ import annotations

import datetime
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
DAYS = ("2018-12-27", "2018-12-28", "2018-12-31")
CELLS = [row.split(",") for row in PRICES]
OHLCV = "{o},{h},{l},{c},{v}"
UNIX = (1545868800, 1545955200, 1546214400)
CASES = Path(__file__).resolve().parents[2] / "tests" / "data" / "files"


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


def rows(pattern: str, stamps: tuple[str, ...] = DAYS, newest_first: bool = False) -> list[str]:
    """Return a row for each bar: ``{t}`` is its stamp, ``{o}``, ``{h}``, ``{l}``, ``{c}`` and ``{v}`` its numbers."""
    bars = zip(stamps, CELLS, strict=True)
    found = [pattern.format(t=stamp, o=o, h=h, l=low, c=c, v=v) for stamp, (o, h, low, c, v) in bars]
    return found[::-1] if newest_first else found
