"""Which column of a price table is what, whatever its heading."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from moe_trader.bounds import Position
from moe_trader.env import MarketError
from moe_trader.env.reading.cells import CODES
from moe_trader.env.reading.headings import ALIASES, NONE, plain, there
from moe_trader.env.reading.missing import refuse_missing
from moe_trader.env.reading.ways import setting

Column = Literal["time", "day", "open", "high", "low", "close", "adjusted_close", "volume", "symbol"]
# As the user names a column: its heading, its position, or NONE; None: by its usual names.
Heading = str | Position | None

_FIRST = 10_000  # a number below which rows that count themselves begin; dates and unix stamps are larger
_CLOSES = (*ALIASES["close"], "settle", "settlement", "settlement price", "last price", "mark", "mark price")
# Headings of a day whose time of day stands in a column of its own, and of such a column, if it is not called time.
DAY = ("date", "day", "trade date", "trading date", "datum", "fecha", "data", "дата", "日期", "日付", "날짜")
CLOCK = ("hour", "uhrzeit", "zeit", "hora", "heure", "ora", "godzina", "время", "时间", "時刻", "시간")
PARTS = ("year", "month", "day", "hour", "minute", "second")  # headings of stamps in several columns
_COUNTS = ("index", "unnamed: 0")  # headings of an index, which may be stamps or only count the rows
# Volume in a unit: one word, as in Volume BTC and Volume (lots). What is made from volume is called so as well.
_VOLUME_IN = re.compile(r"volume (?P<word>\w+)|volume ?\((?P<unit>\w+)\)")
_UNIT = re.compile(rf" ?[(\[（](?:utc|gmt|{CODES.lower()}|[$€£¥₹]|[元円원手股点])[)\]）]$")  # noqa: RUF001 - of Chinese
_MADE = re.compile(
    r"\d+|(?:[svwe]|vw)?ma\d*|avg\d*|average|mean|median|std|pct|percent|change|chg|chng|delta|diff|ratio|relative|"
    r"weighted|rank|profile|trend|osc|oscillator|index|rsi|zscore|signal|spike|imbalance|notes?|date|time"
)


def find_columns(
    headings: Iterable[Hashable],
    source: str,
    given: Mapping[Column, Heading] | None = None,
    sample: pd.DataFrame | None = None,
) -> dict[str, int]:
    """Return the position of each column that is there: ``{"time": 0, "close": 4, ...}``.

    ``<OPEN>``, ``1. open``, ``Adj_Close`` and ``adj close`` are the same. A table may hold closes only. A day next to a
    time of day is found as ``day``; a volume whose heading names a unit is a ``guessed_volume`` too.

    :param given: headings or positions (from 0) the user names, which win; ``none``: no such column
    :param sample: the first rows, from which a refusal guesses what the columns are
    :raises MarketError: time or close is missing, some prices are there and some are not, two wanted columns
        have the same name
    """
    headings = list(headings)
    named = {column: heading for column, heading in (given or {}).items() if heading is not None}
    table = Headings(headings, source, _declared_absent(named))
    found: dict[str, int] = {
        column: table.given(column, heading) for column, heading in named.items() if heading != NONE
    }
    for column in ALIASES:
        if column not in named and (place := table.usual(column)) is not None:
            found[column] = place
    if "volume" not in named:
        found |= table.other_volumes(found)
    if "time" not in named:
        found |= _times(found, table, sample)
    refuse_missing(found, table, sample)
    return found


def _times(found: dict[str, int], table: Headings, sample: pd.DataFrame | None) -> dict[str, int]:
    """Return where stamps are that stand in several columns; an index that only counts the rows is taken out.

    A ``day`` stands next to a time of day, a ``clock`` or an ``hour`` and a ``minute`` next to a time that is a day;
    ``year`` and ``month`` may have a ``day_of_month``, ``hour``, ``minute`` and ``second``.
    """
    time = found.get("time")
    if time is not None and sample is not None and plain(table.all[time]) in _COUNTS and _counts(sample.iloc[:, time]):
        del found["time"]
        time = None
    parts = {name: table.places[name][0] for name in PARTS if name in table.places and name not in table.absent}
    if {"year", "month"} <= parts.keys() and (
        time is None or time in parts.values() or plain(table.all[time]) == "time"
    ):
        if "time" in found and (time in parts.values() or "hour" in parts):
            del found["time"]
        return {("day_of_month" if name == "day" else name): place for name, place in parts.items()}
    if "day" in found:
        return {}
    days = [place for name in DAY for place in table.places.get(name, ())]
    others = [place for place in days if place != time]
    clocks = [place for name in CLOCK for place in table.places.get(name, ()) if place != time]
    if clocks and time in days:
        if "minute" in parts and clocks[0] == parts.get("hour"):
            return {name: parts[name] for name in ("hour", "minute", "second") if name in parts}
        return {"clock": clocks[0]}
    return {"day": others[0]} if others and time is not None else {}


def _counts(column: pd.Series) -> bool:
    """Whether cells count the rows."""
    numbers = pd.to_numeric(column.dropna().astype(str), errors="coerce").to_numpy(dtype=np.float64)
    return len(numbers) > 0 and numbers[0] < _FIRST and bool((np.diff(numbers) == 1).all())


class Headings:
    """A table's headings by how they read; its absent columns are those that the user declared so."""

    def __init__(self, headings: list[Hashable], source: str, absent: set[str]) -> None:
        self.all, self.source, self.absent = headings, source, absent
        self.places: dict[str, list[int]] = {}
        for place, heading in enumerate(headings):
            self.places.setdefault(plain(heading), []).append(place)

    def given(self, column: str, heading: str | int) -> int:
        """Return where the column is that the user names."""
        if isinstance(heading, int):
            if not 0 <= heading < len(self.all):
                raise MarketError(
                    f"{self.source}: no column {heading} (env.market.columns.{column}): there are {len(self.all)}, "
                    "counted from 0"
                )
            return heading
        exact = [place for place, one in enumerate(self.all) if str(one).strip() == heading.strip()]
        if len(exact) != 1 and plain(heading) not in self.places:
            raise MarketError(f"{self.source}: no column {heading!r} (env.market.columns.{column}); {there(self.all)}")
        return exact[0] if len(exact) == 1 else self._only(plain(heading), column)

    def usual(self, column: str) -> int | None:
        """Return where the column is by its usual names."""
        name = next((alias for alias in ALIASES[column] if alias in self.places), None)
        if name is None or (column == "time" and name in _COUNTS):
            name = self._with_unit(column) or name
        return None if name is None else self._only(name, column)

    def _with_unit(self, column: str) -> str | None:
        """Return the name of a column that has its unit behind it: open (USD)."""
        english = column == "volume"  # of which several may stand there, in units and in money
        names = [name for name in self.places if not (english and name.startswith("vol"))]
        without = [_UNIT.sub("", name) for name in names]
        alias = next((one for one in ALIASES[column] if len(one) > 1 and one in without), None)
        if alias is None:
            return None
        found = [name for name, bare in zip(names, without, strict=True) if bare == alias]
        if len(found) > 1:
            self.places[alias] = [self.places[name][0] for name in found]
            return alias
        return found[0]

    def _only(self, name: str, column: str) -> int:
        """Return the one place of a name. :raises MarketError: where there are two."""
        first, *others = self.places[name]
        if others:
            ways = ", or ".join(setting(f"columns.{column}", place) for place in (first, *others))
            raise MarketError(
                f"{self.source}: columns {self.all[first]!r} and {self.all[others[0]]!r} cannot be distinguished; "
                f"choose one by its position, counted from 0: set {ways}"
            )
        return first

    def other_volumes(self, found: Mapping[str, int]) -> dict[str, int]:
        """Return further columns of volume: one in place of a volume of zeros, one in money next to one in units."""
        units = [places[0] for name, places in self.places.items() if _is_volume_in_a_unit(name)]
        if "volume" not in found:
            more = dict(zip(("volume", "other_volume"), units, strict=False))
            return more | {"guessed_volume": units[0]} if units else more
        names = [name for name in ALIASES["volume"] if name in self.places]
        spare = [place for name in names for place in self.places[name] if place != found["volume"]]
        return {key: places[0] for key, places in (("spare_volume", spare), ("other_volume", units)) if places}


