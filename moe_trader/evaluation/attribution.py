"""Who earned it? What the mixture earned, traded and paid, shared among its experts by the gate's weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe_trader.evaluation.tables import ALL
from moe_trader.evaluation.walk import Trace


def attribution_table(
    trace: Trace, regimes: Sequence[str], experts: Sequence[str], bars_per_year: float
) -> pd.DataFrame:
    """Return regime x expert, and all regimes first: sum_t g_tk x_t of what the mixture did, mean over instruments.

    x is the log return, whether an order was filled, the amount traded over equity per year, and the cost over initial
    equity: over the experts, and over the regimes, each sums to the mixture's column of that name in the performance
    table. Weights share out what was earned; they do not say who caused it, as Shapley values do.
    """
    weights = trace.gate / trace.gate.sum(-1, keepdims=True)  # networks count in single precision
    bars = trace.there.sum(0)
    reward, traded, cost = (np.nan_to_num(values[:, 0]) for values in (trace.reward, trace.traded, trace.cost))
    done = {
        "log_return": reward,
        "trades": (traded > 0).astype(np.float64),
        "turnover": traded / bars * bars_per_year,
        "cost": cost / trace.initial_equity,
    }
    rows = []
    for z, regime in enumerate([ALL, *regimes], start=-1):
        inside = trace.there if regime == ALL else trace.regime == z
        shares = {name: np.einsum("ti,tik->k", inside * x, weights) / len(bars) for name, x in done.items()}
        for k, name in enumerate(experts):
            head = {"split": trace.split, "regime": regime, "expert": name, "bars": int(inside.sum())}
            rows.append(head | {what: share[k] for what, share in shares.items()})
    return pd.DataFrame(rows)
