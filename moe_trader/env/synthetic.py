"""A regime-switching market that knows its own regimes, and the Bayes-filter trader that bounds what can be earned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moe_trader.bounds import MOST_BARS, Positive, Probability, Real, Seed, Whole
from moe_trader.compiled import njit
from moe_trader.env import SPLITS, Floats, Instrument, Market, MarketSource
from moe_trader.memory import check_memory
from moe_trader.option import option

Correlation = Annotated[Real, Field(gt=-1, lt=1)]


@option
class Regime:
    """Dynamics of the log return r while a regime lasts: r' = mean + ar1 (r - mean) + volatility * N(0, 1).

    :param mean_bp: mean log return per bar, basis points
    :param ar1: first autoregressive coefficient, in (-1, 1)
    :param volatility_bp: standard deviation of the innovation per bar, basis points
    """

    mean_bp: Annotated[Real, Field(ge=-1_000, le=1_000)]
    ar1: Correlation
    volatility_bp: Annotated[Real, Field(gt=0, le=1_000)]


@option
class Synthetic(MarketSource):
    """Several series for each split, every one drawn with its own seed; opens equal the previous close.

    :param regimes: name -> dynamics
    :param regimes_later: their dynamics in the validation and test series; ``None``: the same. The names must be the
        same, for they are the columns of the tables
    :param persistence: probability that the next bar is of the same regime
    :param own_persistence: of the regimes that last longer or shorter than that; ``None``: none does
    :param switch_weights: when the regime changes, the relative chance of each other one; ``None``: equal chances
    :param bars: bars of each series (daily stamps, Monday to Friday)
    :param series: how many series each split has
    :param seed: of the market alone; independent of the run's seed
    """

    regimes: dict[str, Regime]
    regimes_later: dict[str, Regime] | None
    persistence: Probability
    own_persistence: dict[str, Probability] | None
    switch_weights: dict[str, Positive] | None
    bars: Annotated[Whole, Field(gt=500, le=MOST_BARS)]
    series: dict[str, Annotated[Whole, Field(gt=0, le=100_000)]]
    seed: Seed

    def __post_init__(self) -> None:
        if sorted(self.series) != sorted(SPLITS):
            raise ValueError(f"series: expected a number for each of {', '.join(SPLITS)}, got {self.series}")
        if not self.regimes:
            raise ValueError("regimes: expected at least one regime")
        for name in ("regimes_later", "switch_weights"):
            given = getattr(self, name)
            if given is not None and sorted(given) != sorted(self.regimes):
                raise ValueError(f"{name}: expected one for each of {', '.join(self.regimes)}, got {', '.join(given)}")
        for regime in self.own_persistence or ():
            if regime not in self.regimes:
                raise ValueError(f"own_persistence: {regime!r} is none of the regimes ({', '.join(self.regimes)})")

    def load(self) -> Market:
        """Return the market; instruments are called ``train_0``, ``train_1``, ..., ``test_0``, ..."""
        n_series = sum(self.series.values())
        purpose = f"{n_series:,} series of {self.bars:,} bars"
        check_memory("env.market.series, env.market.bars", purpose, 7 * 8 * n_series * self.bars)
        business_days = np.busday_offset("2000-01-03", np.arange(self.bars), roll="forward")
        time = business_days.astype("datetime64[us]")
        instruments = tuple(
            self._series(f"{split}_{number}", np.random.default_rng([self.seed, place, number]), time)
            for place, split in enumerate(SPLITS)
            for number in range(self.series[split])
        )
        return Market("synthetic", instruments, opens_are_real=True, regime_names=tuple(self.regimes))

    def transition(self) -> Floats:
        """Return the matrix ``P[i, j]`` = probability of regime j after regime i, shape ``(n, n)``."""
        n = len(self.regimes)
        if n == 1:
            return np.ones((1, 1))
        weights = [1.0 if self.switch_weights is None else self.switch_weights[name] for name in self.regimes]
        others = np.tile(weights, (n, 1))
        np.fill_diagonal(others, 0.0)
        stay = self._persistence()
        return np.diag(stay) + (1 - stay)[:, None] * others / others.sum(axis=1, keepdims=True)

    def stationary(self) -> Floats:
        """Return the share of time in each regime in the long run, from which the first bar's is drawn."""
        n = len(self.regimes)
        if self._alike():
            return np.full(n, 1 / n)
        equations = np.concatenate([self.transition().T - np.eye(n), np.ones((1, n))])
        return np.linalg.lstsq(equations, np.eye(n + 1)[-1], rcond=None)[0]

    def reference_targets(self, market: Market, cost_rate: float) -> Mapping[str, Sequence[Floats]]:
        """Return the Bayes-filter trader: the exact forward filter with the true parameters, one bar ahead.

        The target after bar t maximises, over short, flat and long, the expected log gain of bar t + 1 less the cost
        of getting there, given bars up to t. It knows the parameters, not the regime: no agent can know more, though
        one that plans further than a bar could trade a little better.
        """
        transition, start = self.transition(), self.stationary()
        return {
            "bayes_filter": [
                _bayes_targets(np.log(one.close), *self._parameters(one.symbol), transition, start, cost_rate)
                for one in market.instruments
            ]
        }

    def _persistence(self) -> Floats:
        own = self.own_persistence or {}
        return np.array([own.get(name, self.persistence) for name in self.regimes])

    def _alike(self) -> bool:
        """Whether every regime lasts as long and follows as often as any other."""
        return self.switch_weights is None and not self.own_persistence

    def _parameters(self, symbol: str) -> tuple[Floats, Floats, Floats]:
        """Return mean, autocorrelation and volatility of each regime, in the split that a series belongs to."""
        later = self.regimes_later if not symbol.startswith("train_") else None
        regimes = [(later or self.regimes)[name] for name in self.regimes]
        means = np.array([regime.mean_bp for regime in regimes]) * 1e-4
        volatilities = np.array([regime.volatility_bp for regime in regimes]) * 1e-4
        return means, np.array([regime.ar1 for regime in regimes]), volatilities

    def _series(self, symbol: str, rng: np.random.Generator, time: np.ndarray) -> Instrument:
        regime, noise = self._draw(rng)
        means, ar1, volatilities = self._parameters(symbol)
        returns = np.empty(self.bars)
        returns[0] = 0.0
        for bar in range(1, self.bars):
            z = regime[bar]
            returns[bar] = means[z] + ar1[z] * (returns[bar - 1] - means[z]) + volatilities[z] * noise[bar]
        close = 100.0 * np.exp(np.cumsum(returns))
        opening = np.concatenate([close[:1], close[:-1]])
        return Instrument(
            symbol=symbol,
            time=time,
            open=opening,
            high=np.maximum(opening, close),
            low=np.minimum(opening, close),
            close=close,
            volume=np.zeros(self.bars),
            regime=regime,
        )

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
        """Return a path of regimes and the noise of its bars."""
        n, stay = len(self.regimes), self._persistence()
        staying = rng.random(self.bars)
        onward = rng.integers(1, max(n, 2), self.bars)
        noise = rng.standard_normal(self.bars)
        regime = np.empty(self.bars, dtype=np.int64)
        regime[0] = rng.integers(n)
        alike = self._alike()
        chance = np.zeros(self.bars) if alike else rng.random(self.bars)  # drawn last: other settings, same noise
        if not alike:
            regime[0] = np.searchsorted(np.cumsum(self.stationary())[:-1], chance[0], side="right")
        leaving = self.transition()
        np.fill_diagonal(leaving, 0.0)
        edges = np.cumsum(leaving, axis=1)
        for bar in range(1, self.bars):
            now = regime[bar - 1]
            if n == 1 or staying[bar] < stay[now]:
                regime[bar] = now
            elif alike:
                regime[bar] = (now + onward[bar]) % n
            else:
                regime[bar] = np.searchsorted(edges[now], chance[bar] * edges[now, -1], side="right")
        return regime, noise


