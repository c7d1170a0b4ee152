"""Intervals that respect how returns hang together in time: the stationary bootstrap of Politis and Romano (1994)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moe_trader.evaluation import Floats

REPETITIONS = 500
LEVEL = 0.95


def intervals(values: Floats, statistic: Callable[[Floats], Floats], seed: int) -> Floats:
    """Return 95 % percentile intervals of a statistic of rows, resampling blocks of sqrt(n) rows on average.

    :param values: shape ``(n_bars, ...)``: what happens in one bar stays together
    :param statistic: rows -> vector
    :return: shape ``(2, len(vector))``: lower and upper ends
    """
    from arch.bootstrap import StationaryBootstrap  # seconds to import: only who evaluates pays

    sampler = StationaryBootstrap(max(1.0, len(values) ** 0.5), values, seed=np.random.default_rng(seed))
    draws = np.stack([statistic(data[0]) for data, _ in sampler.bootstrap(REPETITIONS)])
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    bounds = np.full((2, draws.shape[1]), np.nan)
    for column, drawn in enumerate(draws.T):
        known = drawn[~np.isnan(drawn)]
        if len(known):  # the Sharpe ratio of an account that never trades does not exist
            bounds[:, column] = np.quantile(known, tails)
    return bounds
