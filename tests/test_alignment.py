"""Experts are matched across seeds by what they do, not by their number."""

import itertools

import numpy as np
import pandas as pd
import pytest

from moe_trader.evaluation.alignment import align_experts, expert_names

RNG = np.random.default_rng(0)
TRUE = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.2, 0.5, 0.2], [0.1, 0.1, 0.2, 0.6], [0.3, 0.3, 0.2, 0.2]]
)


def shuffled(seeds, noise=0.03):
    orders = np.stack([RNG.permutation(4) for _ in range(seeds)])
    tables = np.stack([(TRUE + RNG.normal(0, noise, TRUE.shape))[:, order] for order in orders])
    return tables, orders


def test_experts_that_were_renumbered_get_their_places_back():
    tables, _ = shuffled(6)
    aligned = np.stack([table[:, order] for table, order in zip(tables, align_experts(tables), strict=True)])
    np.testing.assert_allclose(aligned, np.broadcast_to(aligned[0], aligned.shape), atol=0.2)


def test_the_first_seed_keeps_its_order_when_seeds_agree():
    assert align_experts(np.stack([TRUE, TRUE[:, [2, 0, 1, 3]]])).tolist() == [[0, 1, 2, 3], [1, 2, 0, 3]]


def test_no_other_renumbering_of_a_seed_is_nearer_to_the_mean_of_all():
    tables = RNG.dirichlet(np.ones(3), size=(4, 5))
    orders = align_experts(tables)
    mean = np.mean([table[:, order] for table, order in zip(tables, orders, strict=True)], axis=0)
    for table, order in zip(tables, orders, strict=True):
        distances = [np.square(mean - table[:, list(other)]).sum() for other in itertools.permutations(range(3))]
        assert np.square(mean - table[:, order]).sum() == pytest.approx(min(distances))


def test_a_regime_that_one_seed_never_saw_does_not_count():
    tables, _ = shuffled(3)
    unseen = tables.copy()
    unseen[1, 4] = np.nan
    np.testing.assert_array_equal(align_experts(unseen), align_experts(tables[:, :4]))


def test_names_for_averaging_come_from_the_tables_of_the_runs():
    def table(order):
        rows = [
            {"split": split, "regime": f"r{r}", "expert": f"expert_{k + 1}", "importance": TRUE[r, order[k]]}
            for split in ("validation", "test")
            for r in range(4)
            for k in range(4)
        ]
        return pd.DataFrame(rows)

    first, second = expert_names([table([0, 1, 2, 3]), table([1, 3, 0, 2])], "test")
    assert first == {f"expert_{k}": f"expert_{k}" for k in (1, 2, 3, 4)}
    assert second == {"expert_1": "expert_2", "expert_2": "expert_4", "expert_3": "expert_1", "expert_4": "expert_3"}
