"""Reading csv files into tables whose index numbers the rows as an editor does."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.errors import ParserError, ParserWarning

from moe_trader.env import MarketError
from moe_trader.env.reading.archives import beginning, opened
from moe_trader.env.reading.columns import find_columns
from moe_trader.env.reading.guess import guess
from moe_trader.env.reading.headings import NONE
from moe_trader.env.reading.layout import Layout, cells, first_lines, read_layout, row_widths
from moe_trader.env.reading.page import Page, Reading
from moe_trader.env.reading.paths import no_such_file, reason
from moe_trader.env.reading.thousands import refuse_thousands
from moe_trader.env.reading.ways import Value, Way, offer
from moe_trader.env.reading.wide import one_row_of_headings

_SAMPLE = 200  # rows by which a refusal guesses what the columns are
# Encodings to try, the likelier first: GB 2312 decodes little that it is not meant for, the last two everything.
_ENCODINGS = {"gb2312": "gb18030", "shift_jis": "cp932", "latin-1": "latin-1", "cp1251": "cp1251"}
_MOST_ENCODINGS = 3  # that a refusal names
_PREAMBLE = 20  # lines that are decoded to show how they read
_SHOWN = 30  # characters of them
_BOMS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def read_csv_table(path: str | Path, reading: Reading) -> pd.DataFrame:
    """Read a csv file, plain or compressed; separator and lines above the header are found out.

    Stamps and symbols stay text, prices become numbers where every cell is one. Without a header, columns are called
    by their positions.

    :raises MarketError: no such file, no csv, or a column that is missing
    """
    encoding = reading.encoding or _encoding(beginning(path))
    try:
        layout = read_layout(path, reading, encoding)
        table = _read(path, layout, reading, encoding)
    except FileNotFoundError:
        raise MarketError(no_such_file(path)) from None
    except MarketError:
        raise
    except UnicodeDecodeError as error:
        raise MarketError(_not_this_text(path, error, reading)) from None
    except Exception as error:  # pandas raises what its parsers and decompressors do, and has them import libraries
        hint = "if it is cut off, export or download it again"
        raise MarketError(f"{path}: cannot be read as csv ({reason(error)}); {hint}") from None
    table.index = table.index + layout.first + 1  # as an editor counts: the first line is row 1
    table = _without_headers(table.dropna(how="all"), path)
    if table.empty:
        raise MarketError(f"{path}: no rows below the header; export or download it again")
    if reading.decimal is None and not layout.tickers:
        refuse_thousands(table, str(path), layout, lambda: _sample(path, layout, encoding), reading)
    if layout.tickers and len(set(layout.tickers[1:]) - {""}) > 1:
        return _by_ticker(table, layout)
    return table


def is_wide_text(start: bytes) -> bool:
    """Whether a file begins as UTF-16 or UTF-32, in which most letters have a zero byte."""
    return _encoding(start) != "utf-8-sig"


def _encoding(start: bytes) -> str:
    for mark, encoding in _BOMS.items():
        if start.startswith(mark):
            return encoding
    head = start[:40]
    if len(head) > 2 and not any(head[1::2]) and all(head[::2]):
        return "utf-16-le"
    if len(head) > 2 and not any(head[::2]) and all(head[1::2]):
        return "utf-16-be"
    return "utf-8-sig"


def _read(path: str | Path, layout: Layout, reading: Reading, encoding: str) -> pd.DataFrame:
    """Return the rows; too long ones are refused, or left out as bad ones."""
    headings = layout.headings if layout.headings is not None else list(range(layout.width))
    found = {"time": 0}
    if not layout.tickers:
        found = find_columns(headings, str(path), reading.columns, _sample(path, layout, encoding))
    text = _text(found, reading)
    try:
        table = _parse(path, layout, encoding, layout.width, text)
    except (ParserError, ParserWarning) as error:
        if not isinstance(error, ParserWarning) and "Expected" not in str(error):
            raise MarketError(f"{path}: cannot be read as csv ({reason(error)})") from None
        table = _without_longer_rows(path, layout, reading, encoding, found)
    table.columns = pd.Index(headings, dtype=object)  # positions stay plain numbers
    table.attrs["found"] = dict(found)
    return table


def _without_headers(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Leave out rows that repeat the header, as where files were put one after the other."""
    headings = [str(heading).strip() for heading in table.columns]
    repeated = np.ones(len(table), dtype=bool)
    for place, heading in enumerate(headings):
        if table.iloc[:, place].dtype.kind not in "iufb" and not heading.startswith("Unnamed: "):
            repeated &= (table.iloc[:, place] == table.columns[place]).to_numpy(dtype=bool, na_value=False)
            if not repeated.any():
                return table
    if repeated.all():
        return table
    page = Page(str(path), table.index, Reading())
    page.warn(f"{repeated.sum()} rows that repeat the header left out (first: row {page.rows[repeated.argmax()]})")
    kept = table[~repeated]
    kept.attrs["notes"] = [*kept.attrs.get("notes", ()), *page.notes]
    return kept


def _text(found: Mapping[str, int], reading: Reading) -> dict[int, type]:
    """Return the columns that stay text: all where a mark of decimals is given, as pandas has its own."""
    return {place: str for name, place in found.items() if reading.decimal or name in ("time", "day", "symbol")}


