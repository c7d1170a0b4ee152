"""What the columns of a table may be, judged by its cells: for refusals to suggest, never to read by."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env.reading.cells import SIGNS, as_text, is_missing
from moe_trader.env.reading.date_formats import fitting_formats, read_format

_ORDERS = ("ohlc", "ochl", "olhc", "ohcl", "cohl", "chlo", "hloc", "lhoc", "hlco", "colh")  # usual ones first
_NAMES = {"o": "open", "h": "high", "l": "low", "c": "close"}
_MOST = 3  # columns that a refusal names where any may be the close
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_COMMAS = re.compile(r"^-?(?:\d{1,3}(?:\.\d{3})+(?:,\d+)?|\d+,\d+)$")
_SLACK = 1e-3  # by which a high or low may miss the open or close
_HALF = 0.5  # share of empty cells above which a column is not needed
_WIDEST = 1.5  # usual ratio of high to low above which columns are no bars
_SURE = 20  # rows from which gaps distinguish opens from closes
_EARLIEST = 1e8  # of unix stamps, in seconds


def guess(
    sample: pd.DataFrame, found: Mapping[str, int], hints: Mapping[str, int] | None = None
) -> tuple[dict[str, int], dict[str, str]]:
    """Return the position of each column that the cells give away, and the settings that read them.

    :param sample: the first rows of a table, as text or as numbers
    :param found: columns that are known
    :param hints: columns that their headings give away
    """
    sample = _complete(sample)
    roles = {**found, **(hints or {})}
    needed: dict[str, str] = {}
    if sample.empty:
        return roles, needed
    free = [place for place in range(sample.shape[1]) if place not in roles.values()]
    if "time" not in roles:
        times, date_format = _time(sample, free)
        roles |= times
        needed = {"date_format": date_format} if date_format else {}
    if "time" in roles and _falls(sample, roles):
        sample = sample.iloc[::-1]  # newest first: an open follows the close of the row below
    free = [place for place in free if place not in roles.values()]
    numbers = _columns_of_numbers(sample, free)
    if "close" not in roles:
        commas = any(_are_decimal_commas(sample.iloc[:, place]) for place in free)
        prices = {} if commas else _prices(sample, free, roles)
        if not prices:  # 1,5 for 1.5
            pointed = _with_points(sample)
            numbers = _columns_of_numbers(pointed, free)
            prices = _prices(pointed, free, roles)
            needed |= {"decimal": "comma"} if prices else {}
        roles |= prices
    last = max((roles[name] for name in _NAMES.values() if name in roles), default=0)
    volumes = [place for place in numbers if place > last and (numbers[place] >= 0).all()]
    if "volume" not in roles and volumes and "close" in roles and "close" not in found:
        roles["volume"] = volumes[0]
    if "time" not in found and (symbol := _symbols(sample, roles)) is not None:
        roles["symbol"] = symbol
    return roles, needed


def candidates(sample: pd.DataFrame, found: Mapping[str, int]) -> list[int]:
    """Return the positions of the first columns that may be a close."""
    sample = _complete(sample)
    free = [place for place in range(sample.shape[1]) if place not in found.values()]
    return [at for at, one in _columns_of_numbers(sample, free).items() if (one > 0).all() and len({*one}) > 1][:_MOST]


def _complete(sample: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without an empty cell, but for columns that are empty in most of them."""
    if sample.empty:
        return sample
    empty = np.column_stack([is_missing(sample.iloc[:, at]) for at in range(sample.shape[1])])
    rows = ~empty[:, empty.mean(axis=0) <= _HALF].any(axis=1)
    return sample[rows] if rows.any() else sample


def opens_may_be_closes(sample: pd.DataFrame, roles: Mapping[str, int]) -> bool:
    """Whether nothing in the cells says which of two columns is the open: a bar opens about where the last closed."""
    if len(sample) < _SURE:
        return True
    opened, closed = (
        numbers_of(_with_points(sample[[sample.columns[roles[name]]]]).iloc[:, 0]) for name in ("open", "close")
    )
    if opened is None or closed is None:
        return True
    if _falls(sample, roles):
        opened, closed = opened[::-1], closed[::-1]
    return not np.abs(opened[1:] - closed[:-1]).mean() < np.abs(closed[1:] - opened[:-1]).mean() / 2


