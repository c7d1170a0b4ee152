"""Reading files into tables whose index numbers the rows as an editor does."""

from __future__ import annotations

import csv
import glob
import warnings
from collections.abc import Mapping, Sequence
from lzma import LZMAError
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd
from pandas.errors import EmptyDataError, ParserError, ParserWarning
from pyarrow import ArrowException

from moe_trader.env import MarketError
from moe_trader.env.columns import Column, find_columns

_UNREADABLE = (OSError, EOFError, ValueError, BadZipFile, LZMAError, ParserError, EmptyDataError, ParserWarning)
_SEPARATORS = ",;\t|"
_PREAMBLE = 20  # lines among which the header must be


def find_files(path: str | Sequence[str]) -> list[str]:
    """Return the files that a path, a glob (``data/*.csv``) or a list of both means, in order, each once.

    :raises MarketError: a glob that matches nothing
    """
    found: list[str] = []
    for one in [path] if isinstance(path, str) else path:
        matches = [one]
        if glob.has_magic(one) and not Path(one).exists():
            matches = sorted(match for match in glob.glob(one, recursive=True) if Path(match).is_file())
        if not matches:
            raise MarketError(f"{one}: no file matches")
        found.extend(matches)
    return list(dict.fromkeys(found))


def read_csv_table(path: str | Path, columns: Mapping[Column, str | None] | None = None) -> pd.DataFrame:
    """Read a csv file with a header, plain or compressed; separator and lines above the header are found out.

    Stamps and symbols stay text, prices become numbers where every cell is one.

    :param columns: headings of columns that are called something unusual
    :raises MarketError: no such file, no csv, or a column that is missing
    """
    source = str(path)
    try:
        separator, skipped, tickers = _layout(path)
        options = {"sep": separator, "skiprows": skipped, "encoding": "utf-8-sig", "index_col": False}
        headings = pd.read_csv(path, nrows=0, **options).columns
        if tickers:
            headings = headings.str.replace("^Price$", "Date", regex=True)
        found = find_columns(headings, source, columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)  # rows longer than the header
            table = pd.read_csv(
                path,
                dtype={found[name]: str for name in ("time", "day", "symbol") if name in found},
                names=list(headings),
                header=0,
                keep_default_na=False,
                na_values=[""],
                skip_blank_lines=False,  # they keep their place in the count
                low_memory=False,
                **options,
            )
    except FileNotFoundError:
        raise MarketError(f"{source}: no such file; give the path of a csv file with a header") from None
    except MarketError:
        raise
    except _UNREADABLE as error:
        reason = "rows have more cells than the header" if isinstance(error, ParserWarning) else str(error).strip()
        raise MarketError(f"{source}: cannot be read as csv ({reason})") from None
    table.index = table.index + len(skipped) + 2  # as an editor counts: the first line is row 1, the header its row
    table = table.dropna(how="all")
    if table.empty:
        raise MarketError(f"{source}: no rows below the header")
    return table


def read_parquet_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet file; stamps may stand in its index. The first row is row 1.

    :raises MarketError: no such file, or no Parquet
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise MarketError(f"{path}: no such file; give the path of a Parquet file") from None
    except (OSError, ValueError, ArrowException) as error:
        reason = str(error).strip().splitlines()[0]
        raise MarketError(f"{path}: cannot be read as Parquet ({reason})") from None
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index()
    table.index = pd.RangeIndex(1, len(table) + 1)
    if table.empty:
        raise MarketError(f"{path}: no rows")
    return table


def _layout(path: str | Path) -> tuple[str, list[int], bool]:
    """Return the separator, the lines to skip, and whether these name the tickers below the header as yfinance does."""
    lines = pd.read_csv(
        path,
        sep="\x01",
        names=["line"],
        nrows=_PREAMBLE,
        dtype=str,
        quoting=csv.QUOTE_NONE,
        skip_blank_lines=False,
        na_filter=False,
        encoding="utf-8-sig",
    )["line"]
    if lines.empty:
        raise EmptyDataError("an empty file")
    header = next((at for at, line in enumerate(lines) if any(one in line for one in _SEPARATORS)), 0)
    separator = max(_SEPARATORS, key=lines[header].count)
    skipped = list(range(header))
    below = [line.split(separator) for line in lines[header + 1 : header + 3]]
    if lines[header].startswith("Price" + separator) and len(below) == 2 and below[0][0] == "Ticker":
        tickers = sorted({ticker for ticker in below[0][1:] if ticker})
        if len(tickers) > 1:
            raise MarketError(
                f"{path}: row {header + 2}: columns of {', '.join(tickers)} stand side by side; "
                "save one file for each, or use env=yahoo"
            )
        return separator, [*skipped, header + 1, header + 2], True
    return separator, skipped, False
