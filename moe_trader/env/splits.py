"""Chronological cuts of a market into training, validation and test segments.

A split holds the bars whose returns it pays: its first decision falls on the close of the bar before it. So no reward
counts in two splits, and each split starts from bars that were known at the time. Neighbouring splits touch here; drop
bars between them, and test on one stretch of history after the other, with :mod:`moe_trader.env.walk_forward`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np

from moe_trader.env import SPLITS, Instrument, Market, MarketError, Segment, Split
from moe_trader.option import option


@option
class ByDate(Split):
    """Train on bars before ``validation``, validate on bars before ``test``, test on bars before ``end``.

    :param validation: first day of the validation split
    :param test: first day of the test split
    :param end: first day no longer used; ``None``: all bars
    """

    validation: datetime.date
    test: datetime.date
    end: datetime.date | None

    def __post_init__(self) -> None:
        if not (self.validation < self.test and (self.end is None or self.test < self.end)):
            raise ValueError(
                f"expected validation < test < end, got {self.validation}, {self.test}, {self.end or 'no end'}"
            )

    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return one segment for each instrument and split."""
        days = [np.datetime64(day) for day in (self.validation, self.test, self.end) if day is not None]

        def edges(one: Instrument) -> list[int]:
            found = [int(np.searchsorted(one.time, day)) for day in days]
            return found if self.end is not None else [*found, len(one)]

        return _cut(market, edges)


@option
class ByFraction(Split):
    """Train on the first bars of each instrument, validate on the next, test on the last.

    :param train: share of the bars, in (0, 1)
    :param validation: share of the bars; what remains is the test split
    """

    train: float
    validation: float

    def __post_init__(self) -> None:
        if not (self.train > 0 and self.validation > 0 and self.train + self.validation < 1):
            raise ValueError(
                f"expected train > 0, validation > 0 and train + validation < 1, got {self.train}, {self.validation}"
            )

    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return one segment for each instrument and split."""
        shares = (self.train, self.train + self.validation, 1.0)
        return _cut(market, lambda one: [round(len(one) * share) for share in shares])


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


def _cut(market: Market, edges: Callable[[Instrument], list[int]]) -> dict[str, list[Segment]]:
    """Cut every instrument at ``edges(instrument)``: the stops of the training, validation and test segments."""
    found: dict[str, list[Segment]] = {split: [] for split in SPLITS}
    for index, one in enumerate(market.instruments):
        stops = edges(one)
        for split, start, stop in zip(SPLITS, [0, *stops[:-1]], stops, strict=True):
            if stop - start < 2:
                raise MarketError(
                    f"{market.name}: the {split} split of {one.symbol} has {stop - start} bars, and needs at least 2; "
                    f"its {len(one)} bars run from {one.time[0]} to {one.time[-1]}: change env.split"
                )
            found[split].append(Segment(index, start, stop))
    return found
