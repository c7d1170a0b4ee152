"""Regret, disagreement, Shapley values and attribution: closed forms, exact sums, and recomputed from a run's files."""

from __future__ import annotations

import dataclasses
import logging
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_trader.env import Market
from moe_trader.env.evaluated import Evaluated
from moe_trader.evaluation.attribution import attribution_table
from moe_trader.evaluation.disagreement import disagreement_measure, disagreement_table
from moe_trader.evaluation.evaluate import evaluate, write_tables
from moe_trader.evaluation.report import write_report
from moe_trader.evaluation.routing import MEASURES, best_experts, routing_table
from moe_trader.evaluation.shapley import coalitions, shapley_series, shapley_table
from moe_trader.evaluation.strategies import Routing, coalition_name, restrict
from moe_trader.evaluation.walk import Trace, walk
from moe_trader.run_files import TABLES

NAMES = ["expert_1", "expert_2", "expert_3", "expert_4"]


@pytest.fixture(scope="module")
def task(make_settings):
    """Two test series of different calendars: the second lost every third bar, and its last quarter."""
    env = make_settings("env.market.series.test=2").env
    *others, last = env.market.load().instruments
    kept = np.flatnonzero(np.arange(3 * len(last) // 4) % 3 != 1)
    bars = {name: getattr(last, name)[kept] for name in ("time", "open", "high", "low", "close", "volume", "regime")}
    whole = env.market.load()
    cut = dataclasses.replace(last, **bars)
    return env.prepare(market=Market("cut", (*others, cut), opens_are_real=True, regime_names=whole.regime_names))


@pytest.fixture(scope="module")
def agent(make_agent):
    return make_agent(seed=0, count=4).learn(1024)


@pytest.fixture(scope="module")
def trace(task, agent):
    return walk(task, "test", agent, None, 0, best_experts(task, agent), coalitions=True)


@pytest.fixture(scope="module")
def tables(task, agent):
    return evaluate(task, agent, None, 0)


def by_hand(rewards, regimes=None, gate=None, own_target=None, hidden=None):
    """Return a trace of one instrument in which each named strategy earned these rewards."""
    n = len(next(iter(rewards.values())))
    kinds = {name: "expert" if name.startswith("expert") else "baseline" for name in rewards}
    strategies = tuple(SimpleNamespace(name=name, kind=kinds[name]) for name in rewards)
    days = np.datetime64("2020-01-01", "us") + np.arange(n + 1) * np.timedelta64(40, "D")
    regime = np.zeros(n, int) if regimes is None else np.array(regimes)
    instrument = Evaluated("hand", days[:-1], days[1:], regime, np.ones(n + 1), 365.25 / 40, {})
    reward = np.stack([np.asarray(r, dtype=float) for r in rewards.values()], axis=1)[..., None]
    nothing = np.zeros_like(reward)
    gate = np.full((n, 2), 0.5) if gate is None else np.asarray(gate)
    own = np.zeros_like(gate) if own_target is None else np.asarray(own_target, dtype=float)
    return Trace(
        "test",
        100.0,
        strategies,
        (instrument,),
        reward=reward,
        position=nothing,
        carried=nothing,
        traded=nothing,
        cost=nothing,
        margin_calls=nothing,
        equity=nothing,
        gate=gate[:, None],
        own_target=own[:, None],
        coalitions={name: np.asarray(values, dtype=float)[:, None] for name, values in (hidden or {}).items()},
    )


def values_of(table):
    return table.set_index("measure")["value"]


# Routing


def test_routing_measures_by_hand():
    rewards = {
        "mixture": [1, 1, 0, 0],
        "expert_1": [2, 2, -1, -1],
        "expert_2": [0, 0, 1, 1],
        "oracle_routing": [2, 2, 1, 1],
    }
    gate = [[0.75, 0.25], [0.75, 0.25], [0.5, 0.5], [0.5, 0.5]]
    trace = by_hand({name: 1e-4 * np.array(r) for name, r in rewards.items()}, [0, 0, 1, 1], gate)
    table = routing_table(trace, Routing(np.array([0, 1]), fixed=0), 2, seed=0)
    found = values_of(table)
    assert list(found.index) == list(MEASURES)
    assert found["routing_regret"] == pytest.approx((6 - 2) / 4)  # basis points a bar
    assert found["routing_headroom"] == pytest.approx((6 - 2) / 4)  # the first expert alone earns 2
    assert found["regret_share"] == pytest.approx(1.0)
    lost = [2 - (0.75 * 2 + 0.25 * 0), 1 - (0.5 * -1 + 0.5 * 1)]
    assert found["regret_rate"] == pytest.approx(0.5 * lost[0] + 0.5 * lost[1])
    assert (table["low"] <= table["value"] + 1e-9).all()
    assert (table["value"] <= table["high"] + 1e-9).all()


def test_without_headroom_there_is_no_share():
    rewards = {"mixture": [0, 1], "expert_1": [1, 1], "expert_2": [0, 0], "oracle_routing": [1, 0]}
    found = values_of(routing_table(by_hand(rewards, [0, 1]), Routing(np.array([0, 1]), fixed=0), 2, seed=0))
    assert found["routing_headroom"] < 0
    assert np.isnan(found["regret_share"])


def test_oracle_routing_to_one_expert_is_that_expert(task, agent):
    n_regimes = len(task.labels.names)
    found = walk(task, "test", agent, None, 0, Routing(np.full(n_regimes, 2), fixed=2))
    forced, alone = found.index("oracle_routing"), found.index("expert_3")
    np.testing.assert_array_equal(found.reward[:, forced], found.reward[:, alone])


def test_oracle_routing_forces_the_expert_of_each_regime(task, agent):
    """At the first bar all accounts are alike, so that what is forced is what that expert says by itself."""
    chosen = Routing(np.array([3, 0, 2, 1]), fixed=0)
    found = walk(task, "test", agent, None, 0, chosen)
    for i, one in enumerate(found.instruments):
        own = found.own_target[0, i, chosen.experts[one.regime[0]]]
        assert found.position[0, found.index("oracle_routing"), i] == own


def test_the_oracle_takes_the_best_of_the_validation_split(task, agent, tables):
    competence = tables.competence.query("split == 'validation'")
    best = best_experts(task, agent)
    expected = competence[NAMES].to_numpy()
    for z, row in enumerate(expected):
        assert best.experts[z] == (best.fixed if np.isnan(row).any() else row.argmax())
    overall = np.nansum(expected * competence[["bars"]].to_numpy(), axis=0)  # one series: bars weigh equally
    assert best.fixed == overall.argmax()


def test_one_expert_cannot_be_routed(prepared, make_agent):
    found = evaluate(prepared, make_agent(count=1), None, 0, splits=("test",))
    assert "oracle_routing" not in found.equity
    routed = found.specialisation[found.specialisation["measure"].isin([*MEASURES, "disagreement"])]
    assert len(routed) == len(MEASURES) + 1
    assert routed["value"].isna().all()
    assert found.shapley["shapley"].to_numpy() == pytest.approx(found.coalitions["log_return"].to_numpy()[1:])


# Disagreement


def test_disagreement_by_hand():
    own = [[1, 1, 0], [1, -1, 0], [0, 0, 0], [1, -1, 1]]
    trace = by_hand({"mixture": np.zeros(4)}, gate=np.full((4, 3), 1 / 3), own_target=own)
    table = disagreement_table(trace, NAMES[:3]).set_index(["expert", "other"])
    assert table.loc[("expert_1", "expert_2"), "disagreement"] == 0.5
    assert table.loc[("expert_1", "expert_2"), "distance"] == 1.0
    assert table.loc[("expert_1", "expert_3"), "disagreement"] == 0.5
    assert table.loc[("expert_2", "expert_3"), "disagreement"] == 0.75
    assert values_of(disagreement_measure(trace, 0))["disagreement"] == pytest.approx((0.5 + 0.5 + 0.75) / 3)


# Shapley values


def values(members):
    """A game of four in which nobody is like another: worth more together than the sum, except the last two."""
    return sum(k + 1 for k in members) ** 1.5 - 3 * ({2, 3} <= set(members)) + 0.5


def test_shapley_values_are_mean_contributions_over_all_orders():
    worth = {coalition_name(members, NAMES): values(members) for members in coalitions(4)}
    trace = by_hand(
        {name: [v] for name, v in worth.items() if "+" not in name},
        gate=np.full((1, 4), 0.25),
        hidden={name: [v] for name, v in worth.items() if "+" in name},
    )
    expected = np.zeros(4)
    for order in permutations(range(4)):
        for place, k in enumerate(order):
            expected[k] += (values(order[: place + 1]) - values(order[:place])) / 24
    np.testing.assert_allclose(shapley_series(trace, NAMES)[0], expected, rtol=1e-12)


def test_shapley_values_sum_to_the_mixture_less_the_flat_account(trace):
    table = shapley_table(trace, NAMES, 0)
    assert table["shapley"].sum() == pytest.approx(trace.pooling.total(trace.reward[:, 0]), abs=1e-12)
    assert table["shapley"].abs().max() > 1e-3
    assert (table["low"] < table["high"]).all()


@pytest.mark.parametrize(("count", "extra"), [(1, 0), (2, 0), (3, 0), (4, 6)])
def test_no_coalition_is_walked_twice(count, extra, prepared, make_agent):
    found = walk(prepared, "validation", make_agent(count=count), None, 0, coalitions=True)
    assert len(found.coalitions) == extra
    assert not set(found.coalitions) & {strategy.name for strategy in found.strategies}
    walked = {coalition_name(members, NAMES[:count]) for members in coalitions(count)}
    assert walked <= {*found.coalitions, *(strategy.name for strategy in found.strategies)}


def test_coalitions_change_nobody_elses_account(task, agent, trace):
    without = walk(task, "test", agent, None, 0, best_experts(task, agent))
    assert [one.name for one in without.strategies] == [one.name for one in trace.strategies]
    np.testing.assert_array_equal(without.reward, trace.reward)
    np.testing.assert_array_equal(without.position, trace.position)


def test_a_coalition_shares_the_weights_in_proportion():
    gate = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(restrict(gate, (0, 2)), [[5 / 7, 0, 2 / 7], [1, 0, 0]])
    np.testing.assert_allclose(restrict(gate, (1, 2)), [[0, 0.6, 0.4], [0, 0.5, 0.5]])
    np.testing.assert_array_equal(restrict(gate, (1,)), [[0, 1, 0], [0, 1, 0]])


def test_too_many_experts_are_left_out_and_it_is_said(prepared, make_agent, caplog):
    caplog.set_level(logging.INFO, logger="moe_trader")
    found = evaluate(prepared, make_agent(count=7), None, 0, splits=("validation",))
    assert found.shapley.empty
    assert found.coalitions.empty
    assert "Shapley values are left out: 7 experts have 128 coalitions" in caplog.text
    assert len(found.disagreement) == 21


def test_shapley_values_can_be_turned_off(prepared, make_agent):
    found = evaluate(prepared, make_agent(count=4), None, 0, splits=("validation",), shapley=False)
    assert found.shapley.empty
    assert not found.attribution.empty


# Attribution


def test_attribution_sums_to_what_the_mixture_did(task, trace, tables):
    table = attribution_table(trace, task.labels.names, NAMES)
    whole = tables.experts.query("split == 'test' and strategy == 'mixture' and instrument == 'all'").iloc[0]
    for what in ("log_return", "trades", "turnover", "cost"):
        assert table.query("regime == 'all'")[what].sum() == pytest.approx(whole[what], rel=1e-12)
        assert table.query("regime != 'all'")[what].sum() == pytest.approx(whole[what], rel=1e-12)
    assert whole["trades"] > 0


def test_an_expert_with_all_the_weight_gets_it_all():
    trace = by_hand({"mixture": [0.1, -0.2, 0.3]}, [0, 1, 1], gate=[[1, 0], [0, 1], [0.5, 0.5]])
    table = attribution_table(trace, ["calm", "wild"], NAMES[:2]).set_index(["regime", "expert"])["log_return"]
    assert table["calm", "expert_1"] == pytest.approx(0.1)
    assert table["calm", "expert_2"] == 0
    assert table["wild", "expert_1"] == pytest.approx(0.15)
    assert table["all", "expert_2"] == pytest.approx(-0.05)


# From the files of a run directory, as docs/specialisation.md says


@pytest.fixture(scope="module")
def run(tables, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    write_tables(tables, directory)
    return directory


@pytest.fixture(scope="module")
def steps(run):
    """The mixture's bars on test; `share`: weight of the instrument by the time it covers, `weight`: of one bar."""
    steps = pd.read_parquet(run / "activations/steps.parquet").query("split == 'test'").reset_index(drop=True)
    equity = pd.read_parquet(run / "evaluation/equity.parquet").query("split == 'test'")
    spans = equity.groupby("instrument")["time"].max() - steps.groupby("instrument")["time"].min()
    steps["share"] = steps["instrument"].map(spans / spans.sum())
    steps["weight"] = steps["share"] / steps.groupby("instrument")["time"].transform("size")
    assert steps["share"].min() < 0.4  # unequal, so that weights matter
    return steps


def measure(run, name):
    table = pd.read_csv(run / "evaluation/specialisation.csv")
    return table.query("split == 'test' and measure == @name")["value"].item()


def rewards(run, name):
    """Return a strategy's log return of each bar, from its equity; the flat account keeps what all began with."""
    equity = pd.read_parquet(run / "evaluation/equity.parquet").query("split == 'test'")
    level = np.log(equity[name] / equity["flat"])
    return level.groupby(equity["instrument"]).diff().fillna(level).reset_index(drop=True)


def mean(values, weight):
    return (values * weight).sum() / weight.sum()


def test_importance_can_be_recomputed(run, steps):
    table = pd.read_csv(run / "activations/by_regime.csv").query("split == 'test'").dropna()
    for row in table.itertuples():
        mine = steps[steps["regime"] == row.regime]
        assert mean(mine[f"gate_{row.expert}"], mine["weight"]) == pytest.approx(row.importance, rel=1e-12)
        assert len(mine) == row.bars
        assert row.importance_low <= row.importance <= row.importance_high


def test_regret_can_be_recomputed(run, steps):
    regret = rewards(run, "oracle_routing") - rewards(run, "mixture")
    assert measure(run, "routing_regret") == pytest.approx(1e4 * mean(regret, steps["weight"]), abs=1e-9)
    competence = pd.read_csv(run / "evaluation/competence.csv").query("split == 'test'").set_index("regime")
    table = pd.read_csv(run / "activations/by_regime.csv").query("split == 'test'")
    importance = table.pivot_table(index="regime", columns="expert", values="importance")[NAMES]
    earned, share = competence.loc[importance.index, NAMES], steps.groupby("regime")["weight"].sum()
    for name in NAMES:
        own = (rewards(run, name) * steps["weight"]).groupby(steps["regime"]).sum() / share
        np.testing.assert_allclose(1e4 * own[earned.index], earned[name], rtol=1e-9)
    lost = earned.max(axis=1) - (importance * earned).sum(axis=1)
    assert measure(run, "regret_rate") == pytest.approx(mean(lost, share[lost.index]), rel=1e-9)


def test_disagreement_can_be_recomputed(run, steps):
    table = pd.read_csv(run / "evaluation/disagreement.csv").query("split == 'test'")
    for row in table.itertuples():
        gap = (steps[f"own_{row.expert}"] - steps[f"own_{row.other}"]).abs()
        expected = mean(gap > 0, steps["weight"]), mean(gap, steps["weight"])
        assert (row.disagreement, row.distance) == pytest.approx(expected, rel=1e-12)
    assert measure(run, "disagreement") == pytest.approx(table["disagreement"].mean(), rel=1e-12)


def test_attribution_can_be_recomputed(run, steps):
    table = pd.read_csv(run / "evaluation/attribution.csv").query("split == 'test' and regime == 'all'")
    start = pd.read_parquet(run / "evaluation/equity.parquet")["flat"].iloc[0]
    weights = steps[[f"gate_{name}" for name in NAMES]]
    for row in table.itertuples():
        share = steps["share"] * steps[f"gate_{row.expert}"] / weights.sum(axis=1)
        assert (share * steps["reward"]).sum() == pytest.approx(row.log_return, rel=1e-9)
        assert (share * (steps["traded"] > 0)).sum() == pytest.approx(row.trades, rel=1e-9)
        assert (share * steps["cost"]).sum() / start == pytest.approx(row.cost, rel=1e-9)


def test_shapley_values_can_be_recomputed(run):
    read = pd.read_csv(run / "evaluation/coalitions.csv", keep_default_na=False).query("split == 'test'")
    worth = {frozenset(filter(None, row.members.split("+"))): row.log_return for row in read.itertuples()}
    table = pd.read_csv(run / "evaluation/shapley.csv").query("split == 'test'")
    for row in table.itertuples():
        gains = [
            np.mean([worth[s | {row.expert}] - worth[s] for s in worth if len(s) == size and row.expert not in s])
            for size in range(4)
        ]
        assert np.mean(gains) == pytest.approx(row.shapley, abs=1e-12)


# The report


def page_of(tables, directory):
    directory.mkdir(exist_ok=True)
    return write_report(tables, directory, {"market": "hand", "experts": "4", "seed": 0}, []).read_text()


def test_the_report_shows_the_evidence_with_its_intervals(tables, tmp_path):
    page = page_of(tables, tmp_path)
    found = tables.specialisation.query("split == 'test' and measure == 'routing_regret'").iloc[0]
    assert f"{found['value']:.3f} [{found['low']:.2f}, {found['high']:.2f}]" in page
    for row in tables.shapley.query("split == 'test'").itertuples():
        assert f"{row.shapley:+.3f} <small>[{row.low:+.2f}, {row.high:+.2f}]</small>" in page
    for row in tables.disagreement.query("split == 'test'").itertuples():
        assert page.count(f">{100 * row.disagreement:.0f} %</td>") >= 2  # the matrix is symmetric


def test_the_report_does_without_shapley_values_and_without_rivals(prepared, make_agent, tmp_path):
    many = evaluate(prepared, make_agent(count=7), None, 0)
    page = page_of(many, tmp_path / "many")
    assert "Shapley value" not in page
    assert "attributed log return" in page
    alone = page_of(evaluate(prepared, make_agent(count=1), None, 0), tmp_path / "alone")
    assert "Disagreement, test split" not in alone


def test_every_measure_is_documented(tables):
    page = (Path(__file__).parents[1] / "docs/specialisation.md").read_text()
    for name in [*tables.specialisation["measure"].unique(), *TABLES.values()]:
        assert f"`{name}`" in page, name
    assert "docs/specialisation.md" in (Path(__file__).parents[1] / "README.md").read_text()
