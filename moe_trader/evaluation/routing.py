"""Is there anything to route, and does the gate find it? The mixture against one expert a regime, and one expert alone.

Which expert is right in a regime is chosen on the validation split. On test it is then a fair rival; on validation it
was chosen in sample, and its lead is flattered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe_trader.evaluation import Decider, Floats, Walkable
from moe_trader.evaluation.pooling import Pooling
from moe_trader.evaluation.statistics import intervals_of_sums
from moe_trader.evaluation.strategies import Routing, experts_alone
from moe_trader.evaluation.walk import Trace, trade

CHOSEN_ON = "validation"
BASIS_POINTS = 1e4

MEASURES = {
    "routing_regret": "oracle routing less the mixture, basis points a bar: what the gate leaves on the table",
    "routing_headroom": "oracle routing less the best fixed expert, basis points a bar: what there is to be routed for",
    "regret_share": "regret over headroom: 0, the gate earns all of it, to 1, no more than the best fixed expert",
    "regret_rate": "the same from competence and importance alone: each regime's best less the weighted mean of all; "
    "chosen in sample and never negative, so that noise alone makes it positive",
}


def best_experts(task: Walkable, agent: Decider) -> Routing:
    """Return the expert that earns most per bar in each regime of the validation split, and over all of it.

    Each is forced at every bar, as in the competence table. A regime that validation does not have gets the expert
    that is best over all.
    """
    instruments = task.evaluated(CHOSEN_ON)
    length, n, n_experts = max(len(one) for one in instruments), len(instruments), len(agent.expert_names)
    rewards = trade(task, CHOSEN_ON, experts_alone(agent, (length, n, n_experts)), instruments, seed=0)["reward"]
    earned, pooling = rewards.transpose(0, 2, 1), Pooling(instruments)  # (n_decisions, n_instruments, K)
    fixed = int(pooling.mean(earned).argmax())
    inside = np.zeros((length, n, len(task.labels.names)))
    for i, one in enumerate(instruments):
        inside[: len(one), i] = np.asarray(one.regime)[:, None] == np.arange(inside.shape[2])
    best = np.where(inside.any((0, 1)), pooling.mean(earned, within=inside).argmax(1), fixed)
    return Routing(best, fixed)


def routing_table(trace: Trace, routing: Routing | None, n_regimes: int, seed: int) -> pd.DataFrame:
    """Return one row a measure of :data:`MEASURES`, with a 95 % interval; differences are paired bar by bar.

    With competence C[z, k] (mean reward in regime z where expert k is forced), importance A[z, k] and share of bars
    p(z), ``regret_rate`` is sum_z p(z) (max_k C[z, k] - sum_k A[z, k] C[z, k]). A share of a headroom that is not
    positive does not exist.

    :param routing: of the walk; ``None``, as with a single expert: every measure is NaN
    """
    names = list(MEASURES)
    values, bounds = np.full(len(names), np.nan), np.full((2, len(names)), np.nan)
    if routing is not None:
        rows = _rows(trace, routing, n_regimes)

        def measures(totals: Floats) -> Floats:
            return _measures(totals, n_regimes)

        values = measures(rows.sum(0))
        bounds = intervals_of_sums(rows, measures, seed, trace.pooling.block)
        bounds[:, np.isnan(values)] = np.nan
    return pd.DataFrame({"split": trace.split, "measure": names, "value": values, "low": bounds[0], "high": bounds[1]})


def _rows(trace: Trace, routing: Routing, n_regimes: int) -> Floats:
    """Return what a row adds: bars and both differences, then each regime's bars, weights and rewards of the experts.

    :return: shape ``(n_rows, 3 + Z (1 + 2 K))``; a bar counts with its weight in a mean over bars
    """
    names = experts_of(trace)
    oracle, fixed = trace.earned("oracle_routing"), trace.earned(names[routing.fixed])
    ones = np.ones_like(oracle)
    gaps = np.stack([ones, oracle - trace.earned("mixture"), oracle - fixed], axis=2)
    inside = (trace.regime[..., None] == np.arange(n_regimes)).astype(np.float64)
    rewards = [trace.earned(name) for name in names]
    seen = np.concatenate([ones[..., None], trace.gate, np.stack(rewards, axis=2)], axis=2)
    by_regime = trace.pooling.mean_rows(seen, within=inside)  # (n_rows, Z, 1 + 2K)
    return np.concatenate([trace.pooling.mean_rows(gaps), by_regime.reshape(len(by_regime), -1)], axis=1)


def _measures(totals: Floats, n_regimes: int) -> Floats:
    bars, regret, headroom = totals[:3]
    known = totals[3:].reshape(n_regimes, -1)
    known = known[known[:, 0] > 0]
    importance, competence = np.split(known[:, 1:] / known[:, :1], 2, axis=1)
    lost = competence.max(1) - (importance * competence).sum(1)
    rate = (known[:, 0] * lost).sum() / known[:, 0].sum()
    share = regret / headroom if headroom > 0 else np.nan
    return np.array([BASIS_POINTS * regret / bars, BASIS_POINTS * headroom / bars, share, BASIS_POINTS * rate])


def experts_of(trace: Trace) -> Sequence[str]:
    """Return the names of the experts of a walk."""
    return [strategy.name for strategy in trace.strategies if strategy.kind == "expert"]