def _parse(path: str | Path, layout: Layout, encoding: str, width: int, text: Mapping[int, type]) -> pd.DataFrame:
    with warnings.catch_warnings(), opened(path) as source:
        warnings.simplefilter("error", ParserWarning)  # rows longer than the header
        return pd.read_csv(
            source,
            sep=layout.separator,
            skiprows=layout.first,
            header=None,
            names=list(range(width)),
            index_col=False,
            dtype=text,
            encoding=encoding,
            compression=None,
            keep_default_na=False,
            na_values=[""],
            quotechar=layout.quote,
            skip_blank_lines=False,  # they keep their place in the count
            low_memory=False,
        )


def _without_longer_rows(
    path: str | Path, layout: Layout, reading: Reading, encoding: str, found: Mapping[str, int]
) -> pd.DataFrame:
    """Refuse rows with more cells than the header, or leave them out.

    :raises MarketError: naming the first of them; or the columns by position, if all rows are longer by the same
    """
    text = _text(found, reading)
    rows = [(at, _without_empty_end(row, layout.width)) for at, row in row_widths(path, layout, encoding)]
    longer = [(at, len(row)) for at, row in rows if len(row) > layout.width]
    if not longer:
        return _parse(path, layout, encoding, _widest(path, layout, encoding), text).iloc[:, : layout.width]
    _, count = longer[0]
    ways = _by_position(pd.DataFrame([row for _, row in rows[:_SAMPLE]]), found) if len(longer) == len(rows) else []
    lacks = " the header lacks a heading, or" if ways else ""
    page = Page(str(path), pd.RangeIndex(len(rows)), reading)
    page.rows = np.array([at for at, _ in rows])
    page.refuse(
        np.array([len(row) > layout.width for _, row in rows]),
        lambda _: (
            f": {count} cells below a header of {layout.width} ({len(longer)} such rows);{lacks} write numbers without "
            "thousands separators (1234, not 1,234), and quote cells that hold what separates them"
        ),
        ways,
    )
    page.check_bad_rows()
    table = _parse(path, layout, encoding, _widest(path, layout, encoding), text)
    kept = table.iloc[:, layout.width :].isna().all(axis=1)
    page.note_bad_rows()
    table = table.loc[kept].iloc[:, : layout.width]
    table.attrs["notes"] = page.notes
    return table


def _without_empty_end(row: list[str], width: int) -> list[str]:
    """Return a row without the empty cells beyond the header, as of separators at the end of rows."""
    return row[:width] if not any(cell.strip() for cell in row[width:]) else row


def _widest(path: str | Path, layout: Layout, encoding: str) -> int:
    return max(len(row) for _, row in row_widths(path, layout, encoding))


def _by_position(sample: pd.DataFrame, found: Mapping[str, int]) -> list[Way]:
    """Return the positions of the columns of rows that are all longer than the header.

    Where the header fits as it stands, the cells beyond it may be the rest of a number: the volume is not read then.
    """
    roles, needed = guess(sample, {})
    if sample.isna().any(axis=None) or not {"time", "close"} <= roles.keys():
        return []
    chosen: dict[str, Value] = {f"columns.{name}": place for name, place in roles.items()}
    if all(found.get(name) == place for name, place in roles.items() if name != "volume"):
        chosen["columns.volume"] = NONE
    return [({**chosen, **needed}, "to read columns by position, from 0")]


def _sample(path: str | Path, layout: Layout, encoding: str) -> pd.DataFrame:
    lines = first_lines(path, encoding, layout.first + _SAMPLE)
    rows = [row for row in _split(lines[layout.first :], layout) if len(row) == layout.width]
    return pd.DataFrame(rows, columns=range(layout.width), dtype=str)


def _split(lines: list[str], layout: Layout) -> list[list[str]]:
    return [cells(line, layout.separator) for line in lines if line.strip()]


def _by_ticker(table: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Return the rows of several tickers side by side one after the other."""
    assert layout.tickers is not None
    side_by_side = table.iloc[:, 1:]
    side_by_side.columns = pd.MultiIndex.from_arrays([table.columns[1:], layout.tickers[1:]])
    long = one_row_of_headings(side_by_side, "")
    long.insert(0, "Date", table.iloc[:, 0].loc[long.index])
    return long


def _not_this_text(path: str | Path, error: UnicodeDecodeError, reading: Reading) -> str:
    """Return the refusal of text in another encoding, with those that decode its first lines, and how."""
    text = f"{path}: not valid {error.encoding.upper()} text (byte {error.object[error.start]:#x})"
    if reading.encoding:
        return f"{text}; set another env.market.encoding"
    ways: list[Way] = []
    for strict, encoding in _ENCODINGS.items():
        with contextlib.suppress(UnicodeDecodeError):
            lines = first_lines(path, strict, _PREAMBLE)
            if all(line.isascii() for line in lines):  # further down
                lines = first_lines(path, strict)
            foreign = next((line for line in lines if not line.isascii()), None)
            if foreign is None:
                continue
            at = next(place for place, letter in enumerate(foreign) if not letter.isascii())
            shown = foreign[max(0, at - _SHOWN // 2) :][:_SHOWN]
            ways.append(({"encoding": encoding}, f"to read {shown.strip()}"))
    return f"{text}; save it as UTF-8{offer(ways[:_MOST_ENCODINGS], reading.settings)}"
