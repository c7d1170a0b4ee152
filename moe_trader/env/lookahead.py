"""The look-ahead self-check: no feature row may change when bars after it do.

Bars after a moment t are altered (prices, volumes and stamps), then cut off, every feature is computed again, and its
rows from its warm-up to t must be what they were: whatever changes there used bars that nobody could know at t. Two
more things must not change a row: computing it a second time, and other true regimes, which no observation may hold. A
feature that learns is checked as it was fitted; that it is fitted on training bars is seen to by what it is given.

A leak that is found is one. That none is found proves less: it means that none showed at the moments that were tried.
These are some at random over every instrument, and on the longest one the bars just after each feature's warm-up and a
run somewhere in the middle, bar by bar (leaks of the first bars, and of one weekday, hide from moments far apart). A
feature that looks ahead on a few other bars alone, or on one instrument's only, can pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from moe_trader.bounds import Seed, Times
from moe_trader.env import Feature, Floats, Instrument, Market, MarketError
from moe_trader.env.features import computed
from moe_trader.option import option

_BARS = ("open", "high", "low", "close", "volume")
_RUN = 7  # moments one bar apart: a week of any market
_DEARER = 8.0  # a power of two, by which prices that tie still tie
_SCALED = 1e-6  # as below, of prices in another currency, whose logarithms round differently
_TOLERANCE = 1e-9  # of a column's value and of its standard deviation: rounding differs, look-ahead is far larger


class LookAheadError(ValueError):
    """A feature that looks ahead; the message names it, its column and the bar."""


@dataclass(frozen=True)
class Leak:
    """A row that changed though nothing known at its time did.

    :param feature: name in ``env.features``
    :param column: the first of its columns that changed
    :param instrument: symbol
    :param time: close of the latest bar whose row changed
    :param cause: what had been altered
    """

    feature: str
    column: str
    instrument: str
    time: np.datetime64
    cause: str

    def __str__(self) -> str:
        return (
            f"env.features.{self.feature}: {self.column} of {self.instrument} at {self.time} changed when {self.cause}"
        )


@option
class LookAhead:
    """The self-check's settings.

    :param cuts: moments t after which bars are altered, spread at random over the market, at least one per instrument;
        those just after the warm-ups come on top
    :param seed: of the moments and of the altered bars
    """

    cuts: Times
    seed: Seed

    def leaks(self, features: Mapping[str, Feature], market: Market) -> list[Leak]:
        """Return the first leak found of each feature that has one; an empty list: none was seen to look ahead."""
        rng = np.random.default_rng(self.seed)
        each = -(-self.cuts // len(market.instruments))
        longest = max(market.instruments, key=len)
        warmups = sorted({feature.warmup() for feature in features.values()})
        found: dict[str, Leak] = {}
        for one in market.instruments:
            truth = {name: computed(name, feature, one) for name, feature in features.items()}
            for cause, altered, known in _altered(one, rng, each, warmups if one is longest else None):
                for name, feature in features.items():
                    first = feature.warmup()  # rows before it are never seen
                    if name in found or known <= first:
                        continue
                    again = _recomputed(name, feature, altered, cause)
                    changed = _changed(truth[name][first:], again[first:known])
                    if len(changed):
                        bar, column = changed[-1][0] + first, changed[:, 1].min()
                        found[name] = Leak(name, feature.columns()[column], one.symbol, one.time[bar], cause)
        return [found[name] for name in features if name in found]

    def check(self, features: Mapping[str, Feature], market: Market) -> None:
        """Refuse features that look ahead. :raises LookAheadError: naming each of them."""
        leaks = self.leaks(features, market)
        if leaks:
            raise LookAheadError(explain(leaks))


def unscaled(features: Mapping[str, Feature], market: Market) -> dict[str, str]:
    """Return the features that change when all prices are multiplied by a constant, each with its first such column."""
    one = max(market.instruments, key=len)
    dearer = dataclasses.replace(one, **{name: getattr(one, name) * _DEARER for name in _BARS if name != "volume"})
    found = {}
    for name, feature in features.items():
        before, after = (computed(name, feature, bars)[feature.warmup() :] for bars in (one, dearer))
        changed = _changed(before, after, _SCALED)
        if len(changed):
            found[name] = feature.columns()[changed[:, 1].min()]
    return found


def explain(leaks: list[Leak]) -> str:
    """Return the error for features that look ahead."""
    listed = "\n".join(map(str, leaks))
    return (
        f"{listed}\nA row may use its own bar and earlier ones alone: look for centred windows, shift(-1), backward "
        "filling, and means, extremes or fits over the whole series"
    )


def _altered(
    one: Instrument, rng: np.random.Generator, cuts: int, warmups: Sequence[int] | None
) -> Iterator[tuple[str, Instrument, int]]:
    """Yield what was altered, the altered instrument, and how many leading rows must be as they were.

    :param cuts: moments at random, one in each of as many equal stretches
    :param warmups: whose next bars are tried one by one, besides a run in the middle; ``None``: no runs
    """
    n = len(one)
    yield "it was computed a second time: it is not a function of the bars", _copy(one), n
    if one.regime is not None:
        yield "the true regimes were, which no observation may hold", _copy(one, regime=one.regime[::-1] + 1), n
    if n < 2:
        return
    moments = [(int(rng.uniform(low, high)), n) for low, high in pairwise(np.linspace(0, n - 1, cuts + 1).tolist())]
    if warmups is not None:
        middle = int(rng.integers(n))
        moments += [(at, n) for at in range(middle, middle + _RUN)]
        for first in warmups:  # few bars are computed faster, and tell as much
            moments += [(at, 4 * at + 250) for at in range(max(first, 1), first + _RUN)]
    for last, until in moments:
        if last <= n - 2:
            known = _cut_off(one, min(until, n) - 1)
            yield f"the bars after {one.time[last]} were altered", _poisoned(known, last, rng), last + 1
            yield f"the bars after {one.time[last]} were cut off", _cut_off(one, last), last + 1


def _recomputed(name: str, feature: Feature, altered: Instrument, cause: str) -> Floats:
    try:
        return computed(name, feature, altered)
    except MarketError:
        raise
    except Exception as error:
        raise LookAheadError(
            f"env.features.{name}: {type(feature).__name__}.compute fails on {len(altered)} bars of {altered.symbol} "
            f"when {cause} ({type(error).__name__}: {error}); it must take any bars, and any number of them beyond its "
            f"warmup() of {feature.warmup()}: make that longer, or the rows before it NaN"
        ) from error


def _changed(before: Floats, after: Floats, tolerance: float = _TOLERANCE) -> np.ndarray:
    """Return the (row, column) pairs of ``after`` that differ by more than rounding from ``before``, the longer one.

    A row that is and stays NaN does not.
    """
    spread = np.where(np.isfinite(before), before, 0.0).std(axis=0)
    same = np.isclose(after, before[: len(after)], rtol=tolerance, atol=tolerance * spread, equal_nan=True)
    return np.argwhere(~same)


def _copy(one: Instrument, **changes: np.ndarray) -> Instrument:
    columns = {name: getattr(one, name).copy() for name in ("time", *_BARS)}
    return dataclasses.replace(one, **(columns | changes))


def _cut_off(one: Instrument, last: int) -> Instrument:
    columns = {name: getattr(one, name)[: last + 1].copy() for name in ("time", *_BARS)}
    return dataclasses.replace(one, **columns, regime=None if one.regime is None else one.regime[: last + 1].copy())


def _poisoned(one: Instrument, last: int, rng: np.random.Generator) -> Instrument:
    """Return the instrument with other prices, volumes and stamps after bar ``last``; bars stay well formed."""
    later = np.arange(len(one)) > last
    factor = np.where(later, np.exp(rng.normal(0.0, 1.0, len(one))), 1.0)
    columns = {name: getattr(one, name) * factor for name in _BARS}
    columns["high"] = columns["high"] * np.where(later, 1.1, 1.0)
    columns["low"] = columns["low"] / np.where(later, 1.1, 1.0)
    columns["volume"] = columns["volume"] + np.where(later, rng.uniform(0.0, 1.0, len(one)), 0.0)
    steps = np.diff(one.time, prepend=one.time[:1]) * np.where(later, rng.integers(2, 5, len(one)), 1)
    return dataclasses.replace(one, **columns, time=one.time[0] + np.cumsum(steps))
