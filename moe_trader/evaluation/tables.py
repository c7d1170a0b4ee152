"""From traces to the tables of a run directory; what each column means stands in the README."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from moe_trader.evaluation import Floats
from moe_trader.evaluation.metrics import ANNUAL, METRICS, performance, sharpe_of_sums
from moe_trader.evaluation.pooling import Pooling
from moe_trader.evaluation.statistics import intervals_of_sums
from moe_trader.evaluation.walk import Trace

ALL = "all"


def steps_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str]) -> pd.DataFrame:
    """Return one row for each evaluated bar of the mixture: who was listened to, what was done, what it earned."""
    parts = []
    for i, one in enumerate(trace.instruments):
        n = len(one)
        columns: dict[str, object] = {
            "split": trace.split,
            "time": one.time,
            "instrument": one.instrument,
            "regime": np.array(regimes, dtype=object)[one.regime],
            "close": one.close[:-1],
        }
        columns |= {f"gate_{name}": trace.gate[:n, i, k] for k, name in enumerate(experts)}
        done = {name: getattr(trace, name) for name in ("position", "reward", "carried", "traded", "cost")}
        done["margin_call"] = trace.margin_calls
        columns |= {name: values[:n, 0, i] for name, values in done.items()}
        columns |= {f"own_{name}": trace.own_target[:n, i, k] for k, name in enumerate(experts)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def by_regime_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str], seed: int) -> pd.DataFrame:
    """Return regime x expert: importance (mean weight) with a 95 % interval, load (share of bars in the lead), bars."""
    inside = _inside(trace, len(regimes))  # (n_decisions, n_instruments, Z)
    weights, lead = trace.gate, np.eye(len(experts))[trace.gate.argmax(-1)]
    seen = np.concatenate([weights, lead, np.ones((*weights.shape[:2], 1))], axis=2)
    rows = trace.pooling.mean_rows(seen, within=inside)  # (n_rows, Z, 2K + 1): weights, leads, bars

    def shares(totals: Floats) -> Floats:
        found = totals.reshape(len(regimes), -1)
        return found[:, :-1] / np.where(found[:, -1:] > 0, found[:, -1:], np.nan)

    rows = rows.reshape(len(rows), -1)
    whole, k = shares(rows.sum(0)), len(experts)
    draws = intervals_of_sums(rows, lambda totals: shares(totals)[:, :k].ravel(), seed, trace.pooling.block)
    low, high = draws.reshape(2, -1, k)
    bars = inside.sum((0, 1)).astype(int)
    table = [
        {
            "split": trace.split,
            "regime": regime,
            "expert": name,
            "importance": whole[z, j],
            "importance_low": low[z, j],
            "importance_high": high[z, j],
            "load": whole[z, k + j],
            "bars": bars[z],
        }
        for z, regime in enumerate(regimes)
        for j, name in enumerate(experts)
    ]
    return pd.DataFrame(table)


def competence_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str]) -> pd.DataFrame:
    """Return regime x expert: mean log return per bar, in basis points, when that expert is forced at every bar."""
    inside, names = _inside(trace, len(regimes)), [*experts, "mixture"]
    earned = np.stack([trace.earned(name) for name in names], axis=2)  # (n_decisions, n_instruments, K + 1)
    share = trace.pooling.mean(inside)[:, None]
    mean = trace.pooling.mean(earned, within=inside) / np.where(share > 0, share, np.nan)
    table = pd.DataFrame(1e4 * mean, columns=names)
    table.insert(0, "bars", inside.sum((0, 1)).astype(int))
    table.insert(0, "regime", list(regimes))
    table.insert(0, "split", trace.split)
    return table


def performance_table(trace: Trace, seed: int) -> pd.DataFrame:
    """Return every strategy's metrics for each instrument, and over all of them: the weighted mean over instruments.

    ``weight`` is that of the instrument in the mean, ``bars_per_year`` what annualises it. Annual figures of the mean
    are those of the instruments that have any. The rows of all instruments carry 95 % intervals of log return and
    Sharpe ratio.
    """
    pooling, rows = trace.pooling, []
    low, high = _return_and_sharpe_intervals(trace, seed)  # (n_strategies, 2) each
    for s in range(len(trace.strategies)):
        each = [_of_instrument(trace, s, i) for i in range(len(trace.instruments))]
        for i, one in enumerate(trace.instruments):
            measured = {
                "bars": len(one),
                "weight": pooling.weights[i],
                "bars_per_year": one.bars_per_year,
            }
            rows.append(_head(trace, s, one.instrument) | measured | each[i])
        pooled = {name: _over_instruments(pooling, name, np.array([row[name] for row in each])) for name in METRICS}
        ends = {
            "log_return_low": low[s, 0],
            "log_return_high": high[s, 0],
            "sharpe_low": low[s, 1],
            "sharpe_high": high[s, 1],
        }
        rows.append(_head(trace, s, ALL) | {"bars": int(pooling.n_bars.sum()), "weight": 1.0} | pooled | ends)
    table = pd.DataFrame(rows)
    return table.sort_values("instrument", key=lambda column: column != ALL, kind="stable", ignore_index=True)


def comparison_table(trace: Trace, seed: int) -> pd.DataFrame:
    """Return mixture minus every other strategy: log return over the split with a 95 % interval.

    The difference is that of the two rows of all instruments in the performance table. The interval draws the moments
    of both together.
    """
    others = [s for s, strategy in enumerate(trace.strategies) if strategy.name != "mixture"]
    gaps = trace.reward[:, :1] - trace.reward[:, others]  # (n_decisions, n_others, n_instruments)
    rows = trace.pooling.total_rows(gaps.transpose(0, 2, 1))
    low, high = intervals_of_sums(rows, lambda sums: sums, seed, trace.pooling.block)
    return pd.DataFrame(
        {
            "split": trace.split,
            "against": [trace.strategies[s].name for s in others],
            "log_return_difference": rows.sum(0),
            "low": low,
            "high": high,
            "bankrupt": [
                " and ".join(n for n in ("mixture", trace.strategies[s].name) if trace.bankrupt(n)) for s in others
            ],
        }
    )


def equity_table(trace: Trace) -> pd.DataFrame:
    """Return each strategy's equity at the close after each decision, one column a strategy."""
    parts = []
    for i, one in enumerate(trace.instruments):
        head = pd.DataFrame({"split": trace.split, "instrument": one.instrument, "time": one.paid})
        names = [strategy.name for strategy in trace.strategies]
        parts.append(pd.concat([head, pd.DataFrame(trace.equity[: len(one), :, i], columns=names)], axis=1))
    return pd.concat(parts, ignore_index=True)


