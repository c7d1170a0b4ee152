"""Is there anything to route, and does the gate find it? The mixture against one expert a regime, and one expert alone.

Which expert is right in a regime is chosen on the validation split. On test it is then a fair rival; on validation it
was chosen in sample, and its lead is flattered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe_trader.evaluation import Decider, Floats, Walkable
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
    earned = np.concatenate([rewards[: len(one), :, i] for i, one in enumerate(instruments)])
    regime = np.concatenate([one.regime for one in instruments])
    fixed = int(earned.mean(0).argmax())
    best = [
        int(earned[regime == z].mean(0).argmax()) if (regime == z).any() else fixed
        for z in range(len(task.labels.names))
    ]
    return Routing(np.array(best), fixed)


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
        sums = _sums(trace, routing, n_regimes)

        def measures(totals: Floats) -> Floats:
            return _measures(totals, n_regimes)

        values, bounds = measures(sums.sum(0)), intervals_of_sums(sums, measures, seed)
        bounds[:, np.isnan(values)] = np.nan
    return pd.DataFrame({"split": trace.split, "measure": names, "value": values, "low": bounds[0], "high": bounds[1]})


def _sums(trace: Trace, routing: Routing, n_regimes: int) -> Floats:
    """Return what a bar adds: bars and both differences, then each regime's bars, weights and rewards of the experts.

    :return: shape ``(n_decisions, 3 + Z (1 + 2 K))``
    """
    names = experts_of(trace)
    oracle, fixed = trace.earned("oracle_routing"), trace.earned(names[routing.fixed])
    gaps = [trace.there.sum(1), (oracle - trace.earned("mixture")).sum(1), (oracle - fixed).sum(1)]
    inside = (trace.regime[..., None] == np.arange(n_regimes)).astype(np.float64)
    rewards = np.stack([trace.earned(name) for name in names], axis=2)
    parts = [inside.sum(1)[..., None], *(np.einsum("tiz,tik->tzk", inside, of) for of in (trace.gate, rewards))]
    by_regime = np.concatenate(parts, axis=2).reshape(len(oracle), -1)
    return np.concatenate([np.stack(gaps, axis=1), by_regime], axis=1)


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
