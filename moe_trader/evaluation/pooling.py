"""Several instruments as one: the only definition of "over instruments" for tables, intervals, figures and verdicts.

*Weights.* An instrument weighs in proportion to the time it covers in the split, from its first decision to its last
close. Equal spans weigh equally, whatever their calendars: a coin has 365 bars a year, a stock 252, an hourly series
thousands. A mean over bars gives each bar the weight of its instrument divided by its number of bars.

*Rows.* The bootstrap draws moments, not bar numbers: all that was paid at one time stamp is one row. An instrument
without a bar at that time adds nothing to the row.

*Years.* Each instrument is annualised by its own calendar. A span below four weeks has no annual figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_trader.evaluation import Floats

YEAR = np.timedelta64(31_557_600, "s")  # 365.25 days
LEAST_SPAN = np.timedelta64(28, "D")  # below it, annual figures are left out


class Pooling:
    """How the instruments of one split are joined.

    :param instruments: of the split, see :class:`moe_trader.env.evaluated.Evaluated`; anything with a length, ``time``
        and ``paid`` (``datetime64``, shape ``(n_bars,)``) and ``bars_per_year``
    """

    def __init__(self, instruments: Sequence[Any]) -> None:
        self._instruments = instruments
        self.n_bars = np.array([len(one) for one in instruments])
        self._spans = np.array([one.paid[-1] - one.time[0] for one in instruments])

    @cached_property
    def weights(self) -> Floats:
        """Weight of each instrument, shape ``(n_instruments,)``; they sum to 1."""
        spans = self._spans / np.timedelta64(1, "s")
        weights: Floats = spans / spans.sum()
        return weights

    @cached_property
    def bars_per_year(self) -> Floats:
        """Bars a year in each instrument's own calendar, shape ``(n_instruments,)``; NaN below :data:`LEAST_SPAN`."""
        rates = np.array([one.bars_per_year for one in self._instruments], dtype=np.float64)
        return np.where(self._spans >= LEAST_SPAN, rates, np.nan)

    @cached_property
    def annual_weights(self) -> Floats:
        """The weights among instruments that have annual figures, shape ``(n_instruments,)``; NaN if none has."""
        kept = np.where(np.isfinite(self.bars_per_year), self.weights, 0.0)
        return kept / kept.sum() if kept.any() else np.full(len(kept), np.nan)

    @cached_property
    def bar_weights(self) -> Floats:
        """Weight of one bar of each instrument in a mean over bars, shape ``(n_instruments,)``."""
        weights: Floats = self.weights / self.n_bars
        return weights

    @cached_property
    def there(self) -> NDArray[np.bool_]:
        """Whether an instrument has the bar, shape ``(n_decisions, n_instruments)``."""
        return np.arange(self.n_bars.max())[:, None] < self.n_bars

    def mean(self, values: Floats, within: Floats | None = None) -> Floats:
        """Return the mean over the bars of all instruments.

        :param values: shape ``(n_decisions, n_instruments, ...)``; ignored where there is no bar
        :param within: indicators of the bars that count, shape ``(n_decisions, n_instruments, Z)``: the share of all
            bars times the mean over them comes back for each, shape ``(Z, ...)``
        """
        if within is None:
            return np.asarray(np.einsum("i,ti...->...", self.bar_weights, self._known(values)))
        return np.asarray(np.einsum("i,tiz,ti...->z...", self.bar_weights, within, self._known(values)))

    def total(self, values: Floats) -> Floats:
        """Return the sum over the bars of each instrument, and its weighted mean over instruments.

        :param values: shape ``(n_decisions, n_instruments, ...)``; ignored where there is no bar
        """
        return np.asarray(np.einsum("i,ti...->...", self.weights, self._known(values)))

    def mean_rows(self, values: Floats, within: Floats | None = None) -> Floats:
        """Return what each row adds to :meth:`mean`, shape ``(n_rows, ...)`` or ``(n_rows, Z, ...)``."""
        return self._rows(values, self.bar_weights, within)

    def total_rows(self, values: Floats) -> Floats:
        """Return what each row adds to :meth:`total`, shape ``(n_rows, ...)``."""
        return self._rows(values, self.weights)

    def instrument_rows(self, values: Floats) -> Floats:
        """Return each instrument's values on the common rows, shape ``(n_rows, n_instruments)``, 0 without a bar."""
        rows = np.zeros((self.n_rows, len(self.n_bars)))
        for i, n in enumerate(self.n_bars):
            rows[self._row[i], i] = values[:n, i]
        return rows

    @cached_property
    def n_rows(self) -> int:
        """Number of different time stamps at which any instrument was paid."""
        return len(self._stamps)

    @cached_property
    def block(self) -> float:
        """Mean length of a bootstrap block in rows: as long as sqrt(n) bars of the instrument with the most bars."""
        most = int(self.n_bars.argmax())
        rows = self._row[most]
        return float(np.sqrt(len(rows)) * (rows[-1] - rows[0] + 1) / len(rows))

    @cached_property
    def _stamps(self) -> NDArray[np.datetime64]:
        return np.unique(np.concatenate([one.paid for one in self._instruments]))

    @cached_property
    def _row(self) -> list[NDArray[np.int64]]:
        """Row of each bar, an array for each instrument."""
        return [np.searchsorted(self._stamps, one.paid) for one in self._instruments]

    def _rows(self, values: Floats, weights: Floats, within: Floats | None = None) -> Floats:
        known = self._known(values)
        groups = () if within is None else (within.shape[2],)
        rows = np.zeros((self.n_rows, *groups, *values.shape[2:]))
        for i, n in enumerate(self.n_bars):  # an instrument has one bar at a stamp
            mine = weights[i] * known[:n, i]
            rows[self._row[i]] += mine if within is None else np.einsum("tz,t...->tz...", within[:n, i], mine)
        return rows

    def _known(self, values: Floats) -> Floats:
        """Return the values, 0 where an instrument has no bar: NaN stands there."""
        return np.where(self.there.reshape(self.there.shape + (1,) * (values.ndim - 2)), values, 0.0)
