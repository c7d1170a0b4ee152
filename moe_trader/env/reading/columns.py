"""Which column of a price table is what, whatever its heading, and what stands in it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Literal

import pandas as pd

from moe_trader.env import MarketError

Column = Literal["time", "open", "high", "low", "close", "adjusted_close", "volume", "symbol"]

# The first heading that is there wins. A bar's time is when it closes. The last two of time: an index without a name,
# as pandas writes it.
ALIASES: dict[str, tuple[str, ...]] = {
    "time": (
        "time",
        "datetime",
        "timestamp",
        "date",
        "date time",
        "close time",
        "open time",
        "ts",
        "unix",
        "unix timestamp",
        "gmt time",
        "window start",
        "t",
        "index",
        "unnamed: 0",
    ),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c", "last", "close/last", "price"),
    "adjusted_close": ("adj close", "adjclose", "adjusted close", "adjcp"),
    "volume": ("volume", "vol", "v", "vol.", "tick volume", "tickvol"),
    "symbol": ("symbol", "ticker", "tic", "tickers", "instrument", "name"),
}
_CLOSES = (*ALIASES["close"], "settle", "settlement", "settlement price", "last price", "mark", "mark price")
DAY = ("date", "day")  # headings of a day whose time of day stands in a column of its own
PRICES = ("open", "high", "low", "close")
# Volume in a unit: one word, as in Volume BTC and Volume (lots). What is made from volume is called so as well.
_VOLUME_IN = re.compile(r"volume (?P<word>\w+)|volume ?\((?P<unit>\w+)\)")
_MADE = re.compile(
    r"\d+|(?:[svwe]|vw)?ma\d*|avg\d*|average|mean|median|std|pct|percent|change|chg|chng|delta|diff|ratio|relative|"
    r"weighted|rank|profile|trend|osc|oscillator|index|rsi|zscore|signal|spike|imbalance|notes?|date|time"
)


def find_columns(
    headings: Iterable[Hashable], source: str, given: Mapping[Column, str | None] | None = None
) -> dict[str, Hashable]:
    """Return the heading of each column that is there: ``{"time": "Date", "close": "Close", ...}``.

    ``<OPEN>``, ``1. open``, ``Adj_Close`` and ``adj close`` read alike. A table may hold closes alone. A day beside a
    time of day is found as ``day``; a volume whose heading names a unit is a ``guessed_volume`` too.

    :param given: headings the user names, which win
    :raises MarketError: time or close is missing, some prices are there and some are not, two columns read alike
    """
    headings = list(headings)
    by_name: dict[str, Hashable] = {}
    for heading in headings:
        name = _plain(heading)
        if name in by_name:
            raise MarketError(f"{source}: columns {by_name[name]!r} and {heading!r} cannot be told apart; rename one")
        by_name[name] = heading
    found: dict[str, Hashable] = {}
    named = {column: heading for column, heading in (given or {}).items() if heading is not None}
    for wanted, called in named.items():
        if _plain(called) not in by_name:
            raise MarketError(f"{source}: no column {called!r} (env.market.columns.{wanted}). {_there(headings)}")
        found[wanted] = by_name[_plain(called)]
    for column, aliases in ALIASES.items():
        match = [by_name[alias] for alias in aliases if alias in by_name]
        if match:
            found.setdefault(column, match[0])
    spare = [by_name[alias] for alias in ALIASES["volume"] if alias in by_name and by_name[alias] != found["volume"]]
    if spare and "volume" not in named:
        found["spare_volume"] = spare[0]
    if "volume" not in found:
        volumes = [heading for name, heading in by_name.items() if _is_volume_in_a_unit(name)]
        found |= dict(zip(("volume", "other_volume"), volumes, strict=False))
        if volumes:
            found["guessed_volume"] = volumes[0]
    days = [by_name[name] for name in DAY if name in by_name and by_name[name] != found.get("time")]
    if days:
        found["day"] = days[0]
    _check_required(found, headings, source)
    return found


def has_time_and_close(words: Iterable[str]) -> bool:
    """Whether words are headings of a table, of a time and a close among others."""
    names = {_plain(word) for word in words}
    return all(names & set(ALIASES[column]) for column in ("time", "close"))


def is_a_close(heading: Hashable) -> bool:
    """Whether a heading may be of a price at the close, whichever column was taken for it."""
    return _plain(heading) in _CLOSES


def cell(column: pd.Series, at: int) -> str:
    """Return one cell as an error shows it."""
    value = column.iloc[at]
    if not isinstance(value, str) and pd.isna(value):
        return "an empty cell"
    return repr(value) if isinstance(value, str) else str(value)


def _check_required(found: Mapping[str, Hashable], headings: list[Hashable], source: str) -> None:
    closes_only = not {"open", "high", "low"} & found.keys()
    required = ("time", "close") if closes_only else ("time", *PRICES)
    missing = [name for name in required if name not in found]
    if not missing:
        return
    wanted = "; ".join(f"{name} (any of {', '.join(ALIASES[name])})" for name in missing)
    setting = " ".join(f"env.market.columns.{name}=HEADING" for name in missing)
    hint = ""
    if headings and all(re.fullmatch(r"[-+\d.:/ TZ]+", str(heading)) for heading in headings):
        hint = "; the first row looks like data: add a header"
    elif len(headings) == 1:
        hint = "; this is one cell: put a comma, semicolon, tab or | between the columns, or say sep=X in a first line"
    raise MarketError(
        f"{source}: missing column {wanted}; where it is called something else, set {setting}. {_there(headings)}{hint}"
    )


def _there(headings: list[Hashable]) -> str:
    return f"Columns there: {', '.join(map(str, headings)) or 'none'}"


def _is_volume_in_a_unit(name: str) -> bool:
    match = _VOLUME_IN.fullmatch(name)
    return match is not None and _MADE.fullmatch(match["word"] or match["unit"]) is None


def _plain(heading: Hashable) -> str:
    name = str(heading).strip().lower().strip("<>").rstrip("*")  # <CLOSE> is MetaTrader's, Close* Yahoo's
    name = re.sub(r"^\d+[a-z]?\. ", "", name)  # "1. open" is Alpha Vantage's
    return re.sub(r"[\s_]+", " ", name).strip()