@njit(cache=True)
def _bayes_targets(
    log_close: Floats,
    means: Floats,
    ar1: Floats,
    volatilities: Floats,
    transition: Floats,
    start: Floats,
    cost_rate: float,
) -> Floats:
    """Return the target in {-1, 0, 1} decided at each bar, shape ``(n_bars,)``."""
    n_bars, n = len(log_close), len(means)
    belief = start.copy()  # P(regime of this bar | returns so far)
    targets = np.zeros(n_bars)
    position = 0.0
    for bar in range(1, n_bars):
        last = log_close[bar] - log_close[bar - 1]
        before = log_close[bar - 1] - log_close[bar - 2] if bar > 1 else 0.0
        predicted = belief @ transition
        for z in range(n):
            centre = means[z] + ar1[z] * (before - means[z])
            score = (last - centre) / volatilities[z]
            predicted[z] *= np.exp(-0.5 * score * score) / volatilities[z]
        belief = predicted / predicted.sum()
        ahead = belief @ transition
        first = second = 0.0  # moments of the next log return
        for z in range(n):
            centre = means[z] + ar1[z] * (last - means[z])
            first += ahead[z] * centre
            second += ahead[z] * (centre * centre + volatilities[z] * volatilities[z])
        best, position_next = -np.inf, 0.0
        for target in (-1.0, 0.0, 1.0):
            # log(1 + w (e^r - 1)) to second order in r
            gain = target * (first + 0.5 * second) - 0.5 * target * target * second
            gain -= cost_rate * abs(target - position)
            if gain > best:
                best, position_next = gain, target
        position = position_next
        targets[bar] = position
    return targets
