"""The same names for the same experts across seeds: which expert is called the first is an accident of training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.evaluation import Floats

ROUNDS = 20  # of matching against the mean; a handful suffice


def align_experts(tables: Floats) -> NDArray[np.int64]:
    """Return, for each seed, the order of its experts in which the seeds agree best on who acts when.

    Hungarian matching (Kuhn 1955, as in ``scipy.optimize.linear_sum_assignment``) of each seed's columns to the mean of
    all seeds' matched columns, least squared difference, repeated until nothing changes; it starts from the first seed.

    :param tables: regime x expert importance of each seed, shape ``(n_seeds, n_regimes, K)``; a regime that has no bars
        (NaN) does not count
    :return: shape ``(n_seeds, K)``: ``tables[s][:, order[s]]`` are comparable
    """
    from scipy.optimize import linear_sum_assignment  # a quarter of a second to import

    tables = tables[:, ~np.isnan(tables).any(axis=(0, 2))]
    orders = np.tile(np.arange(tables.shape[2]), (len(tables), 1))
    reference = tables[0]
    for _ in range(ROUNDS):
        distances = np.square(reference[None, :, :, None] - tables[:, :, None, :]).sum(1)  # (n_seeds, K, K)
        found = np.stack([linear_sum_assignment(distance)[1] for distance in distances])
        if (found == orders).all():
            break
        orders = found
        reference = np.mean([table[:, order] for table, order in zip(tables, orders, strict=True)], axis=0)
    return orders


def expert_names(by_regime: list[pd.DataFrame], split: str) -> list[dict[str, str]]:
    """Return, for each seed, its experts' names -> the names under which they can be averaged over seeds.

    :param by_regime: ``activations/by_regime.csv`` of each seed
    :param split: whose importances are matched
    """
    tables = [
        table[table["split"] == split].pivot_table("importance", "regime", "expert", dropna=False)
        for table in by_regime
    ]
    names = list(tables[0].columns)
    orders = align_experts(np.stack([table.to_numpy() for table in tables]))
    return [{names[own]: name for name, own in zip(names, order, strict=True)} for order in orders]
