"""How a csv file is laid out: what separates its cells, which lines are no rows, and where a row is too long."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pandas.errors import EmptyDataError

from moe_trader.env import MarketError
from moe_trader.env.reading.archives import opened
from moe_trader.env.reading.columns import has_time_and_close, is_a_number_column
from moe_trader.env.reading.headings import looks_like_data
from moe_trader.env.reading.page import Reading

_SEPARATORS = ",;\t|~^"
_SPACES = r"\s+"
_PREAMBLE = 100  # lines among which the header must be
_MESSAGE = 200  # characters of a file's only line below which it is a message
_TICKER = re.compile(r"[\^A-Za-z][\w.^=:/-]*|\d+\.[A-Z]+")
_SPOKEN = re.compile(r'"?sep=(.)"?[,;]*\s*', re.IGNORECASE)  # Excel's first line: sep=;


@dataclass(frozen=True)
class Layout:
    """Where the cells of a csv file are.

    :param separator: what stands between them, as ``pd.read_csv`` has it
    :param first: the line of the first row, counted from 0: all above are no rows
    :param headings: the header's cells; ``None`` where there is none
    :param width: cells of a row
    :param tickers: of each column, where a line below the header names them, as yfinance writes
    :param quote: the mark around cells
    """

    separator: str
    first: int
    headings: list[str] | None
    width: int
    tickers: list[str] | None = None
    quote: str = '"'


def read_layout(path: str | Path, reading: Reading, encoding: str) -> Layout:
    """Find out the layout of a file by its first lines, and by the positions that the user gives.

    :raises MarketError: lines that are quoted as a whole
    """
    lines = first_lines(path, encoding, _PREAMBLE)
    if not lines:
        raise EmptyDataError("an empty file: export or download it again")
    if len(lines) == 1 and len(lines[0]) < _MESSAGE and not any(one in lines[0] for one in ",;\t|"):
        raise MarketError(f"{path}: a message, and no prices: {lines[0].strip()}; download it again")
    spoken = _SPOKEN.fullmatch(lines[0])
    separators = spoken[1] if spoken else _SEPARATORS
    lines = [_without_hash(line, separators, reading) for line in lines]
    rows = [at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")][bool(spoken) :]
    by_position = _by_position(lines, rows, separators, reading)
    if by_position is not None:
        return by_position
    by_ticker = _by_ticker(lines, rows, separators)
    if by_ticker is not None:
        return by_ticker
    header = _header(lines, rows, separators, reading)
    separator = _separator(lines[header], separators, reading)
    if re.fullmatch(r'"(?:[^"]|"")*"', lines[header].strip()) and separator in lines[header]:
        raise MarketError(
            f"{path}: row {header + 1}: quotes around the whole line make it one cell; remove those at the beginning "
            "and the end of each line"
        )
    headings = [
        heading if heading.strip() else f"Unnamed: {at}" for at, heading in enumerate(cells(lines[header], separator))
    ]
    quote = "'" if all(re.fullmatch(r"'.*'", heading.strip()) for heading in headings) else '"'
    if quote == "'":
        headings = [heading.strip().strip("'") for heading in headings]
    below = [cells(line, separator) for line in lines[header + 1 : header + 3]]
    if separator != _SPACES and below and all(len(row) == 1 for row in below):  # rows may be separated otherwise
        for other in separators:
            rows_below = [cells(line, other) for line in lines[header + 1 : header + 3]]
            if len(headings) > 1 and all(len(row) == len(headings) for row in rows_below):
                separator, below = other, rows_below
                break
    if below and not _has_time(headings) and all(len(row) == len(headings) + 1 and row[-1] for row in below if row):
        headings = ["Unnamed: 0", *headings]  # R's write.table gives names of rows no heading
    return Layout(separator, header + 1, headings, len(headings), quote=quote)


def _by_ticker(lines: list[str], rows: list[int], separators: str) -> Layout | None:
    """Return the layout of a table whose first two rows name prices and tickers, in either order, as yfinance writes.

    A third row may name only the stamps.
    """
    if len(rows) < 3:
        return None
    for separator in separators:
        one, two, three = (cells(lines[at], separator) for at in rows[:3])
        for names, tickers in ((one, two), (two, one)):
            known = 2 < len(names) == len(tickers) and all(is_a_number_column(name) for name in names[1:])
            if not known or not all(_TICKER.fullmatch(one) for one in tickers[1:]) or is_a_number_column(tickers[1]):
                continue
            only_stamps = bool(three) and not any(cell.strip() for cell in three[1:])
            first = rows[2 + only_stamps] if len(rows) > 2 + only_stamps else rows[-1] + 1
            return Layout(separator, first, ["Date", *names[1:]], len(names), tickers)
    return None


def cells(line: str, separator: str) -> list[str]:
    """Return the cells of one line."""
    return line.split() if separator == _SPACES else next(csv.reader([line], delimiter=separator), [])


def row_widths(path: str | Path, layout: Layout, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and cells of each row that is not blank."""
    lines = first_lines(path, encoding)[layout.first :]
    if layout.separator == _SPACES:
        split: Iterator[tuple[int, list[str]]] = ((at, line.split()) for at, line in enumerate(lines, 1))
    else:
        reader = csv.reader([f"{line}\n" for line in lines], delimiter=layout.separator)
        split = ((reader.line_num, row) for row in reader)
    return ((at + layout.first, row) for at, row in split if row)


