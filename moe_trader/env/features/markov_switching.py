"""The Markov-switching model behind ``regime_probabilities``, its filter, and its fit by expectation maximisation.

Log returns follow ``r_t = intercept_z + ar1_z r_{t-1} + volatility_z N(0, 1)``, where the regime z is a Markov chain
(Hamilton 1989, "A new approach to the economic analysis of nonstationary time series and the business cycle"); without
the autoregression it is the Gaussian hidden Markov model (Baum et al. 1970). Before its first bar a series is in any
regime with equal chance. statsmodels has the model for one series at a time and takes minutes over 5,000 bars.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from moe_trader.bounds import AnyReal, Fraction, Positive
from moe_trader.compiled import njit
from moe_trader.env import Floats, MarketError
from moe_trader.option import option

log = logging.getLogger(__name__)

MOST_REGIMES = 100
MANY = Field(max_length=MOST_REGIMES)

_BARS_PER_STATE = 100  # fewer cannot tell several numbers and a row of transitions
_FEWEST = 20  # bars that a regime is expected to last in all, or it is not one
_FLOOR = 0.01  # least volatility of a regime over that of all returns: on bars that do not move it would go to 0
_WINDOW = 100  # bars that a starting point takes one regime's dynamics from
_STAY = 0.95  # chance of staying in a regime, at a starting point
_FIRST_ROUNDS = 20  # iterations from each starting point, of which the likeliest goes on
_ROUNDS = 500
_TOLERANCE = 1e-6  # of log likelihood per bar


@option
class MarkovSwitching:
    """A model of log returns with K regimes.

    :param intercept: log return per bar, K
    :param ar1: coefficient of the last bar's log return, K
    :param volatility: standard deviation of the innovation per bar, K
    :param transition: row i: the chances of each regime after regime i, K x K
    """

    intercept: Annotated[list[AnyReal], MANY]
    ar1: Annotated[list[AnyReal], MANY]
    volatility: Annotated[list[Positive], MANY]
    transition: Annotated[list[Annotated[list[Fraction], MANY]], MANY]

    def __post_init__(self) -> None:
        k = len(self.volatility)
        shapes = [len(self.intercept), len(self.ar1), len(self.transition), *map(len, self.transition)]
        rows = [sum(row) for row in self.transition]
        if shapes != [k] * len(shapes) or not np.allclose(rows, 1.0):
            raise ValueError(
                f"expected {k} intercepts, ar1 and rows of {k} chances that sum to 1, as there are {k} volatilities, "
                f"got {self.intercept}, {self.ar1} and {self.transition}"
            )

    def filter(self, returns: Floats, previous: Floats) -> tuple[Floats, float]:
        """Return p(z_t | returns up to t) of one series, shape ``(n, K)``, and log p(returns).

        :param previous: the return before each, shape ``(n,)``
        """
        first = np.arange(len(returns)) == 0
        filtered, _, likelihood = _forward(self._log_density(returns, previous), np.array(self.transition), first)
        return filtered, likelihood

    def described(self) -> list[str]:
        """Say in words what each regime is like."""
        return [
            f"{number}: mean {1e4 * intercept / (1 - ar1):+.1f} bp, autocorrelation {ar1:+.2f}, volatility "
            f"{1e4 * volatility:.0f} bp, lasts {1 / max(1 - self.transition[number - 1][number - 1], 1e-9):,.0f} bars"
            for number, (intercept, ar1, volatility) in enumerate(
                zip(self.intercept, self.ar1, self.volatility, strict=True), start=1
            )
        ]

    def _log_density(self, returns: Floats, previous: Floats) -> Floats:
        """Return log p(r_t | r_{t-1}, z), shape ``(n, K)``."""
        volatility = np.array(self.volatility)
        expected = np.array(self.intercept) + np.array(self.ar1) * previous[:, None]
        return -0.5 * (((returns[:, None] - expected) / volatility) ** 2 + np.log(2 * np.pi)) - np.log(volatility)


class Sample(NamedTuple):
    """Every return that has one before it, of all series one after the other; shapes ``(n,)``.

    :param first: whether a series begins here
    """

    returns: Floats
    previous: Floats
    first: np.ndarray


def fit(series: Sequence[Floats], states: int, order: int, starts: int) -> MarkovSwitching:
    """Return the likeliest model of several series of log returns, regimes from the calmest to the wildest.

    Expectation maximisation from several starting points, each of which takes a regime's dynamics from some stretch of
    the series: a local maximum, the same one each time. A model with a regime that hardly any bar belongs to is passed
    over for the next likeliest. Series are not joined: a chain starts anew in each.

    :param order: 1: with the autoregression; 0: without
    :raises MarketError: too few returns, returns that are all equal, or a regime that no bar belongs to
    """
    sample, scale = _sample(series, states)
    points = [_starting_point(sample, states, order, np.random.default_rng(number)) for number in range(starts)]
    tried = [maximise(sample, point, order, _FIRST_ROUNDS) for point in points]
    for begun, _, _ in sorted(tried, key=lambda one: one[1][-1], reverse=True):
        model, path, expected = maximise(sample, begun, order, _ROUNDS)
        if expected.min() >= _FEWEST:
            if len(path) == _ROUNDS:
                log.warning("The regimes have not settled after %d iterations; used as they are.", _ROUNDS)
            return _sorted(model, scale)
    fewer = f"use fewer, env.features.regime_probabilities.states={states - 1}" if states > 2 else "leave it out"
    raise MarketError(
        f"a regime died: from each of {starts} starting points, one of {states} regimes is left with fewer than "
        f"{_FEWEST} of the {len(sample.returns):,} training returns; {fewer}"
    )


def maximise(
    sample: Sample, model: MarkovSwitching, order: int, rounds: int
) -> tuple[MarkovSwitching, list[float], Floats]:
    """Improve a model until its likelihood settles.

    :return: model, the log likelihood before each iteration, and the bars expected in each regime
    """
    returns, previous, first = sample
    moments = np.stack([np.ones_like(returns), previous, previous**2, returns, returns * previous, returns**2], 1)
    path: list[float] = []
    for _ in range(rounds):
        transition = np.array(model.transition)
        filtered, predicted, likelihood = _forward(model._log_density(returns, previous), transition, first)
        path.append(likelihood)
        smoothed, moves = _backward(filtered, predicted, transition, first)
        if len(path) > 1 and likelihood - path[-2] < _TOLERANCE * len(returns):
            break
        model = _maximised(smoothed.T @ moments, moves, order)
    return model, path, smoothed.sum(axis=0)


def _sample(series: Sequence[Floats], states: int) -> tuple[Sample, float]:
    """Return the sample, in units of its own standard deviation, and that. :raises MarketError: where it cannot do."""
    series = [one for one in series if len(one) > 1]
    n, needed = sum(len(one) - 1 for one in series), _BARS_PER_STATE * states
    if n < needed:
        raise MarketError(
            f"expected at least {needed} training returns for {states} regimes, got {n}; train on more bars, set fewer "
            "states, or leave it out"
        )
    returns = np.concatenate([one[1:] for one in series])
    scale = float(returns.std())
    if scale < 1e-12:
        raise MarketError("every training return is the same (0: the price never moves), and shows no regimes")
    first = np.concatenate([np.arange(len(one) - 1) == 0 for one in series])
    return Sample(returns / scale, np.concatenate([one[:-1] for one in series]) / scale, first), scale


def _starting_point(sample: Sample, states: int, order: int, rng: np.random.Generator) -> MarkovSwitching:
    """Return a model whose regimes are the dynamics of stretches of the sample, drawn at random."""
    window = min(_WINDOW, len(sample.returns) // states)
    begins = rng.integers(0, len(sample.returns) - window + 1, states)
    sums = []
    for begin in begins:
        y, x = sample.returns[begin : begin + window], sample.previous[begin : begin + window]
        sums.append([window, x.sum(), (x * x).sum(), y.sum(), (x * y).sum(), (y * y).sum()])
    leave = (1 - _STAY) / (states - 1)
    return _maximised(np.array(sums), np.full((states, states), leave) + np.eye(states) * (_STAY - leave), order)


def _maximised(sums: Floats, moves: Floats, order: int) -> MarkovSwitching:
    """Return the likeliest model, given the regimes: a weighted regression in each.

    :param sums: weighted sums of 1, x, x^2, y, xy and y^2 (y: return, x: the one before), shape ``(K, 6)``
    :param moves: expected moves from regime to regime, ``(K, K)``
    """
    weight, x, xx, y, xy, yy = sums.T
    weight = np.maximum(weight, 1e-9)  # a regime without bars: found, and told, at the end
    spread = xx - x * x / weight
    ar1 = np.where(spread > 1e-9, (xy - x * y / weight) / np.maximum(spread, 1e-9), 0.0) * order
    intercept = (y - ar1 * x) / weight
    square = yy - 2 * intercept * y - 2 * ar1 * xy + weight * intercept**2 + 2 * intercept * ar1 * x + ar1**2 * xx
    volatility = np.sqrt(np.maximum(square / weight, _FLOOR**2))
    moves = moves + 1e-9
    return MarkovSwitching(
        intercept=intercept.tolist(),
        ar1=ar1.tolist(),
        volatility=volatility.tolist(),
        transition=(moves / moves.sum(axis=1, keepdims=True)).tolist(),
    )


def _sorted(model: MarkovSwitching, scale: float) -> MarkovSwitching:
    """Return the model in log return, its regimes by volatility and, of equal volatility, by intercept."""
    order = np.lexsort((model.intercept, model.volatility))
    return MarkovSwitching(
        intercept=(np.array(model.intercept)[order] * scale).tolist(),
        ar1=np.array(model.ar1)[order].tolist(),
        volatility=(np.array(model.volatility)[order] * scale).tolist(),
        transition=np.array(model.transition)[np.ix_(order, order)].tolist(),
    )


@njit(cache=True)
def _forward(log_density: Floats, transition: Floats, first: np.ndarray) -> tuple[Floats, Floats, float]:
    """Return p(z_t | r_1 ... r_t), p(z_t | r_1 ... r_{t-1}), both ``(n, K)``, and log p(r_1 ... r_n)."""
    n, k = log_density.shape
    filtered, predicted = np.empty((n, k)), np.empty((n, k))
    likelihood = 0.0
    for t in range(n):
        top = -np.inf
        for j in range(k):
            chance = 1.0 / k
            if not first[t]:
                chance = 0.0
                for i in range(k):
                    chance += filtered[t - 1, i] * transition[i, j]
            predicted[t, j] = chance
            filtered[t, j] = np.log(chance) + log_density[t, j]  # in logs: no crash is too unlikely for every regime
            top = max(top, filtered[t, j])
        total = 0.0
        for j in range(k):
            filtered[t, j] = np.exp(filtered[t, j] - top)
            total += filtered[t, j]
        for j in range(k):
            filtered[t, j] /= total
        likelihood += top + np.log(total)
    return filtered, predicted, likelihood


@njit(cache=True)
def _backward(filtered: Floats, predicted: Floats, transition: Floats, first: np.ndarray) -> tuple[Floats, Floats]:
    """Return p(z_t | all returns), ``(n, K)``, and the expected moves between regimes, ``(K, K)`` (Kim 1994)."""
    n, k = filtered.shape
    smoothed, moves, ratio = filtered.copy(), np.zeros((k, k)), np.empty(k)
    for t in range(n - 2, -1, -1):
        if first[t + 1]:
            continue
        for j in range(k):
            ratio[j] = smoothed[t + 1, j] / predicted[t + 1, j] if predicted[t + 1, j] > 0 else 0.0
        for i in range(k):
            total = 0.0
            for j in range(k):
                move = filtered[t, i] * transition[i, j] * ratio[j]
                moves[i, j] += move
                total += move
            smoothed[t, i] = total
    return smoothed, moves
