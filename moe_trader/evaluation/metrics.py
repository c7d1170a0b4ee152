"""Performance of one account, from its log returns; checked against empyrical in the tests.

Rates are per year of ``bars_per_year`` bars and the risk-free rate is zero. Ratios use simple returns, as is usual.
The figures of :data:`ANNUAL` are NaN where ``bars_per_year`` is: too little time was covered to annualise anything.
"""

from __future__ import annotations

import numpy as np

from moe_trader.evaluation import Floats

METRICS = {
    "log_return": "log(final equity / initial equity)",
    "annual_return": "compound return per year",
    "volatility": "standard deviation of the returns, per year",
    "sharpe": "mean return over its standard deviation, per year, at a risk-free rate of zero",
    "sortino": "mean return over the root mean square of the negative returns, per year",
    "max_drawdown": "deepest fall of equity below its highest close so far",
    "calmar": "annual return over the depth of the maximum drawdown",
    "turnover": "amount traded over equity, per year",
    "trades": "number of orders filled",
    "hit_rate": "share of the bars through which a position was carried that earned more than zero",
    "exposure": "mean absolute value of position over equity, the largest carried in each bar",
    "cost": "costs paid over initial equity",
    "margin_calls": "number of positions closed because equity fell below the maintenance margin",
}

ROUNDING = 1e-12  # of the mean square: a variance below it is rounding
ANNUAL = {"annual_return", "volatility", "sharpe", "sortino", "calmar", "turnover"}


def performance(
    log_returns: Floats,
    traded: Floats,
    carried: Floats,
    cost: Floats,
    margin_calls: Floats,
    initial_equity: float,
    bars_per_year: float,
) -> dict[str, float]:
    """Return every one of :data:`METRICS` for one account; arrays have shape ``(n_bars,)``.

    A ratio whose denominator is zero (an account that never trades) is NaN.
    """
    annual = float(np.expm1(log_returns.mean() * bars_per_year))
    depth = max_drawdown(log_returns)
    held = carried > 0
    return {
        "log_return": float(log_returns.sum()),
        "annual_return": annual,
        "volatility": float(np.expm1(log_returns).std(ddof=1) * np.sqrt(bars_per_year)),
        "sharpe": float(sharpe(log_returns, bars_per_year)),
        "sortino": sortino(log_returns, bars_per_year),
        "max_drawdown": depth,
        "calmar": annual / -depth if depth < 0 else float("nan"),
        "turnover": float(traded.mean() * bars_per_year),
        "trades": float((traded > 0).sum()),
        "hit_rate": float((log_returns[held] > 0).mean()) if held.any() else float("nan"),
        "exposure": float(carried.mean()),
        "cost": float(cost.sum() / initial_equity),
        "margin_calls": float(margin_calls.sum()),
    }


def sharpe(log_returns: Floats, bars_per_year: Floats | float) -> Floats:
    """Return the annualised Sharpe ratio along the first axis; NaN where returns do not vary."""
    returns = np.expm1(log_returns)
    return sharpe_of_sums(len(returns), returns.sum(axis=0), np.square(returns).sum(axis=0), bars_per_year)


def sharpe_of_sums(n: Floats | int, sums: Floats, squares: Floats, bars_per_year: Floats | float) -> Floats:
    """Return the annualised Sharpe ratio of simple returns from their number, sum and sum of squares.

    NaN for fewer than two returns, and where they do not vary.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / n
        variance = (squares - sums * mean) / (np.asarray(n) - 1)
        varies = variance > ROUNDING * squares / n
        ratio: Floats = np.where(varies, mean / np.sqrt(np.abs(variance)), np.nan) * np.sqrt(bars_per_year)
    return ratio


def sortino(log_returns: Floats, bars_per_year: float) -> float:
    """Return the annualised Sortino ratio."""
    returns = np.expm1(log_returns)
    downside = np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2))
    return float(returns.mean() / downside * np.sqrt(bars_per_year)) if downside > 0 else float("nan")


def max_drawdown(log_returns: Floats) -> float:
    """Return the deepest fall below the running peak, the start included, as a negative fraction."""
    level = np.concatenate([[0.0], np.cumsum(log_returns)])
    return float(np.expm1((level - np.maximum.accumulate(level)).min()))