def _symbols(sample: pd.DataFrame, roles: Mapping[str, int]) -> int | None:
    """Return the position of the one column of text that repeats itself."""
    texts = []
    for place in range(sample.shape[1]):
        text = as_text(sample.iloc[:, place])
        words = text.str.fullmatch(r"[A-Za-z][\w./:-]*").all()
        if place not in roles.values() and words and text.nunique() <= max(1, len(text) // 2):
            texts.append(place)
    return texts[0] if len(texts) == 1 else None


def _columns_of_numbers(sample: pd.DataFrame, free: list[int]) -> dict[int, NDArray[np.float64]]:
    """Return the columns that hold numbers, and no stamps."""
    numbers = {place: column for place in free if (column := numbers_of(sample.iloc[:, place])) is not None}
    return {place: column for place, column in numbers.items() if not are_unix(column)}


def _with_points(sample: pd.DataFrame) -> pd.DataFrame:
    """Return 1234.5 for 1.234,5 and 1234,5, and 1234 for 1.234."""

    def pointed(match: re.Match[str]) -> str:
        return match[0].replace(".", "").replace(",", ".")

    return sample.apply(
        lambda column: as_text(column).str.replace(SIGNS, "", regex=True).str.replace(_COMMAS, pointed, regex=True)
    )


def _are_decimal_commas(column: pd.Series) -> bool:
    """Whether a column holds 1.234,5 or 1,5, and not only 1,234, which may be thousands."""
    text = as_text(column).str.replace(SIGNS, "", regex=True)
    return bool(text.str.fullmatch(_COMMAS).all() and text.str.contains(r",\d(?:\d?|\d{3,})$|\..*,", regex=True).any())


def _prices(sample: pd.DataFrame, free: list[int], roles: Mapping[str, int]) -> dict[str, int]:
    """Return where open, high, low and close are, or the close if there is nothing else."""
    known = {name: roles[name] for name in ("open", "high", "low") if name in roles}
    numbers = _columns_of_numbers(sample, sorted({*free, *known.values()}))
    positive = {place: column for place, column in numbers.items() if (column > 0).all()}
    if {"high", "low"} <= {name for name, place in known.items() if place in positive}:  # the close is missing
        low, high = positive[known["low"]], positive[known["high"]]
        inside = (at for at in free if at in positive and ((low <= positive[at]) & (positive[at] <= high)).all())
        return next(({"close": at} for at in inside), {})
    for start in positive:
        places = range(start, start + 4)
        if all(place in positive for place in places):
            columns = [positive[place] for place in places]
            orders = [
                order
                for order in _ORDERS
                if all(place - start == order.index(name[0]) for name, place in known.items())
                and _is_bar(order, columns)
            ]
            if orders:
                order = _smoothest(orders, columns)
                return {_NAMES[letter]: start + at for at, letter in enumerate(order)}
    return {"close": next(iter(positive))} if len(positive) == 1 and not known else {}  # of several, any may be it


def _is_bar(order: str, columns: list[NDArray[np.float64]]) -> bool:
    bar = dict(zip(order, columns, strict=True))
    top, bottom = np.maximum(bar["o"], bar["c"]), np.minimum(bar["o"], bar["c"])
    if float(np.median(bar["h"] / bar["l"])) > _WIDEST:
        return False
    return bool((bar["h"] >= top * (1 - _SLACK)).all() and (bar["l"] <= bottom * (1 + _SLACK)).all())


def _smoothest(orders: list[str], columns: list[NDArray[np.float64]]) -> str:
    """Return the first order, unless with another bars open far closer to where the last one closed."""

    def gap(order: str) -> float:
        bar = dict(zip(order, columns, strict=True))
        return float(np.abs(bar["o"][1:] - bar["c"][:-1]).mean())

    if len(columns[0]) < _SURE:
        return orders[0]
    best = min(orders, key=gap)
    return best if gap(best) < gap(orders[0]) / 2 else orders[0]


def _time(sample: pd.DataFrame, free: list[int]) -> tuple[dict[str, int], str | None]:
    for place in free:
        column = sample.iloc[:, place]
        is_time, date_format = holds_stamps(column)
        if not is_time:
            continue
        if place + 1 in free:
            clock = as_text(sample.iloc[:, place + 1]).str.strip()
            if clock.str.fullmatch(_CLOCK).all():
                joined = as_text(column).str.strip() + " " + clock
                return {"day": place, "time": place + 1}, holds_stamps(joined)[1]
        return {"time": _closing(sample, place, free)}, date_format
    return {}, None


def _closing(sample: pd.DataFrame, opening: int, free: list[int]) -> int:
    """Return the column of stamps at which bars close, if there is one next to those at which they open."""
    opened = numbers_of(sample.iloc[:, opening])
    for place in free:
        closed = numbers_of(sample.iloc[:, place]) if place > opening else None
        if opened is None or closed is None or not (opened >= _EARLIEST).all():
            continue
        if (closed > opened).all() and (closed[:-1] <= opened[1:]).all():
            return place
    return opening


def holds_stamps(column: pd.Series) -> tuple[bool, str | None]:
    """Return whether a column holds stamps, and the format they need."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return True, None
    numbers = numbers_of(column)
    if numbers is not None:
        days = pd.to_datetime(as_text(column).str.removesuffix(".0"), format="%Y%m%d", errors="coerce")
        return are_unix(numbers) or bool(days.notna().all()), None
    text = as_text(column).str.strip()
    if pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True).notna().all():
        return True, None
    return bool(layouts := fitting_formats(text)), next(iter(layouts), None)


def _falls(sample: pd.DataFrame, roles: Mapping[str, int]) -> bool:
    """Whether rows stand newest first."""
    places = [roles[name] for name in ("day", "time") if name in roles]
    column = pd.concat([as_text(sample.iloc[:, at]).str.strip() for at in places], axis=1).agg(" ".join, axis=1)
    stamps = pd.to_numeric(column, errors="coerce")
    if stamps.isna().any():
        date_format = holds_stamps(column)[1]
        if date_format is None:
            stamps = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
        else:
            stamps, _ = read_format(column, date_format)
    known = stamps.dropna()
    return len(known) > 1 and bool(known.iloc[0] > known.iloc[-1])


def are_unix(numbers: NDArray[np.float64]) -> bool:
    """Whether numbers may be unix stamps in order."""
    ordered = (np.diff(numbers) >= 0).all() or (np.diff(numbers) <= 0).all()
    return bool(ordered and (numbers % 1 == 0).all() and (numbers >= _EARLIEST).all())


def numbers_of(column: pd.Series) -> NDArray[np.float64] | None:
    """Return a column's numbers; ``None`` if a cell is no number."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_bool_dtype(column):
        return None
    try:
        text = as_text(column).str.replace(SIGNS, "", regex=True)
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) and np.isfinite(numbers).all() else None
