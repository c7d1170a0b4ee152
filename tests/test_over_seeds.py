"""What several seeds have in common: means, intervals and experts that are matched before they are averaged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from moe_trader.evaluation import over_seeds
from moe_trader.evaluation.statistics import t_interval

FIRST = {"mixture": 1.0, "expert_1": 0.3, "expert_2": 0.5, "without_expert_1": 0.6, "buy_and_hold": 0.2}
SECOND = {"mixture": 2.0, "expert_1": 0.7, "expert_2": 0.1, "without_expert_1": 0.9, "buy_and_hold": 0.2}


def tables_of(earned, importance):
    """Tables of one seed: log return of each strategy, and which expert acts in which of two regimes."""
    kinds = {"mixture": "mixture", "buy_and_hold": "baseline", "without_expert_1": "ablation"}
    experts = [
        {
            "split": split,
            "instrument": instrument,
            "strategy": strategy,
            "kind": kinds.get(strategy, "expert"),
            "log_return": value + (instrument != "all"),
            "sharpe": 2 * value,
        }
        for split in ("validation", "test")
        for instrument in ("A", "all")
        for strategy, value in earned.items()
    ]
    by_regime = [
        {"split": split, "regime": regime, "expert": expert, "importance": value, "bars": 10}
        for split in ("validation", "test")
        for regime, values in zip(("up", "down"), importance, strict=True)
        for expert, value in zip(("expert_1", "expert_2"), values, strict=True)
    ]
    return SimpleNamespace(experts=pd.DataFrame(experts), by_regime=pd.DataFrame(by_regime))


@pytest.fixture
def seeds():
    """Two seeds; what the first calls its first expert is the second one's second."""
    return [tables_of(FIRST, [[0.9, 0.1], [0.2, 0.8]]), tables_of(SECOND, [[0.1, 0.9], [0.6, 0.4]])]


def row(table, **at):
    (found,) = table[np.logical_and.reduce([table[name] == value for name, value in at.items()])].to_dict("records")
    return found


def test_the_interval_over_seeds_is_students():
    values = np.array([1.0, 2.0, 4.0])
    mean, half = t_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert np.isnan(t_interval(values[:1])[1])


def test_means_are_over_seeds_and_differences_paired(seeds):
    table = over_seeds.strategies_over_seeds(seeds)
    mixture, held = (row(table, split="test", strategy=name) for name in ("mixture", "buy_and_hold"))
    assert mixture["log_return"] == pytest.approx(1.5)
    assert mixture["mixture_minus"] == mixture["mixture_minus_low"] == 0
    assert held["mixture_minus"] == pytest.approx(1.3)
    assert held["mixture_minus_high"] - 1.3 == pytest.approx(t_interval(np.array([0.8, 1.8]))[1])
    assert held["log_return_low"] == held["log_return_high"] == 0.2
    assert mixture["sharpe"] == pytest.approx(3.0)
    assert list(table["strategy"][:5]) == list(FIRST)
    assert set(table["seeds"]) == {2}


def test_what_no_seed_changes_has_no_interval():
    """Whatever rounding makes of the mean of equal numbers."""
    tables = [tables_of({"mixture": 0.1 * n, "buy_and_hold": -0.188}, [[0.9, 0.1], [0.2, 0.8]]) for n in range(7)]
    held = row(over_seeds.strategies_over_seeds(tables), split="test", strategy="buy_and_hold")
    assert held["log_return"] == held["log_return_low"] == held["log_return_high"] == -0.188
    assert over_seeds.signed(held, "log_return") == "-0.188"


def test_a_sharpe_ratio_that_one_seed_lacks_has_no_mean(seeds):
    seeds[1].experts.loc[seeds[1].experts["strategy"] == "mixture", "sharpe"] = np.nan
    assert np.isnan(row(over_seeds.strategies_over_seeds(seeds), split="test", strategy="mixture")["sharpe"])


def test_experts_are_matched_before_they_are_averaged(seeds):
    table = over_seeds.strategies_over_seeds(seeds)
    assert row(table, split="test", strategy="expert_1")["log_return"] == pytest.approx((0.3 + 0.1) / 2)
    assert row(table, split="test", strategy="expert_2")["log_return"] == pytest.approx((0.5 + 0.7) / 2)
    regimes = over_seeds.regimes_over_seeds(seeds)
    assert row(regimes, split="test", regime="up", expert="expert_1")["importance"] == pytest.approx(0.9)
    assert row(regimes, split="test", regime="down", expert="expert_1")["importance"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([0.9, 1.0, 1.1], "Over 3 seeds the mixture beats single policy on test: +1.000 [+0.752, +1.248] log return."),
        ([-0.9, -1.0, -1.1], "the mixture is beaten by single policy on test: -1.000 [-1.248, -0.752] log return."),
        (
            [-1.0, 0.0, 1.0],
            "cannot be told from single policy on test: +0.000 [-2.484, +2.484] log return.",
        ),
    ],
)
def test_the_verdict_is_as_strong_as_its_interval(gaps, said):
    tables = [tables_of({"mixture": gap, "single_policy": 0.0}, [[0.9, 0.1], [0.2, 0.8]]) for gap in gaps]
    table = over_seeds.strategies_over_seeds(tables)
    assert over_seeds.verdict(table, "single_policy", "test").endswith(said)
    assert over_seeds.verdict(table, "nobody", "test") == ""


def test_what_is_written_is_what_is_shown(seeds, tmp_path):
    facts = {"market": "hand", "experts": "2 PPO experts"}
    table = over_seeds.write_seeds({3: seeds[0], 4: seeds[1]}, ["Nobody can trade it."], tmp_path, facts)
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "seeds.csv"))
    pd.testing.assert_frame_equal(table, over_seeds.strategies_over_seeds(seeds))
    assert len(pd.read_csv(tmp_path / "seeds_by_regime.csv")) == 8
    text = (tmp_path / "report.html").read_text()
    assert '<ul class="notes"><li>Nobody can trade it.</li></ul>' in text
    assert 'href="seed_3/report.html"' in text
    assert "0.90 ± 0.00" in text
    shown = Console(width=120, record=True)
    shown.print(over_seeds.seeds_view(table, "test"))
    held = "+1.300 [-5.053, +7.653]"
    assert held in text
    assert held in shown.export_text()
