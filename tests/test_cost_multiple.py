"""Costs in training apart from those of evaluation: exact in the ledger, and 1 changes no bit."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from moe_trader.config import compose, run_settings
from moe_trader.env.costs import (
    FREE,
    Borrow,
    CashInterest,
    CostRates,
    FixedPerOrder,
    HalfSpread,
    Proportional,
    SquareRootImpact,
    VolatilitySlippage,
    total,
)
from moe_trader.env.task import PreparedTask
from moe_trader.option import ConfigError
from moe_trader.train import run


def pieces(m=1):
    """Every piece of cost, m times as dear."""
    return {
        "commission": Proportional(bp=1.0 * m),
        "spread": HalfSpread(bp=2.0 * m),
        "order": FixedPerOrder(entry=2.0 * m, exit=3.0 * m),
        "slippage": VolatilitySlippage(fraction=0.125 * m),
        "impact": SquareRootImpact(coefficient=0.5 * m, volume_cap=0.25),
        "borrow": Borrow(annual=0.0625 * m),
        "cash": CashInterest(credit_annual=0.03125, debit_annual=0.125 * m),
    }


@pytest.fixture(scope="module")
def task_of(prepared):
    """``task_of(costs)``: the small synthetic task at these costs, positions up to twice equity."""
    instruments = tuple(
        dataclasses.replace(one, volume=np.full(len(one.close), 1e3)) for one in prepared.market.instruments
    )
    market = dataclasses.replace(prepared.market, instruments=instruments)
    positions = dataclasses.replace(prepared.task.positions, fractions=[-1.0, 0.0, 1.0, 2.0])
    return lambda costs: PreparedTask(
        dataclasses.replace(prepared.task, costs=costs, positions=positions), market, prepared.scaler
    )


def episodes(env):
    """Return all that some random steps show, and the cost paid in each, shape ``(steps, lanes)``."""
    rng, shown, costs = np.random.default_rng(0), [env.reset()], []
    for _ in range(300):
        observations, rewards, dones, _ = env.step(rng.integers(env.action_space.n, size=4))
        shown.append(np.column_stack([observations, rewards, dones]))
        costs.append(env.unwrapped.lanes.cost.copy())
    return shown, np.array(costs)


def assert_same(one, other):
    assert all(np.array_equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert np.array_equal(one[1], other[1])


# --- the rates --------------------------------------------------------------------------------------------------------


def test_every_charge_is_multiplied_and_nothing_else():
    rates = CostRates(1e-4, 2.0, 3.0, 0.1, 0.5, 0.3, 0.05, 0.02, 0.07)
    tripled = CostRates(3 * 1e-4, 6.0, 9.0, 3 * 0.1, 1.5, 0.3, 3 * 0.05, 0.02, 3 * 0.07)
    assert rates.times(3) == tripled
    assert rates.times(0) == FREE._replace(volume_cap=0.3, credit=0.02)


@pytest.mark.parametrize("costs", [{}, pieces()], ids=["none", "all"])
def test_a_multiple_of_1_leaves_every_bit(costs):
    rates = total(costs.values())
    assert np.array(rates.times(1.0)).tobytes() == np.array(rates).tobytes()


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, -math.inf, True, "2", None, [1], 1e10, 10**400])
def test_other_numbers_are_refused(prepared, wrong):
    with pytest.raises(ConfigError, match=r"^trainer\.cost_multiple: expected a number from 0 to 1e9, got "):
        prepared.training_env(2, 0, wrong)


@pytest.mark.parametrize("kind", [int, float, np.float32, np.float64, np.int64])
def test_numbers_of_every_kind_are_taken(prepared, kind):
    assert prepared.rules.costs.times(kind(2)) == prepared.rules.costs.times(2.0)


def test_a_multiple_that_leaves_nothing_is_refused(prepared):
    message = (
        "trainer.cost_multiple: 5000 times 2 bp are 100% of the amount traded; expected less than all of it: a "
        "multiple below 5000"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        prepared.training_env(2, 0, 5_000)


@pytest.mark.parametrize("word", ["-1", "inf", "nan", "true", "null", "two"])
def test_a_config_that_is_wrong_names_the_setting(word):
    with pytest.raises(ConfigError, match=r"^trainer\.cost_multiple: .*, got "):
        run_settings(compose([f"trainer.cost_multiple={word}"]))


# --- the ledger -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0.5, 4.0])
def test_training_at_a_multiple_is_training_at_costs_that_high(task_of, m):
    """Powers of two, so that no product is rounded."""
    scaled, dear = task_of(pieces()).training_env(4, 0, m), task_of(pieces(m)).training_env(4, 0)
    found = episodes(scaled)
    assert_same(found, episodes(dear))
    assert (found[1] > 0).mean() > 0.5


def test_a_fill_pays_the_multiple_to_the_bit(task_of):
    task = task_of({"commission": Proportional(bp=8.0), "order": FixedPerOrder(entry=2.0, exit=3.0)})
    paid = {}
    for m in (1.0, 2.0, 0.0):
        env = task.training_env(1, 0, m)
        env.reset()
        env.step(np.array([2]))  # buys equity's worth
        paid[m] = float(env.unwrapped.lanes.cost[0])
    rate = 8e-4
    assert paid[1.0] == pytest.approx(10_000 * rate + 2, rel=1e-12)
    assert paid[2.0] == 2 * paid[1.0]
    assert paid[0.0] == 0


def test_a_multiple_of_1_is_no_multiple_at_all(task_of):
    task = task_of(pieces())
    assert_same(episodes(task.training_env(4, 0)), episodes(task.training_env(4, 0, 1.0)))


def test_a_multiple_of_0_trains_without_costs(task_of):
    costs = {"commission": Proportional(bp=5.0), "order": FixedPerOrder(entry=2.0, exit=3.0)}
    found = episodes(task_of(costs).training_env(4, 0, 0))
    assert_same(found, episodes(task_of({}).training_env(4, 0)))
    assert not found[1].any()


def test_lanes_that_name_bars_charge_the_same(task_of):
    task = task_of(pieces())
    env = task.training_env(4, 0, 4.0).with_bar_indices()
    assert np.array_equal(episodes(env)[1], episodes(task.training_env(4, 0, 4.0))[1])


def test_evaluation_pays_what_it_paid(task_of):
    task = task_of(pieces())
    before = task.rules
    task.training_env(4, 0, 9.0)
    assert task.rules is before
    assert task.walk("test", 1).rules.costs == total(pieces().values())
    assert_same(episodes(task.vec_env("train", 4, 0)), episodes(task_of(pieces()).vec_env("train", 4, 0)))


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_trains_at_the_multiple_and_says_so(make_settings, finished_run, tmp_path, caplog, monkeypatch):
    made, true = [], PreparedTask.training_env

    def spied(*arguments):
        made.append(true(*arguments))
        return made[-1]

    monkeypatch.setattr(PreparedTask, "training_env", spied)
    small = ("expert.count=2", "expert.net_arch=[8]", "trainer.n_envs=4", "expert.batch_size=64", "expert.n_epochs=1")
    small = (*small, "trainer.total_timesteps=128", "shapley=false", "env.costs.commission.bp=10")
    caplog.set_level("INFO", logger="moe_trader")
    run(make_settings(*small, "trainer.cost_multiple=5"), tmp_path)
    charged = [env.unwrapped.lanes.rules.costs.rate for env in made]
    assert charged == [5 * (10 * 1e-4)] * 2  # of mixture and single policy
    line = "5 times those of evaluation: 50 bp of the amount traded"
    assert f"Costs in training: {line}; evaluation pays those of env.costs" in caplog.messages
    report = (tmp_path / "report.html").read_text()
    assert line in report
    assert "10 bp of the amount traded" in report
    assert "costs in training" not in (finished_run / "report.html").read_text().lower()
    assert "Costs in training" not in (finished_run / "train.log").read_text()
