"""Do the experts act differently? Experts that agree are one expert, whatever the gate does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from moe_trader.evaluation import Floats
from moe_trader.evaluation.statistics import intervals_of_sums
from moe_trader.evaluation.walk import Trace

MEASURES = {"disagreement": "share of bars on which two experts would take different targets, mean over their pairs"}


def disagreement_table(trace: Trace, experts: Sequence[str]) -> pd.DataFrame:
    """Return one row a pair of experts, asked on the mixture's own bars and account.

    ``disagreement``: share of bars on which their targets differ; ``distance``: mean absolute difference of targets.
    """
    own = trace.own_target[trace.there]  # (n_bars, K)
    rows = []
    for one, other in combinations(range(len(experts)), 2):
        gap = np.abs(own[:, one] - own[:, other])
        pair = {"split": trace.split, "expert": experts[one], "other": experts[other]}
        rows.append(pair | {"disagreement": (gap > 0).mean(), "distance": gap.mean()})
    return pd.DataFrame(rows, columns=["split", "expert", "other", "disagreement", "distance"])


def disagreement_measure(trace: Trace, seed: int) -> pd.DataFrame:
    """Return the mean over all pairs as a row of the specialisation table, with a 95 % interval; NaN for one expert."""
    n_experts = trace.own_target.shape[-1]
    pairs = list(combinations(range(n_experts), 2))
    value, low, high = np.nan, np.nan, np.nan
    if pairs:
        differing = sum((trace.own_target[..., a] != trace.own_target[..., b]).astype(np.float64) for a, b in pairs)
        sums = np.stack([(differing * trace.there).sum(1) / len(pairs), trace.there.sum(1)], axis=1)

        def share(totals: Floats) -> Floats:
            return totals[:1] / totals[1:]

        value, (low, high) = share(sums.sum(0))[0], intervals_of_sums(sums, share, seed)[:, 0]
    (name,) = MEASURES
    return pd.DataFrame([{"split": trace.split, "measure": name, "value": value, "low": low, "high": high}])
