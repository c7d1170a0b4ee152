"""Metrics against an independent library, ablations and intervals against what they must be."""

import math

import empyrical
import numpy as np
import pytest

from moe_trader.evaluation.metrics import METRICS, performance
from moe_trader.evaluation.statistics import intervals_of_sums
from moe_trader.evaluation.strategies import restrict, shuffle_in_time
from moe_trader.evaluation.walk import walk

PER_YEAR = 252


@pytest.fixture(scope="module")
def trace(prepared, make_agent):
    agent, single = make_agent(seed=0).learn(256), make_agent(seed=1, count=1).learn(256)
    return walk(prepared, "test", agent, single, seed=0)


def measured(log_returns, **changes):
    n = len(log_returns)
    account = {"traded": np.zeros(n), "carried": np.ones(n), "cost": np.zeros(n), "margin_calls": np.zeros(n)} | changes
    return performance(log_returns, initial_equity=100.0, bars_per_year=PER_YEAR, **account)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_agree_with_empyrical(seed):
    log_returns = np.random.default_rng(seed).normal(2e-4, 0.012, 1500)
    returns, found = np.expm1(log_returns), measured(log_returns)
    assert found["sharpe"] == pytest.approx(empyrical.sharpe_ratio(returns, annualization=PER_YEAR), rel=1e-9)
    assert found["sortino"] == pytest.approx(empyrical.sortino_ratio(returns, annualization=PER_YEAR), rel=1e-9)
    assert found["max_drawdown"] == pytest.approx(empyrical.max_drawdown(returns), rel=1e-9)
    assert found["volatility"] == pytest.approx(empyrical.annual_volatility(returns, annualization=PER_YEAR), rel=1e-9)
    assert found["annual_return"] == pytest.approx(empyrical.annual_return(returns, annualization=PER_YEAR), rel=1e-9)
    assert found["calmar"] == pytest.approx(empyrical.calmar_ratio(returns, annualization=PER_YEAR), rel=1e-9)


def test_counts_by_hand():
    found = measured(
        np.log([1.1, 0.9, 1.0, 1.2]),
        traded=np.array([1.0, 0.0, 2.0, 0.0]),
        carried=np.array([1.0, 1.0, 0.0, 0.5]),
        cost=np.array([0.5, 0.0, 1.0, 0.0]),
        margin_calls=np.array([0.0, 1.0, 0.0, 1.0]),
    )
    assert list(found) == list(METRICS)
    assert found["trades"] == 2
    assert found["hit_rate"] == pytest.approx(2 / 3)
    assert found["exposure"] == pytest.approx(2.5 / 4)
    assert found["turnover"] == pytest.approx(3 / 4 * PER_YEAR)
    assert found["cost"] == pytest.approx(0.015)
    assert found["margin_calls"] == 2
    assert found["max_drawdown"] == pytest.approx(-0.1)
    assert found["log_return"] == pytest.approx(math.log(1.1 * 0.9 * 1.2))


def test_an_account_that_never_trades_has_no_ratios():
    found = measured(np.zeros(100), carried=np.zeros(100))
    assert found["log_return"] == found["volatility"] == found["max_drawdown"] == 0
    assert all(math.isnan(found[name]) for name in ("sharpe", "sortino", "calmar", "hit_rate"))


def test_intervals_cover_the_mean_of_a_persistent_series_as_often_as_they_say():
    """Blocks matter: treating an AR(1) of 0.8 as independent would cover about half as often."""
    hits, trials = 0, 60
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(1000)
        series = np.zeros(1000)
        for at in range(1, 1000):
            series[at] = 0.8 * series[at - 1] + noise[at]
        low, high = intervals_of_sums(series[:, None], lambda sums: sums / 1000, seed, 1000**0.5)
        hits += bool(low[0] <= 0 <= high[0])
    assert hits / trials > 0.82


def test_intervals_repeat_with_their_seed():
    values = np.random.default_rng(0).standard_normal((200, 2))

    def ends(seed):
        return intervals_of_sums(values, lambda sums: sums / 200, seed, 14.0)

    np.testing.assert_array_equal(ends(1), ends(1))
    assert (ends(1) != ends(2)).any()


def test_shuffling_keeps_every_weight_and_moves_most():
    gate = np.random.default_rng(0).dirichlet(np.ones(3), size=(400, 2))
    shuffled = shuffle_in_time(gate, [range(400), range(300)], seed=0)
    for column, n in enumerate((400, 300)):
        assert sorted(map(tuple, shuffled[:n, column])) == sorted(map(tuple, gate[:n, column]))
        assert (shuffled[:n, column] != gate[:n, column]).any(axis=1).mean() > 0.8
    np.testing.assert_array_equal(shuffled[300:, 1], gate[300:, 1])


def test_every_strategy_trades_its_own_account(trace, prepared):
    hold, flat = trace.index("buy_and_hold"), trace.index("flat")
    (one,) = trace.instruments
    assert (trace.reward[:, flat] == 0).all()
    fee = math.log1p(-prepared.rules.costs.rate)
    assert trace.reward[:, hold, 0].sum() == pytest.approx(math.log(one.close[-1] / one.close[0]) + fee, abs=1e-9)
    assert trace.equity[-1, hold, 0] == pytest.approx(
        prepared.rules.initial_equity * math.exp(trace.reward[:, hold].sum())
    )