def first_lines(path: str | Path, encoding: str, count: int | None = None) -> list[str]:
    """Return the first lines, or all of them, decompressed."""
    with opened(path) as source, contextlib.ExitStack() as stack:
        file = stack.enter_context(open(source, "rb")) if isinstance(source, str) else source
        text = io.TextIOWrapper(file, encoding=encoding)
        try:
            return [line.removesuffix("\n") for line in itertools.islice(text, count)]
        finally:
            text.detach()  # or it closes the file, which is not its own


def _header(lines: list[str], rows: list[int], separators: str, reading: Reading) -> int:
    """Return the line with a time and a close, or else the first one that has as many cells as the next."""
    for at in rows:
        if _names(lines[at], separators, reading):
            return at
    for separator in separators:  # a row of words above one of numbers
        for at, below in itertools.pairwise(rows):
            words, data = cells(lines[at], separator), cells(lines[below], separator)
            if 1 < len(words) == len(data) and looks_like_data(data):
                if not looks_like_data(words) and sum(bool(word.strip()) for word in words) > 1:
                    return at
                break
    separated = [at for at in rows if any(separator in lines[at] for separator in separators)]
    found = []
    for separator in separators:
        widths = [len(cells(lines[at], separator)) for at in separated]
        even = (place for place, (one, after) in enumerate(itertools.pairwise(widths)) if 1 < one == after)
        found += [separated[place] for place in even][:1]
    if found:  # the first of any separator: 1.002,34;1.003,45 is even in commas too, but not in the header above
        return min(found)
    return separated[0] if separated else rows[0] if rows else 0


def _names(line: str, separators: str, reading: Reading) -> bool:
    """Whether a line names a time and a close."""
    return any(has_time_and_close(cells(line, separator), reading.columns) for separator in (*separators, _SPACES))


def _without_hash(line: str, separators: str, reading: Reading) -> str:
    """Return a header without the mark of a comment before it: ``#RIC,Date-Time,...``."""
    bare = line.lstrip("#")
    return bare if bare != line and _names(bare, separators, reading) else line


def _has_time(headings: list[str]) -> bool:
    return has_time_and_close([*headings, "close"])


def _separator(line: str, separators: str, reading: Reading) -> str:
    for separator in (*separators, _SPACES):
        if has_time_and_close(cells(line, separator), reading.columns):
            return separator
    best = max(separators, key=lambda one: (line.count(one), one == ";"))  # 1,5;2,5 has decimal commas
    return _SPACES if best not in line and len(line.split()) > 2 else best


def _by_position(lines: list[str], rows: list[int], separators: str, reading: Reading) -> Layout | None:
    """Return the layout if the user names time and close by position: the first row has a number for a close."""
    close = reading.columns.get("close")
    if not isinstance(close, int) or not isinstance(reading.columns.get("time"), int):
        return None
    width = 1 + max(place for place in reading.columns.values() if isinstance(place, int))
    found = []
    for separator in (*separators, _SPACES):
        for place, at in enumerate(rows):
            row = cells(lines[at], separator)
            if len(row) >= width and re.search(r"\d", row[close]) and not re.search(r"[A-Za-z]{3}", row[close]):
                above = cells(lines[rows[place - 1]], separator) if place else []
                headings = above if len(above) == len(row) else None
                found.append((len(row), Layout(separator, at, headings, len(row))))
                break
    return max(found, key=lambda one: one[0])[1] if found else None
