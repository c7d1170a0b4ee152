"""How a csv file is laid out: what separates its cells, which lines are no rows, and where a row is too long."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError

from moe_trader.env import MarketError
from moe_trader.env.reading.columns import has_time_and_close

_SEPARATORS = ",;\t|"
_SPACES = r"\s+"
_PREAMBLE = 20  # lines among which the header must be
_SPOKEN = re.compile(r'"?sep=(.)"?[,;]*\s*', re.IGNORECASE)  # Excel's first line: sep=;


@dataclass(frozen=True)
class Layout:
    """Where the cells of a csv file are.

    :param separator: what stands between them, as ``pd.read_csv`` has it
    :param skipped: lines that are no rows, those above the header among them, counted from 0
    :param header: the line of the header
    :param tickers: whether lines below the header name the tickers, as yfinance writes
    """

    separator: str
    skipped: list[int]
    header: int
    tickers: bool = False


def read_layout(path: str | Path) -> Layout:
    """Find out the layout of a file by its first lines.

    :raises MarketError: lines that are quoted as a whole, columns of several tickers side by side
    """
    lines = _lines(path, _PREAMBLE)
    if not lines:
        raise EmptyDataError("an empty file")
    spoken = _SPOKEN.fullmatch(lines[0])
    separators = spoken[1] if spoken else _SEPARATORS
    rows = [at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")][bool(spoken) :]
    header = next((at for at in rows if _is_header(lines[at], separators)), rows[0] if rows else 0)
    separator = max(separators, key=lines[header].count)
    if separator not in lines[header] and has_time_and_close(lines[header].split()):
        separator = _SPACES
    if re.fullmatch(r'"[^"]*"', lines[header].strip()) and separator in lines[header]:
        raise MarketError(
            f"{path}: row {header + 1}: quotes around the whole line make it one cell; remove those at the beginning "
            "and the end of each line"
        )
    skipped = list(range(header))
    below = [line.split(separator) for line in lines[header + 1 : header + 3]]
    if lines[header].startswith("Price" + separator) and len(below) == 2 and below[0][0] == "Ticker":
        tickers = sorted({ticker for ticker in below[0][1:] if ticker})
        if len(tickers) > 1:
            raise MarketError(
                f"{path}: row {header + 2}: columns of {', '.join(tickers)} stand side by side; "
                "save one file for each, or use env=yahoo"
            )
        return Layout(separator, [*skipped, header + 1, header + 2], header, tickers=True)
    return Layout(separator, skipped, header)


def longer_rows(path: str | Path, layout: Layout) -> str:
    """Say which row is the first with more cells than the header, and what to do about it."""
    lines = _lines(path)[layout.header :]
    if layout.separator == _SPACES:
        counts = [(at, len(line.split())) for at, line in enumerate(lines, 1)]
    else:
        reader = csv.reader([f"{line}\n" for line in lines], delimiter=layout.separator)
        counts = [(reader.line_num, len(cells)) for cells in reader]
    wanted = counts[0][1]
    longer = [(row + layout.header, count) for row, count in counts if count > wanted]
    if not longer:
        return "rows have more cells than the header"
    row, count = longer[0]
    return (
        f"row {row}: {count} cells below a header of {wanted} ({len(longer)} such rows); write numbers without "
        "thousands separators (1234, not 1,234), and quote cells that hold what separates them"
    )


def _is_header(line: str, separators: str) -> bool:
    return any(separator in line for separator in separators) or has_time_and_close(line.split())


def _lines(path: str | Path, count: int | None = None) -> list[str]:
    """Return the first lines, or all of them, decompressed."""
    lines = pd.read_csv(
        path,
        sep="\x01",
        names=["line"],
        nrows=count,
        dtype=str,
        quoting=csv.QUOTE_NONE,
        skip_blank_lines=False,
        na_filter=False,
        encoding="utf-8-sig",
    )["line"]
    return lines.to_list()