def test_an_expert_alone_does_what_it_says_it_would_at_the_first_bar(trace):
    """At the first bar every account is still the same, so each expert's own action is what it does when alone."""
    for k, name in enumerate(("expert_1", "expert_2", "expert_3")):
        assert trace.position[0, trace.index(name), 0] == trace.own_target[0, 0, k]


def test_evaluation_leaves_the_generators_of_training_alone(prepared, make_agent):
    import torch

    agent = make_agent(seed=0)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  # the legacy generator is what SB3 uses
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    walk(prepared, "validation", agent, None, seed=0)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_no_test_bar_is_seen_in_validation(prepared):
    seen = {
        split: {(one.instrument, stamp) for one in prepared.evaluated(split) for stamp in one.paid}
        for split in ("validation", "test")
    }
    assert not seen["validation"] & seen["test"]


@pytest.mark.parametrize("width", [80, 100, 130, 200])
def test_the_table_fits_the_terminal(width, prepared, make_agent):
    from io import StringIO

    from rich.console import Console

    from moe_trader.evaluation.console import performance_view
    from moe_trader.evaluation.evaluate import evaluate

    tables = evaluate(prepared, make_agent(seed=0), None, 0, splits=("test",))
    page = Console(file=StringIO(), width=width)
    page.print(performance_view(tables.experts, "test", width))
    text = page.file.getvalue()
    assert "…" not in text
    assert all(name in text for name in ("log return", "Sharpe", "max drawdown", "trades", "strongest_expert"))
    assert ("More columns in evaluation/experts.csv" in text) == (width < 150)


def test_bankruptcy_is_said_and_nothing_is_concluded_from_it(make_settings, small_experts):
    from moe_trader.agent import MoEAgent
    from moe_trader.evaluation.console import verdict
    from moe_trader.evaluation.evaluate import evaluate

    fee = "+env.costs.order={_target_: moe_trader.env.costs.FixedPerOrder, entry: 9999, exit: 9999}"
    settings = make_settings(fee)
    task = settings.env.prepare()
    agent = MoEAgent(task.training_env(2, 0), small_experts(), settings.gating, seed=0)
    tables = evaluate(task, agent, None, 0, splits=("test",))
    assert verdict(tables.comparisons, "random", "test").startswith(
        "On the test split mixture and random went bankrupt"
    )
    experts = tables.experts.set_index(["strategy", "instrument"])
    assert experts.loc[("random", "all"), "log_return"] == pytest.approx(math.log(1e-6))


def test_dropping_an_expert_leaves_the_others_in_proportion():
    gate = np.array([[[0.5, 0.3, 0.2]], [[1.0, 0.0, 0.0]]])
    np.testing.assert_allclose(restrict(gate, (1, 2)), [[[0.0, 0.6, 0.4]], [[0.0, 0.5, 0.5]]])
    np.testing.assert_allclose(restrict(gate, (0, 1)), [[[0.625, 0.375, 0.0]], [[1.0, 0.0, 0.0]]])


def test_each_expert_is_dropped_once_of_three_or_more(trace, prepared, make_agent):
    names = [strategy.name for strategy in walk(prepared, "test", make_agent(count=3), None, 0).strategies]
    assert [name for name in names if name.startswith("without_")] == [f"without_expert_{k}" for k in (1, 2, 3)]
    names = [strategy.name for strategy in walk(prepared, "test", make_agent(count=2), None, 0).strategies]
    assert not [name for name in names if name.startswith("without_")]


def test_margin_calls_are_counted_where_they_happen(make_settings, make_market, make_agent):
    """A short through a jump of 75 % is closed once; steps and performance count the same calls."""
    from moe_trader.evaluation.evaluate import evaluate
    from moe_trader.evaluation.strategies import Strategy
    from moe_trader.evaluation.walk import trade

    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
    close[860:] *= 1.75  # equity 0.25 for a position of 1.75
    settings = make_settings("env=csv", "env.path=unread", small=False)
    task = settings.env.prepare(market=make_market(close))
    instruments = task.evaluated("test")
    short = Strategy("short", "baseline", targets=np.full((len(instruments[0]), 1), -1.0))
    agent = make_agent(env=task.training_env(4, 0))
    record = trade(task, "test", [*_all_of(agent, len(instruments[0])), short], instruments, 0)
    assert record["margin_calls"][:, -1].sum() == 1
    assert record["position"][:, -1].min() == -1
    assert (record["position"][:, -1] == -(1 - record["margin_calls"][:, -1])).all()
    tables = evaluate(task, agent, None, 0, splits=("test",))
    mixture = tables.experts.query("strategy == 'mixture' and instrument == 'all'").iloc[0]
    assert tables.steps["margin_call"].sum() == mixture["margin_calls"]


def _all_of(agent, length):
    from moe_trader.evaluation.strategies import experts_alone

    return experts_alone(agent, (length, 1, len(agent.expert_names)))


def test_the_interval_of_a_group_is_the_same_whatever_the_other_groups_are():
    groups = np.random.default_rng(0).normal(size=(9, 300, 4))
    all_of_them = intervals_of_sums(groups, lambda sums: sums.ravel(), 1, 17.0).reshape(2, 9, 4)
    for at, group in enumerate(groups):
        for own in (group, group[None]):
            np.testing.assert_array_equal(intervals_of_sums(own, np.ravel, 1, 17.0), all_of_them[:, at])
