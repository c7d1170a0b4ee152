"""What each expert is worth to the others: Shapley values over all coalitions of experts.

L. S. Shapley, "A value for n-person games" (1953). A coalition is worth the log return of the mixture whose gate
weights are shared among its members in proportion, the weighted mean over instruments; nobody is a flat account. The
values of all experts sum to the mixture's log return less the flat account's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd

from moe_trader.evaluation import Floats
from moe_trader.evaluation.statistics import intervals_of_sums
from moe_trader.evaluation.strategies import coalition_name
from moe_trader.evaluation.walk import Trace


def shapley_table(trace: Trace, experts: Sequence[str], seed: int) -> pd.DataFrame:
    """Return one row an expert: its Shapley value as log return over the split, with a 95 % interval.

    Empty where coalitions were not walked.
    """
    columns = ["split", "expert", "shapley", "low", "high"]
    if trace.coalitions is None:
        return pd.DataFrame(columns=columns)
    series = shapley_series(trace, experts)
    low, high = intervals_of_sums(series, lambda sums: sums, seed, trace.pooling.block)
    rows = zip([trace.split] * len(experts), experts, series.sum(0), low, high, strict=True)
    return pd.DataFrame(rows, columns=columns)


def coalition_table(trace: Trace, experts: Sequence[str]) -> pd.DataFrame:
    """Return the log return of every coalition; ``strategy`` is its name in the other tables, where it has one there.

    Empty where coalitions were not walked.
    """
    rows = [
        {
            "split": trace.split,
            "members": "+".join(experts[k] for k in members),
            "strategy": coalition_name(members, experts),
            "log_return": _earned(trace, members, experts).sum(),
        }
        for members in (coalitions(len(experts)) if trace.coalitions is not None else ())
    ]
    return pd.DataFrame(rows, columns=["split", "members", "strategy", "log_return"])


def shapley_series(trace: Trace, experts: Sequence[str]) -> Floats:
    """Return what each row adds to each expert's Shapley value, shape ``(n_rows, K)``.

    phi_k = sum over coalitions S without k of |S|! (K - |S| - 1)! / K! (v(S with k) - v(S)).
    """
    n_experts = len(experts)
    series = np.zeros((trace.pooling.n_rows, n_experts))
    for members in coalitions(n_experts):
        size, earned = len(members), _earned(trace, members, experts)
        for k in range(n_experts):
            if k in members:
                series[:, k] += factorial(size - 1) * factorial(n_experts - size) / factorial(n_experts) * earned
            else:
                series[:, k] -= factorial(size) * factorial(n_experts - size - 1) / factorial(n_experts) * earned
    return series


def coalitions(n_experts: int) -> Iterator[tuple[int, ...]]:
    """Yield all 2^K coalitions, nobody first and everyone last."""
    for size in range(n_experts + 1):
        yield from combinations(range(n_experts), size)


def _earned(trace: Trace, members: Sequence[int], experts: Sequence[str]) -> Floats:
    """Return a coalition's log return of each row, weighted mean over instruments, shape ``(n_rows,)``."""
    return trace.pooling.total_rows(trace.earned(coalition_name(members, experts)))
