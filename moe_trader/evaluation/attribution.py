"""Who earned it? What the mixture earned, traded and paid, shared among its experts by the gate's weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe_trader.evaluation.tables import ALL
from moe_trader.evaluation.walk import Trace


def attribution_table(trace: Trace, regimes: Sequence[str], experts: Sequence[str]) -> pd.DataFrame:
    """Return regime x expert, and all regimes first: sum_t g_tk x_t of what the mixture did, over instruments.

    x is the log return, whether an order was filled, the amount traded over equity per year, and the cost over initial
    equity: over the experts, and over the regimes, each sums to the mixture's column of that name in the performance
    table. Weights share out what was earned; they do not say who caused it, as Shapley values do.
    """
    pooling = trace.pooling
    weights = trace.gate / trace.gate.sum(-1, keepdims=True)  # networks count in single precision
    traded = trace.traded[:, 0]
    done = {  # name -> what a bar adds, and the weight of its instrument
        "log_return": (trace.reward[:, 0], pooling.weights),
        "trades": (traded > 0, pooling.weights),
        "turnover": (traded * pooling.bars_per_year / pooling.n_bars, pooling.annual_weights),
        "cost": (trace.cost[:, 0] / trace.initial_equity, pooling.weights),
    }
    rows = []
    for z, regime in enumerate([ALL, *regimes], start=-1):
        inside = pooling.there if regime == ALL else trace.regime == z
        shares = {
            name: np.einsum("ti,tik->k", np.where(inside, weight * x, 0.0), weights)
            for name, (x, weight) in done.items()
        }
        for k, name in enumerate(experts):
            head = {"split": trace.split, "regime": regime, "expert": name, "bars": int(inside.sum())}
            rows.append(head | {what: share[k] for what, share in shares.items()})
    return pd.DataFrame(rows)
