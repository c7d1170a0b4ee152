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
    rows = []
    for one, other in combinations(range(len(experts)), 2):
        gap = np.abs(trace.own_target[..., one] - trace.own_target[..., other])
        pair = {"split": trace.split, "expert": experts[one], "other": experts[other]}
        share, distance = (float(trace.pooling.mean(values)) for values in ((gap > 0).astype(np.float64), gap))
        rows.append(pair | {"disagreement": share, "distance": distance})
    return pd.DataFrame(rows, columns=["split", "expert", "other", "disagreement", "distance"])


def disagreement_measure(trace: Trace, seed: int) -> pd.DataFrame:
    """Return the mean over all pairs as a row of the specialisation table, with a 95 % interval; NaN for one expert."""
    n_experts = trace.own_target.shape[-1]
    pairs = list(combinations(range(n_experts), 2))
    value, low, high = np.nan, np.nan, np.nan
    if pairs:
        own, pooling = trace.own_target, trace.pooling
        differing = np.mean([own[..., a] != own[..., b] for a, b in pairs], axis=0)
        rows = pooling.mean_rows(np.stack([differing, np.ones_like(differing)], axis=2))

        def share(totals: Floats) -> Floats:
            return totals[:1] / totals[1:]

        value, (low, high) = share(rows.sum(0))[0], intervals_of_sums(rows, share, seed, pooling.block)[:, 0]
    (name,) = MEASURES
    return pd.DataFrame([{"split": trace.split, "measure": name, "value": value, "low": low, "high": high}])