def _head(trace: Trace, s: int, instrument: str) -> dict[str, object]:
    strategy = trace.strategies[s]
    return {"split": trace.split, "strategy": strategy.name, "kind": strategy.kind, "instrument": instrument}


def _inside(trace: Trace, n_regimes: int) -> Floats:
    """Return 1 in the regime of each bar, 0 in the others, shape ``(n_decisions, n_instruments, Z)``."""
    return (trace.regime[..., None] == np.arange(n_regimes)).astype(np.float64)


def _of_instrument(trace: Trace, s: int, i: int) -> dict[str, float]:
    """Return the metrics of one strategy on one instrument."""
    n = trace.pooling.n_bars[i]

    def own(values: Floats) -> Floats:
        return np.ascontiguousarray(values[:n, s, i])  # rounding may depend on how far apart numbers lie in memory

    return performance(
        own(trace.reward),
        traded=own(trace.traded),
        carried=own(trace.carried),
        cost=own(trace.cost),
        margin_calls=own(trace.margin_calls),
        initial_equity=trace.initial_equity,
        bars_per_year=trace.pooling.bars_per_year[i],
    )


def _over_instruments(pooling: Pooling, name: str, values: Floats) -> float:
    """Return the weighted mean of a metric; of an annual one, over the instruments that have annual figures."""
    if name not in ANNUAL:
        return float(pooling.weights @ values)
    annual = np.isfinite(pooling.bars_per_year)
    return float(pooling.annual_weights[annual] @ values[annual]) if annual.any() else float("nan")


def _return_and_sharpe_intervals(trace: Trace, seed: int) -> tuple[Floats, Floats]:
    """Return lower and upper ends of log return and Sharpe ratio, each of shape ``(n_strategies, 2)``.

    A strategy's interval does not depend on which others there are.
    """
    groups, measures = return_and_sharpe_sums(trace)
    low, high = intervals_of_sums(groups, lambda sums: measures(sums).ravel(), seed, trace.pooling.block)
    return low.reshape(-1, 2), high.reshape(-1, 2)


def return_and_sharpe_sums(trace: Trace) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Return sums of each row of every strategy, and log return and Sharpe ratio as a function of their totals.

    Sums of a row, for each strategy: for each instrument the number, sum and square of its returns, and the log return
    over all instruments.

    :return: shape ``(n_strategies, n_rows, n_sums)``; from ``(n_strategies, n_sums)`` to ``(n_strategies, 2)``
    """
    pooling, n = trace.pooling, len(trace.instruments)
    there = pooling.instrument_rows(np.ones((len(trace.gate), n)))
    groups = []
    for s in range(len(trace.strategies)):
        returns = np.expm1(pooling.instrument_rows(trace.reward[:, s]))
        log_return = pooling.total_rows(trace.reward[:, s])[:, None]
        groups.append(np.concatenate([there, returns, np.square(returns), log_return], axis=1))

    def measures(sums: Floats) -> Floats:
        number, returns, squares = sums[:, :n], sums[:, n : 2 * n], sums[:, 2 * n : 3 * n]
        ratios = sharpe_of_sums(number, returns, squares, pooling.bars_per_year)
        used = np.where(number > 1, pooling.annual_weights, 0.0)  # a short instrument may be missing from a draw
        pooled = np.where(used > 0, ratios * used, 0.0).sum(1) / used.sum(1)
        return np.stack([sums[:, -1], pooled], axis=1)

    return np.stack(groups), measures
