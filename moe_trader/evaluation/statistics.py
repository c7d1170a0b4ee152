"""Intervals: over seeds by Student's t, over bars by the stationary bootstrap of Politis and Romano (1994).

The bootstrap respects how returns hang together in time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moe_trader.evaluation import Floats

REPETITIONS = 500
LEVEL = 0.95
_DRAWS_AT_ONCE = 20  # divides the repetitions


def t_interval(values: Floats) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % t-interval, NaN for fewer than two values.

    Of seeds it says how much training varies; prices stay the same, so it does not say how much markets do.
    """
    if len(values) < 2:
        return float(values.mean()), float("nan")
    from scipy import stats

    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def intervals_of_sums(values: Floats, statistic: Callable[[Floats], Floats], seed: int, block: float) -> Floats:
    """Return 95 % percentile intervals of a statistic that needs no more of the rows than their sums.

    Means, shares, ratios of moments: a row drawn twice counts twice, and no row is copied.

    :param values: shape ``(n_rows, n_sums)``: what happens in one row stays together; 0 where a row adds nothing. Or
        ``(n_groups, n_rows, n_sums)``: the sums of a group are then the same to the bit whatever the other groups are
    :param statistic: sums, shape ``(n_sums,)`` or ``(n_groups, n_sums)`` -> vector
    :param block: mean length of the blocks drawn, in rows
    :return: shape ``(2, len(vector))``: lower and upper ends
    """
    from arch.bootstrap import StationaryBootstrap  # seconds to import: only evaluation pays

    n = values.shape[-2]
    sampler = StationaryBootstrap(
        max(1.0, block),  # type: ignore[arg-type]  # a mean length need not be whole
        np.arange(n),
        seed=np.random.default_rng(seed),
    )
    times = np.empty((_DRAWS_AT_ONCE, n))
    draws = []
    for number, (data, _) in enumerate(sampler.bootstrap(REPETITIONS), start=1):
        times[(number - 1) % _DRAWS_AT_ONCE] = np.bincount(data[0], minlength=n)
        if number % _DRAWS_AT_ONCE == 0:
            draws += [statistic(sums) for sums in np.moveaxis(times @ values, -2, 0)]
    return _bounds(np.stack(draws))


def _bounds(draws: Floats) -> Floats:
    """Return the ends of each column, of the draws in which it exists."""
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    bounds = np.full((2, draws.shape[1]), np.nan)
    for column, drawn in enumerate(draws.T):
        known = drawn[~np.isnan(drawn)]
        if len(known):  # the Sharpe ratio of an account that never trades does not exist
            bounds[:, column] = np.quantile(known, tails)
    return bounds
