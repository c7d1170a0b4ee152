"""Evidence of specialisation against closed forms and chance."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from moe_trader.env.evaluated import Evaluated
from moe_trader.evaluation.pooling import Pooling
from moe_trader.evaluation.specialisation import MEASURES, information, routing_lag, specialisation_table

ONE = np.ones(1)  # weight of the bars of a single instrument


def trace(gates, regimes):
    longest = max(len(gate) for gate in gates)
    gate = np.full((longest, len(gates), gates[0].shape[1]), np.nan)
    for i, one in enumerate(gates):
        gate[: len(one), i] = one
    instruments = tuple(daily(np.asarray(regime)) for regime in regimes)
    return SimpleNamespace(split="test", gate=gate, instruments=instruments, pooling=Pooling(instruments))


def daily(regime):
    n = len(regime)
    days = np.datetime64("2020-01-01", "us") + np.arange(n + 1) * np.timedelta64(1, "D")
    return Evaluated("hand", days[:-1], days[1:], regime, np.ones(n + 1), 365.25, {})


def stays(rng, n, k, dwell):
    """Return labels that keep for ``dwell`` bars on average."""
    changes = rng.random(n) < 1 / dwell
    return rng.integers(k, size=n)[np.maximum.accumulate(np.where(changes, np.arange(n), 0))]


def measures(table):
    return table.set_index("measure")["value"]


def test_every_measure_is_there_and_explained(prepared, make_agent):
    from moe_trader.evaluation.walk import walk

    table = specialisation_table(walk(prepared, "test", make_agent(), None, 0), 0)
    assert table["measure"].tolist() == list(MEASURES)
    assert table["split"].unique().tolist() == ["test"]


def test_by_hand():
    gate = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    other = np.array([[0.9, 0.1], [0.9, 0.1]])
    found = measures(specialisation_table(trace([gate, other], [[0, 0, 1, 0], [0, 0]]), 0))
    importance = np.array([4.6, 1.4]) / 6
    assert found["effective_experts"] == pytest.approx(np.exp(-(importance * np.log(importance)).sum()))
    assert found["gate_entropy"] == pytest.approx(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)))
    assert found["switch_rate"] == pytest.approx(4 / 6 * 2 / 3)  # two switches in three steps, and none in one
    assert found["dwell"] == pytest.approx(6 / 4)  # six bars in four stays
    assert found["nmi"] == pytest.approx(1.0)
    assert found["routing_lag"] == 0.0


def test_information_of_a_known_table():
    # expert 0 leads in regime 0 with probability 3/4, expert 1 in regime 1 likewise, both regimes equally frequent
    lead, regime = np.array([0, 0, 0, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    expected = np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert information([lead], [regime], ONE, 0)[0] == pytest.approx(expected / np.log(2))


def test_a_gate_that_follows_regimes_is_told_from_one_that_is_as_slow():
    rng = np.random.default_rng(0)
    regimes = [stays(rng, 1_500, 3, 60) for _ in range(2)]
    follows = [np.where(rng.random(1_500) < 0.3, rng.integers(3, size=1_500), regime) for regime in regimes]
    nmi, adjusted, p_value = information(follows, regimes, np.full(2, 0.5), 1)
    assert nmi > 0.2
    assert 0.2 < adjusted < nmi
    assert p_value <= 0.01


def test_chance_is_called_chance():
    """Slow gates that know nothing: the p-value is uniform, and the adjusted information is zero on average."""
    rng = np.random.default_rng(2)
    found = [information([stays(rng, 600, 3, 40)], [stays(rng, 600, 3, 40)], ONE, 3) for _ in range(120)]
    nmi, adjusted, p_values = np.array(found).T
    assert nmi.mean() > 0.03  # which is not nothing, though nothing is known
    assert abs(adjusted.mean()) < 0.012
    assert 0.02 <= (p_values < 0.1).mean() <= 0.2
    assert 0.35 < np.median(p_values) < 0.65


@pytest.mark.parametrize(
    ("lead", "regime"), [(np.zeros(9, int), np.arange(9) % 2), (np.arange(9) % 2, np.zeros(9, int))]
)
def test_where_nothing_changes_there_is_nothing_to_know(lead, regime):
    assert np.isnan(information([lead], [regime], ONE, 0)).all()


def test_unknown_regimes_are_left_out():
    lead, regime = np.array([1, 1, 1, 0, 1, 0]), np.array([-1, -1, -1, 0, 1, 0])
    assert information([lead], [regime], ONE, 0)[0] == pytest.approx(1.0)


def test_routing_lag_by_hand():
    regime = np.repeat([0, 1, 0, 1], [6, 6, 6, 6])
    lead = np.repeat([0, 1, 0, 1], [8, 5, 8, 3])  # late by 2, 1 and 3 bars
    assert routing_lag([lead], [regime], ONE) == 2.0


def test_a_leader_that_never_comes_counts_with_the_whole_stay():
    regime = np.repeat([0, 1, 0, 1], [20, 20, 5, 20])
    lead = np.repeat([0, 1], [20, 45])  # the stay of five is missed
    assert routing_lag([lead], [regime], ONE) == 0.0
    assert routing_lag([lead[:45]], [regime[:45]], ONE) == 2.5  # of 0 and 5


def test_no_lag_where_regimes_share_their_leader():
    assert np.isnan(routing_lag([np.zeros(10, int)], [np.arange(10) // 5], ONE))