def has_time_and_close(words: Iterable[str], given: Mapping[Column, Heading] | None = None) -> bool:
    """Whether words are headings of a table, of a time and a close among others."""
    names = {plain(word) for word in words}
    if {"year", "month"} <= names:
        names.add("time")
    for column in ("time", "close"):
        called = (given or {}).get(column)
        wanted = {plain(called)} if isinstance(called, str) else set(ALIASES[column])
        if not isinstance(called, int) and not names & wanted:
            return False
    return True


def is_a_number_column(heading: str) -> bool:
    """Whether a heading is a usual name of a price or a volume."""
    return any(plain(heading) in ALIASES[name] for name in ("open", "high", "low", "close", "adjusted_close", "volume"))


def is_a_close(heading: Hashable) -> bool:
    """Whether a heading may be of a price at the close, whichever column was taken for it."""
    return plain(heading) in _CLOSES


def _declared_absent(named: Mapping[Column, Heading]) -> set[str]:
    absent = {column for column, heading in named.items() if heading == NONE}
    for column in ("time", "close"):
        if column in absent:
            raise MarketError(f"env.market.columns.{column}: a market needs it; name its heading, or position from 0")
    return set(absent)


def _is_volume_in_a_unit(name: str) -> bool:
    match = _VOLUME_IN.fullmatch(name)
    return match is not None and _MADE.fullmatch(match["word"] or match["unit"]) is None
