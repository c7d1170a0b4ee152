"""Prices: an instrument's bars, checked once for every source of them, and the market that holds several."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

YEAR = 365.25 * 86_400  # seconds
_PRICES = ("open", "high", "low", "close")


class MarketError(ValueError):
    """Prices that cannot be used; the message names the file, the row or column, and the way out."""


def no_true_opens(market: Market, settable: bool) -> MarketError:
    """Return the refusal to fill at opens that are not real.

    :param settable: whether the market's source has the setting ``opens_are_real``
    """
    text = f"{market.name} has no true opens: set env.fill=next_close"
    if settable and any((one.open != one.close).any() for one in market.instruments):
        text += (
            ", or env.market.opens_are_real=true if orders can be filled at them, as where trading never pauses and a "
            "bar opens where the last one closed"
        )
    return MarketError(text)


@dataclass(frozen=True)
class Instrument:
    """Price history of one instrument, oldest bar first; all arrays have shape ``(n_bars,)``.

    ``time`` is when a bar closes (``datetime64[us]``, strictly increasing); prices are positive and finite, and lie
    between ``low`` and ``high``; ``volume`` is finite and not negative. ``regime`` holds the index of the true market
    regime of each bar where the market knows it. The arrays cannot be written to: a feature that did would change the
    prices that are traded.

    :raises MarketError: naming the first bar that is not so
    """

    symbol: str
    time: NDArray[np.datetime64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    regime: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        kinds = {"time": "datetime64[us]", **dict.fromkeys(_PRICES, "float64"), "volume": "float64"}
        if self.regime is not None:
            kinds["regime"] = "int64"
        if not isinstance(self.symbol, str):
            raise MarketError(f"symbol: expected the name of an instrument, got {self.symbol!r:.80}")
        for name, kind in kinds.items():
            try:
                column = np.asarray(
                    getattr(self, name), dtype=kind
                ).view()  # a view: a caller's own array stays as it is
            except (TypeError, ValueError, OverflowError, RuntimeError) as error:
                raise MarketError(f"{self.symbol}: {name}: expected an array of {kind} ({error})") from None
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        for name in kinds:
            if (shape := getattr(self, name).shape) != (len(self),) or len(self) == 0:
                raise MarketError(
                    f"{self.symbol}: expected one number a bar in each array, got {name} of shape {shape} and close of "
                    f"shape {self.close.shape}"
                )
        _check_bars(self)

    def __len__(self) -> int:
        return self.close.size

    def seconds(self) -> float:
        """Return the time from the first bar to the last. :raises MarketError: where there is a single bar."""
        if len(self) < 2:
            raise MarketError(
                f"{self.symbol} has a single bar, at {self.time[0]}, and a return needs two; load more bars of it, or "
                "leave it out"
            )
        return float((self.time[-1] - self.time[0]) / np.timedelta64(1, "s"))

    @property
    def bars_per_year(self) -> float:
        """Bars in a year of 365.25 days, from the first and the last time stamp: annualises the metrics."""
        return (len(self) - 1) * YEAR / self.seconds()


def _check_bars(one: Instrument) -> None:
    """Refuse bars that are not what an instrument promises. :raises MarketError: naming the first of them."""
    slack = 1e-9  # prices scaled by one factor round differently
    top, bottom = np.maximum(one.open, one.close), np.minimum(one.open, one.close)
    broken = {}
    for name in _PRICES:
        price = getattr(one, name)
        broken[f"{name} to be positive and finite"] = ~(np.isfinite(price) & (price > 0))
    broken["volume to be finite and not negative"] = ~(np.isfinite(one.volume) & (one.volume >= 0))
    broken["open and close to lie between low and high"] = (one.high < top * (1 - slack)) | (
        one.low > bottom * (1 + slack)
    )
    broken["every bar to close later than the one before"] = np.append(False, ~(np.diff(one.time) > np.timedelta64(0)))
    for text, bars in broken.items():
        if bars.any():
            at = int(bars.argmax())
            bar = ", ".join(f"{name} {getattr(one, name)[at]:g}" for name in (*_PRICES, "volume"))
            raise MarketError(
                f"{one.symbol}: expected {text}, got bar {at} at {one.time[at]} with {bar} ({bars.sum()} such bars); "
                "mend or drop them where the market is loaded"
            )


@dataclass(frozen=True)
class Market:
    """Immutable price history of one or several instruments.

    :param opens_are_real: whether an order can be filled at the next open; close-only sources say no
    :param regime_names: names of the true regimes, empty where nobody knows them
    :param repaired: rows of each instrument that its source repaired or left out, empty where none ever is
    :param notes: what was found out, repaired and left out while each instrument was read, a phrase each
    :raises MarketError: no instrument, or two of one name
    """

    name: str
    instruments: tuple[Instrument, ...]
    opens_are_real: bool
    regime_names: tuple[str, ...] = ()
    repaired: tuple[int, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.instruments, list | tuple) or not all(
            isinstance(x, Instrument) for x in self.instruments
        ):
            raise MarketError(f"{self.name!s:.80}: instruments: expected a tuple of them, got {self.instruments!r:.80}")
        if not isinstance(self.opens_are_real, bool | np.bool_):
            raise MarketError(f"{self.name}: opens_are_real: expected True or False, got {self.opens_are_real!r:.80}")
        symbols = [one.symbol for one in self.instruments]
        if not symbols:
            raise MarketError(f"{self.name}: expected at least one instrument, got none")
        for symbol in symbols:
            if symbols.count(symbol) > 1:
                raise MarketError(
                    f"{self.name}: {symbols.count(symbol)} instruments are called {symbol!r}; rename them"
                )

    def sha256(self) -> str:
        """Return a hash of every stamp and price, to tell whether two runs saw the same data."""
        digest = hashlib.sha256()
        for one in self.instruments:
            digest.update(one.symbol.encode())
            for column in (one.time.astype(np.int64), one.open, one.high, one.low, one.close, one.volume):
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()
