"""Chronological cuts of a market into training, validation and test segments.

A split holds the bars whose returns it pays: its first decision falls on the close of the bar before it. So no reward
counts in two splits, and each split starts from bars that were known at the time. Neighbouring splits touch here; drop
bars between them, and test on one stretch of history after the other, with :mod:`moe_trader.env.walk_forward`.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from moe_trader.bounds import Probability
from moe_trader.env import SPLITS, Instrument, Market, MarketError, Segment, Split
from moe_trader.option import option

if TYPE_CHECKING:
    from moe_trader.env.lanes import Stretch

log = logging.getLogger(__name__)


def _day(value: Any) -> Any:
    """Refuse what is no day in words that say how to write one: pydantic takes 2012 for a number of seconds."""
    try:
        return value if isinstance(value, datetime.date) else datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("day", "expected a date like 2012-01-01") from None


def check_split(name: str) -> str:
    """Return the name of a split. :raises ValueError: for what is none."""
    if not isinstance(name, str) or name not in SPLITS:
        raise ValueError(f"expected a split among {', '.join(SPLITS)}, got {name!r:.80}")
    return name


def period(times: np.ndarray, parts: Sequence[Stretch]) -> tuple[str, str]:
    """Return the days, ISO 8601, of the first and the last bar that decisions are made on, over all instruments.

    :param times: of every bar of the market, one instrument after the other
    :param parts: of a split
    """
    ends = [times[[part.first + 1, part.last]] for part in parts]
    first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    return str(np.datetime_as_string(first, "D")), str(np.datetime_as_string(last, "D"))


def split_line(name: str, parts: Sequence[Stretch], times: np.ndarray) -> str:
    """Return which bars a split decides on, in words.

    :param parts: where its episodes run
    :param times: of all bars, one instrument after the other
    """
    first, last = period(times, parts)
    return (
        f"{name.capitalize()}: {sum(map(len, parts)):,} bars of {len(parts)} instrument{'s'[: len(parts) - 1]}"
        f", {first} to {last}"
    )


Day = Annotated[datetime.date, BeforeValidator(_day)]


@option
class ByDate(Split):
    """Train on bars before ``validation``, validate on bars before ``test``, test on bars before ``end``.

    :param validation: first day of the validation split
    :param test: first day of the test split
    :param end: first day no longer used; ``None``: all bars
    """

    validation: Day
    test: Day
    end: Day | None

    def __post_init__(self) -> None:
        if not (self.validation < self.test and (self.end is None or self.test < self.end)):
            raise ValueError(
                f"expected validation < test < end, got {self.validation}, {self.test}, {self.end or 'no end'}"
            )

    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return one segment for each instrument and split."""
        days = (self.validation, self.test, self.end)
        return _cut(market, [None if day is None else np.datetime64(day) for day in days])


@option
class ByFraction(Split):
    """Train on the first bars of the market, validate on the next, test on the last.

    The shares are of all times at which any instrument has a bar. So every instrument is cut at the same time: cut by
    its own length, one with a shorter history would be trained on days on which another is tested.

    :param train: share of the bars, in (0, 1)
    :param validation: share of the bars; what remains is the test split
    """

    train: Probability
    validation: Probability

    def __post_init__(self) -> None:
        if self.train + self.validation >= 1:
            raise ValueError(f"expected train + validation < 1, got {self.train} + {self.validation}")

    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return one segment for each instrument and split."""
        stamps = stamps_of(market)
        cuts = [round(len(stamps) * share) for share in (self.train, self.train + self.validation)]
        return _cut(market, [*(stamps[cut] if cut < len(stamps) else None for cut in cuts), None])


@option
class BySeries(Split):
    """Whole series: instrument ``train_0`` belongs to the training split, and so on (``env=synthetic``)."""

    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return one segment for each instrument."""
        found: dict[str, list[Segment]] = {split: [] for split in SPLITS}
        for index, one in enumerate(market.instruments):
            split = one.symbol.rpartition("_")[0]
            if split not in found:
                raise MarketError(
                    f"{market.name}: instrument {one.symbol!r} is not called train_, validation_ or test_"
                )
            found[split].append(Segment(index, 0, len(one)))
        for split, segments in found.items():
            if not segments:
                raise MarketError(f"{market.name}: no instrument is called {split}_0")
        return found


def playable(
    market: Market, segments: Mapping[str, list[Segment]], uses: int, regimes: int
) -> dict[str, list[Segment]]:
    """Return the bars that each split observes: from the one before its first, or from the end of the warm-ups on.

    The one place that knows both warm-ups. An instrument with fewer than two decisions in a split is left out of it.

    :param uses: bars that an observation uses, its own among them
    :param regimes: leading bars of an instrument that get no regime
    :raises MarketError: when a split has no instrument left
    """
    found: dict[str, list[Segment]] = {}
    for split, parts in segments.items():
        observed = [Segment(part.instrument, max(part.start - 1, uses - 1, regimes), part.stop) for part in parts]
        found[split] = [part for part in observed if part.stop - 1 - part.start >= 2]
        if not found[split]:
            raise _unplayable(market, split, parts, uses, regimes)
        kept = {part.instrument for part in found[split]}
        left = [market.instruments[part.instrument].symbol for part in parts if part.instrument not in kept]
        if left:
            log.warning(
                "%s: left out of the %s split, with too few bars there: %s", market.name, split, ", ".join(left)
            )
    return found


def stamps_of(market: Market) -> np.ndarray:
    """Return every time at which a bar of any instrument closes, in order."""
    times = [one.time for one in market.instruments]
    return times[0] if len(times) == 1 else np.unique(np.concatenate(times))  # a million take it a second


def place(one: Instrument, stamp: np.datetime64 | None) -> int:
    """Return the index of the first bar at or after ``stamp``; ``None``: the end of the market."""
    return len(one) if stamp is None else int(np.searchsorted(one.time, stamp))


def _cut(market: Market, stops: Sequence[np.datetime64 | None]) -> dict[str, list[Segment]]:
    """Cut every instrument at the same times: the stops of the training, validation and test segments."""
    found: dict[str, list[Segment]] = {split: [] for split in SPLITS}
    for index, one in enumerate(market.instruments):
        edges = [0, *(place(one, stop) for stop in stops)]
        for split, (start, stop) in zip(SPLITS, pairwise(edges), strict=True):
            found[split].append(Segment(index, start, stop))
    return found


def _unplayable(market: Market, split: str, parts: list[Segment], uses: int, regimes: int) -> MarketError:
    """Return the error for a split that leaves nothing to decide on, with the numbers of its longest segment."""
    if not parts:
        return MarketError(f"{market.name}: env.split puts no instrument into the {split} split")
    longest = max(parts, key=lambda part: part.stop - part.start)
    one, bars = market.instruments[longest.instrument], longest.stop - longest.start
    where = f"{market.name}: the {split} split of {one.symbol} has {bars} bars"
    if len(parts) > 1:
        where += " (no other instrument has more)"
    if bars < 2:
        return MarketError(
            f"{where}, and needs at least 2; its {len(one)} bars run from {one.time[0]} to {one.time[-1]}: change "
            "env.split"
        )
    if regimes > uses - 1:
        blame, remedy = "env.regimes needs", "shorter spans in env.regimes"
    else:
        blame, remedy = "env.features (with env.window and what the gate reads) need", "shorter feature spans"
    return MarketError(
        f"{where}, of which {blame} the first {max(uses - 1, regimes) - longest.start}; use {remedy} or a longer split"
    )
