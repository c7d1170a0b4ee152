"""Reading files into tables whose index numbers the rows as an editor does."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import ParserError, ParserWarning

from moe_trader.env import MarketError
from moe_trader.env.reading.columns import Column, find_columns
from moe_trader.env.reading.layout import longer_rows, read_layout

_PARQUET = b"PAR1"
_UTF16 = "is UTF-16 text: save it as UTF-8"
_OTHERS = {  # what a file that is no csv begins with
    _PARQUET: "is a Parquet file: read it with env=parquet",
    b"PK\x03\x04": "is an Excel workbook, or a zip archive not called .zip: save the sheet as csv",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook: save the sheet as csv",
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
}


def find_files(path: str | Sequence[str]) -> list[str]:
    """Return the files that a path, a glob (``data/*.csv``) or a list of both means, in order, each once.

    ``~`` is the home folder.

    :raises MarketError: a glob that matches nothing
    """
    found: list[str] = []
    for one in map(os.path.expanduser, [path] if isinstance(path, str) else path):
        matches = [one]
        if glob.has_magic(one) and not os.path.exists(one):
            matches = sorted(match for match in glob.glob(one, recursive=True) if Path(match).is_file())
        if not matches:
            raise MarketError(f"{one}: no file matches{_whence(one)}")
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
        _refuse_other_formats(path)
        layout = read_layout(path)
        options = {"sep": layout.separator, "skiprows": layout.skipped, "encoding": "utf-8-sig", "index_col": False}
        headings = _headings(path, options)
        if layout.tickers:
            headings = ["Date" if heading == "Price" else heading for heading in headings]
        found = find_columns(headings, source, columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)  # rows longer than the header
            table = pd.read_csv(
                path,
                dtype={found[name]: str for name in ("time", "day", "symbol") if name in found},
                names=headings,
                header=0,
                keep_default_na=False,
                na_values=[""],
                skip_blank_lines=False,  # they keep their place in the count
                low_memory=False,
                **options,
            )
    except FileNotFoundError:
        raise MarketError(f"{source}: no such file; give the path of a csv file with a header{_whence(path)}") from None
    except MarketError:
        raise
    except (ParserError, ParserWarning) as error:
        raise MarketError(_broken(path, error)) from None
    except Exception as error:  # pandas raises what its parsers and decompressors do, and has them import libraries
        raise MarketError(f"{source}: cannot be read as csv ({_reason(error)})") from None
    table.index = (
        table.index + len(layout.skipped) + 2
    )  # as an editor counts: the first line is row 1, the header its row
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
        raise MarketError(f"{path}: no such file; give the path of a Parquet file{_whence(path)}") from None
    except Exception as error:  # of pyarrow's many kinds, or pandas'
        hint = "" if _beginning(path) in (b"", _PARQUET) else "; env=csv reads csv files"
        raise MarketError(f"{path}: cannot be read as Parquet ({_reason(error)}){hint}") from None
    if table.empty:
        raise MarketError(f"{path}: no rows")
    index = table.index
    table.index = pd.RangeIndex(1, len(table) + 1)
    table = _one_row_of_headings(table, str(path))
    return table if isinstance(index, pd.RangeIndex) else _with_index(table, index, str(path))


def _one_row_of_headings(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Take apart what yfinance answers, prices by ticker: the rows of several tickers come one after the other."""
    if table.columns.nlevels == 1:
        return table
    levels = [[str(heading).lower() for heading in table.columns.get_level_values(level)] for level in (0, 1)]
    if table.columns.nlevels > 2 or not any("close" in level for level in levels):
        raise MarketError(
            f"{source}: headings of several rows ({table.columns[0]}); give one row of them, and a symbol column where "
            "there are several instruments"
        )
    prices = 0 if "close" in levels[0] else 1
    tickers = table.columns.get_level_values(1 - prices)
    parts = [table.loc[:, tickers == ticker].dropna(how="all") for ticker in tickers.unique()]
    for part in parts:
        part.columns = part.columns.get_level_values(prices)
    if len(parts) == 1:
        return parts[0]
    return pd.concat([part.assign(Ticker=ticker) for part, ticker in zip(parts, tickers.unique(), strict=True)])


def _with_index(table: pd.DataFrame, index: pd.Index, source: str) -> pd.DataFrame:
    """Return a table whose stamps stand in a column instead of its index."""
    stamps = index.to_frame(index=False).set_axis(pd.RangeIndex(1, len(index) + 1)).loc[table.index]
    if index.nlevels == 1 and index.name is None:
        stamps.columns = ["index"]
    for name in stamps.columns.intersection(table.columns):
        if not (stamps[name] == table[name]).all():
            raise MarketError(f"{source}: the index and a column are both called {name!r}, and differ; rename one")
    return pd.concat([stamps, table.drop(columns=stamps.columns, errors="ignore")], axis=1)


def _beginning(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except OSError:  # whoever reads on says why
        return b""


def _refuse_other_formats(path: str | Path) -> None:
    beginning = _beginning(path)
    for magic, remedy in _OTHERS.items():
        if beginning.startswith(magic) and Path(path).suffix.lower() != ".zip":
            raise MarketError(f"{path}: this {remedy}")


def _broken(path: str | Path, error: Exception) -> str:
    """Say in which row a file stops being a table."""
    if not isinstance(error, ParserWarning) and "Expected" not in str(error):
        return f"{path}: cannot be read as csv ({_reason(error)})"
    return f"{path}: {longer_rows(path, read_layout(path))}"


def _whence(path: str | Path) -> str:
    """Say what a relative path was taken to mean."""
    return "" if os.path.isabs(path) else f"; a relative path counts from the working directory, {os.getcwd()}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "its text is no UTF-8, but perhaps Latin-1, as old spreadsheets write: save it as UTF-8"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _headings(path: str | Path, options: dict[str, Any]) -> list[str]:
    """Return the headings as they stand in the file: pandas would rename those that stand there twice."""
    first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **options)
    return [heading if heading.strip() else f"Unnamed: {at}" for at, heading in enumerate(first.iloc[0])]
