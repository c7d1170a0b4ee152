"""Refusals of tables whose columns are not all known: the settings that name them, judged by headings and cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from moe_trader.env import MarketError
from moe_trader.env.reading.guess import candidates, guess, opens_may_be_closes
from moe_trader.env.reading.headings import ALIASES, NONE, PRICES, looks_like_data, plain, there
from moe_trader.env.reading.ways import setting, settings

if TYPE_CHECKING:
    from moe_trader.env.reading.columns import Headings

_NAMED = 5  # usual names that an error lists
_A_PRICE = re.compile("open|high|low|close|price|wap|average|avg|adj", re.IGNORECASE)
# Parts of headings that give a column away, if only one heading has them.
_PARTS = {
    "open": re.compile(r"open|opn|eröff|ouvert|apert|abert|otwar|prcod"),
    "high": re.compile(r"high|hoch|höchst|haut|máx|max(?!.*min)|hi$|prchd"),
    "low": re.compile(r"(?<![a-z])low|low(?![a-z])|tief|mín|min(?!u)|lo$|prcld"),
    "close": re.compile(r"clos|(?<![a-z])last|settle|schlu|clôt|cierre|chius|fecham|zamkn|trdprc|^prc|prccd"),
    "volume": re.compile(r"volum|(?<![a-z])vol|acvol|shares|quantity|qty|cshtrd|stück"),
}
_NOT_SO = re.compile(
    r"adj|prev|pre |pct|chg|change|%|interest|oi$|time|date|52|vwap|ask(?!hi)|bid(?!lo)|avg|average|(?<![a-z])ma"
)


def refuse_missing(found: Mapping[str, int], table: Headings, sample: pd.DataFrame | None) -> None:
    """Refuse a table without a time or a close, or with some prices of a bar and not the others.

    :raises MarketError: naming the columns that are missing, and settings that read the table
    """
    closes_only = not {"open", "high", "low"} & found.keys()
    required = ("time", "close") if closes_only else ("time", *PRICES)
    missing = [name for name in required if name not in found and not (name == "time" and "year" in found)]
    if not missing:
        return
    headless = looks_like_data(table.all)
    wanted = "; ".join(f"{name} ({_usual_names(name)})" for name in missing)
    ways = _ways(found, missing, table, sample, headless)
    text = f"{table.source}: missing column {wanted}; where it is called something else, set {ways}; {there(table.all)}"
    if headless:
        text += "; the first row looks like data: add a header, or name columns by position, counted from 0"
    elif len(table.all) == 1:
        text += "; this is one cell: put a comma, semicolon, tab or | between the columns, or say sep=X in a first line"
    elif sample is not None and sample.empty:
        text += "; no row below them has as many cells: give the file with its header and rows"
    raise MarketError(text)


def _ways(
    found: Mapping[str, int], missing: list[str], table: Headings, sample: pd.DataFrame | None, headless: bool
) -> str:
    """Return the settings that would find the missing columns: guessed from the first rows, or to be filled in."""
    hints = {} if headless else _hints(found, table)
    prices = [name for name in missing if name not in ("time", "close")]
    if prices == missing and set(missing) <= hints.keys():
        return _chosen(table, {name: hints[name] for name in missing}, found, {}, headless)
    if prices == missing:  # of a bar, and the rest is there
        absent = {f"columns.{name}": NONE for name in ("open", "high", "low") if name not in prices}
        ways = [" ".join(setting(f"columns.{name}", "HEADING") for name in missing)]
        return f"{ways[0]} or, to read closes only, {settings({**absent, 'env.fill': 'next_close'})}"
    if sample is not None and headless and all(isinstance(cell, str) for cell in table.all):
        first = pd.DataFrame([table.all], columns=sample.columns)
        sample = pd.concat([first, sample.astype(str)], ignore_index=True)
    roles, needed = ({}, {}) if sample is None else guess(sample, {} if headless else found, hints)
    if not set(missing) <= roles.keys():
        closes = candidates(sample, roles) if sample is not None and missing[-1] == "close" else []
        if closes and "time" in roles:
            return ", or ".join(_chosen(table, roles | {"close": place}, found, needed, headless) for place in closes)
        blank = "POSITION" if headless else "HEADING"
        return " ".join(setting(f"columns.{name}", blank) for name in missing)
    bar = [name for name in ("open", "high", "low") if name in roles]
    if 0 < len(bar) < len(PRICES) - 1:
        roles = {name: place for name, place in roles.items() if name not in bar or name in found}
    chosen = _chosen(table, roles, found, needed, headless)
    if headless or sample is None or {"open", "close"} & {*found, *hints} or not {"open", "close"} <= roles.keys():
        return chosen
    if not opens_may_be_closes(sample, roles):
        return chosen
    turned = {**roles, "open": roles["close"], "close": roles["open"]}
    return f"{chosen}, or, if these are closes and opens, {_chosen(table, turned, found, needed, headless)}"


def _hints(found: Mapping[str, int], table: Headings) -> dict[str, int]:
    """Return the columns that a part of their heading gives away, where no other heading has it."""
    hints: dict[str, int] = {}
    for name, part in _PARTS.items():
        if name in found:
            continue
        places = [
            place
            for place, heading in enumerate(table.all)
            if place not in found.values() and part.search(plain(heading)) and not _NOT_SO.search(plain(heading))
        ]
        places = [place for place in places if place not in hints.values()]
        if len(places) == 1:
            hints[name] = places[0]
    return hints


def _chosen(
    table: Headings, roles: Mapping[str, int], found: Mapping[str, int], needed: Mapping[str, str], headless: bool
) -> str:
    """Return the settings that name the columns that were guessed, by heading where that is unique."""
    unique = not headless and all(len(places) == 1 for places in table.places.values())
    chosen: dict[str, str | int] = {}
    for name, place in roles.items():
        if headless or name not in found:
            chosen[f"columns.{name}"] = str(table.all[place]).strip() if unique else place
    if not headless and _A_PRICE.search(str(chosen.get("columns.volume", ""))):
        del chosen["columns.volume"]  # of another instrument side by side
    instruments = {str(chosen.get(f"columns.{name}", "")).lower().removesuffix(name) for name in PRICES}
    prefix = instruments.pop() if len(instruments) == 1 else ""  # empty where all prices are known
    if prefix and (name := str(chosen["columns.close"])[: len(prefix)].strip(" .:_-")):
        chosen["symbol"] = name
    return settings({**chosen, **needed})


def _usual_names(column: str) -> str:
    names = ALIASES[column]
    return f"any of {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
