"""Instruments that cannot be read side by side without care: bars of unequal length, short histories in a split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from moe_trader.env import Segment
from moe_trader.env.market import Instrument, Market

log = logging.getLogger(__name__)

_UNEQUAL = 1.5  # ratio of bar lengths that weekends and holidays do not explain
_SHORT = 0.5  # of the longest span in a split
_NAMED = 5  # instruments at most, in one line


def warn_of_unequal_bars(market: Market) -> None:
    """Log a warning where the usual bar of one instrument lasts longer than that of another."""
    steps = {one.symbol: np.median(np.diff(one.time)) for one in market.instruments if len(one) > 1}
    if not steps or max(steps.values()) <= _UNEQUAL * min(steps.values()):
        return
    least, most = (which(steps, key=steps.__getitem__) for which in (min, max))
    log.warning(
        "%s: bars differ in length: %s of %s, %s of %s. An episode, expert.gamma and feature spans count bars, so they "
        "mean different times for each",
        market.name,
        _duration(steps[least]),
        least,
        _duration(steps[most]),
        most,
    )


def warn_of_short_instruments(market: Market, observed: Mapping[str, Sequence[Segment]], splits: Sequence[str]) -> None:
    """Log a warning that names the instruments with less than half of the longest time in a split.

    :param observed: bars that each split observes
    """
    for split in splits:
        spans = {}
        for part in observed[split]:
            one = market.instruments[part.instrument]
            spans[one.symbol] = one.time[part.stop - 1] - one.time[part.start]
        longest, total = max(spans.values()), sum(spans.values(), np.timedelta64(0))
        short = [
            f"{symbol} {_duration(span)} ({100 * span / total:.1f} % of the weight)"
            for symbol, span in spans.items()
            if span < _SHORT * longest
        ]
        if short:
            more = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
            log.warning(
                "%s: short in the %s split, which covers %s: %s%s",
                market.name,
                split,
                _duration(longest),
                ", ".join(short[:_NAMED]),
                more,
            )


def calendar_of(instruments: Sequence[Instrument]) -> str:
    """Return the bars a year of some instruments as text: ``261`` or ``252 to 365``."""
    rates = sorted(one.bars_per_year for one in instruments)
    low, high = f"{rates[0]:,.0f}", f"{rates[-1]:,.0f}"
    return low if low == high else f"{low} to {high}"


def _duration(span: np.timedelta64) -> str:
    """Return a time span in its natural unit."""
    seconds = span / np.timedelta64(1, "s")
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= (1 if unit != "years" else 2) * length:
            number = f"{seconds / length:.1f}".removesuffix(".0")
            return f"{number} {unit.removesuffix('s') if number == '1' else unit}"
    return f"{seconds:g} seconds"
