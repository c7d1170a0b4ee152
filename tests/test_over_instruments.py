"""What is said of several instruments: every number again from a run's files, by code that shares nothing with ours."""

from __future__ import annotations

from math import factorial

import empyrical
import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap

from moe_trader.env import Instrument, Market
from moe_trader.env.evaluated import Evaluated
from moe_trader.evaluation import over_seeds
from moe_trader.evaluation.console import performance_view, verdict, weights_of
from moe_trader.evaluation.evaluate import evaluate, write_tables
from moe_trader.evaluation.figures import pooled_growth
from moe_trader.evaluation.pooling import Pooling
from moe_trader.evaluation.strategies import Strategy
from moe_trader.evaluation.tables import comparison_table, performance_table
from moe_trader.evaluation.walk import Trace

EXPERTS = ["expert_1", "expert_2", "expert_3"]
DAY = np.timedelta64(1, "D")


def random_instrument(rng, symbol, kind):
    """Return days of about two and a half years: all of them, working days, with gaps, late, ended early, or weeks."""
    days = np.datetime64("2020-01-01") + np.arange(900)
    if kind == "working days":
        days = days[np.is_busday(days)]
    elif kind == "gaps":
        days = days[rng.random(len(days)) > 0.3]
    elif kind == "late":
        days = days[200:]
    elif kind == "ended early":
        days = days[: rng.integers(850, 880)]
    elif kind == "weeks":
        days = days[:: rng.integers(2, 4)]
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, len(days))))
    opening = np.concatenate([close[:1], close[:-1]])
    bars = {"open": opening, "high": np.maximum(opening, close), "low": np.minimum(opening, close), "close": close}
    return Instrument(symbol=symbol, time=days.astype("datetime64[us]"), volume=np.zeros(len(days)), **bars)


@pytest.fixture(scope="module", params=range(3))
def run(request, make_settings, make_agent, tmp_path_factory):
    """Tables of two seeds on instruments of random calendars, written to files: (market, directories, tables)."""
    rng = np.random.default_rng(request.param)
    kinds = [
        "all days",
        *rng.permutation(["working days", "gaps", "late", "ended early", "weeks"])[: 2 + request.param],
    ]
    instruments = tuple(random_instrument(rng, f"S{number}", kind) for number, kind in enumerate(kinds))
    market = Market("random", instruments, opens_are_real=False)
    overrides = [
        "env=csv",
        "env.path=unread",
        "env.fill=next_close",
        "env.regimes.trend_bars=20",
        "env.features.trend.spans=[10]",
    ]
    overrides += ["env.features.autocorrelation.spans=[20]", "env.features.volatility.spans=[20]"]
    task = make_settings(*overrides, small=False).env.prepare(market=market)
    found = {}
    for seed in (0, 1):
        agent = make_agent(seed=seed, env=task.training_env(4, seed), count=3).learn(256)
        directory = tmp_path_factory.mktemp(f"seed_{seed}")
        tables = evaluate(task, agent, None, seed, splits=("validation", "test"))
        write_tables(tables, directory)
        found[seed] = directory, tables
    return market, found


# --- An independent implementation: pandas, from the files ----------------------------------------------------------


class Again:
    """A split of a run, from `equity.parquet` and `steps.parquet` alone (and the market's stamps, for calendars)."""

    def __init__(self, directory, market, split):
        equity = pd.read_parquet(directory / "evaluation/equity.parquet").query("split == @split")
        steps = pd.read_parquet(directory / "activations/steps.parquet").query("split == @split")
        self.start = equity["flat"].iloc[0]
        self.strategies = [name for name in equity if name not in ("split", "instrument", "time")]
        self.names = list(equity["instrument"].unique())
        logs = {
            name: np.log(group.set_index("time")[self.strategies] / self.start)
            for name, group in equity.groupby("instrument", sort=False)
        }
        self.returns = {name: log.diff().fillna(log) for name, log in logs.items()}
        self.steps = {name: group for name, group in steps.groupby("instrument", sort=False)}
        spans = pd.Series({n: self.returns[n].index[-1] - self.steps[n]["time"].iloc[0] for n in self.names})
        self.weight = spans / spans.sum()
        self.per_year = {}
        for one in market.instruments:
            stamps = pd.Series(one.time)
            years = (stamps.iloc[-1] - stamps.iloc[0]).total_seconds() / (365.25 * 86_400)
            self.per_year[one.symbol] = (len(stamps) - 1) / years
        for name in self.names:
            if spans[name] < pd.Timedelta(days=28):
                self.per_year[name] = np.nan

    def wide(self, strategy):
        """Return log returns with a row for each stamp and a column for each instrument, NaN where it has no bar."""
        return pd.DataFrame({name: self.returns[name][strategy] for name in self.names}).sort_index()

    def draws(self, seed, n=500):
        """Yield the row numbers of the bootstrap: blocks as long as sqrt(n) bars of the instrument with most bars."""
        rows = self.wide("flat")
        most = max(self.names, key=lambda name: rows[name].count())
        has = np.flatnonzero(rows[most].notna())
        block = np.sqrt(len(has)) * (has[-1] - has[0] + 1) / len(has)
        sampler = StationaryBootstrap(max(1.0, block), np.arange(len(rows)), seed=np.random.default_rng(seed))
        for data, _ in sampler.bootstrap(n):
            yield data[0]

    def sharpe(self, wide):
        """Return the weighted Sharpe ratio of rows, over instruments that have annual figures and two returns."""
        total, weights = 0.0, 0.0
        for name in self.names:
            returns = np.expm1(wide[name].dropna())
            if len(returns) > 1 and np.isfinite(self.per_year[name]):
                with np.errstate(invalid="ignore", divide="ignore"):
                    ratio = empyrical.sharpe_ratio(returns.to_numpy(), annualization=self.per_year[name])
                if returns.std() < 1e-12:
                    return np.nan
                total, weights = total + self.weight[name] * ratio, weights + self.weight[name]
        return total / weights


SPLITS = ["validation", "test"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_figure_of_performance(run, split):
    market, ((directory, _), _) = run[0], run[1].values()
    again = Again(directory, market, split)
    table = (
        pd.read_csv(directory / "evaluation/experts.csv").query("split == @split").set_index(["strategy", "instrument"])
    )
    for strategy in again.strategies:
        whole = {}
        for name in again.names:
            row, log = table.loc[(strategy, name)], again.returns[name][strategy]
            returns, per_year = np.expm1(log), again.per_year[name]
            with np.errstate(invalid="ignore", divide="ignore"):
                mine = {
                    "log_return": log.sum(),
                    "annual_return": empyrical.annual_return(returns, annualization=per_year),
                    "volatility": empyrical.annual_volatility(returns, annualization=per_year),
                    "max_drawdown": empyrical.max_drawdown(returns),
                }
                if returns.abs().max() > 0:
                    mine["sharpe"] = empyrical.sharpe_ratio(returns, annualization=per_year)
                    mine["sortino"] = empyrical.sortino_ratio(returns, annualization=per_year)
                    mine["calmar"] = empyrical.calmar_ratio(returns, annualization=per_year)
            if strategy == "mixture":
                steps = again.steps[name]
                held = steps["carried"].to_numpy() > 0
                mine |= {
                    "turnover": steps["traded"].mean() * per_year,
                    "trades": (steps["traded"] > 0).sum(),
                    "cost": steps["cost"].sum() / again.start,
                    "margin_calls": steps["margin_call"].sum(),
                    "exposure": steps["carried"].mean(),
                    "hit_rate": (log.to_numpy()[held] > 0).mean(),
                }
            for what, value in mine.items():
                assert row[what] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), (strategy, name, what)
            assert (row["weight"], row["bars"]) == (pytest.approx(again.weight[name]), len(log))
            whole[name] = mine
        pooled = pd.DataFrame(whole).T
        row = table.loc[(strategy, "all")]
        assert row["weight"] == 1
        assert row["bars"] == sum(len(again.returns[name]) for name in again.names)
        for what in pooled:
            expected = (pooled[what] * again.weight).sum(skipna=False)
            assert row[what] == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), (strategy, what)


@pytest.mark.parametrize("split", SPLITS)
def test_every_interval_of_performance(run, split):
    market, ((directory, _), _) = run[0], run[1].values()
    again = Again(directory, market, split)
    table = pd.read_csv(directory / "evaluation/experts.csv").query("split == @split and instrument == 'all'")
    table = table.set_index("strategy")
    for strategy in ("mixture", "buy_and_hold", "expert_2"):
        wide = again.wide(strategy)
        drawn = [wide.iloc[rows] for rows in again.draws(0)]
        earned = [(rows.sum() * again.weight).sum() for rows in drawn]
        ratios = [again.sharpe(rows) for rows in drawn]
        for what, values in (("log_return", earned), ("sharpe", ratios)):
            low, high = np.nanquantile(values, [0.025, 0.975])
            found = table.loc[strategy, [f"{what}_low", f"{what}_high"]]
            assert tuple(found) == pytest.approx((low, high), rel=1e-9), (strategy, what)


@pytest.mark.parametrize("split", SPLITS)
def test_every_comparison_and_its_verdict(run, split):
    market, ((directory, tables), _) = run[0], run[1].values()
    again = Again(directory, market, split)
    table = pd.read_csv(directory / "evaluation/comparisons.csv").query("split == @split").set_index("against")
    whole = pd.read_csv(directory / "evaluation/experts.csv").query("split == @split and instrument == 'all'")
    whole = whole.set_index("strategy")["log_return"]
    draws = list(again.draws(0))
    assert set(table.index) == set(again.strategies) - {"mixture"}
    for rival, row in table.iterrows():
        gap = ((again.wide("mixture") - again.wide(rival)) * again.weight).sum(axis=1).to_numpy()
        assert row["log_return_difference"] == pytest.approx(gap.sum(), abs=1e-12)
        assert row["log_return_difference"] == pytest.approx(whole["mixture"] - whole[rival], abs=1e-12)
        low, high = np.quantile([gap[rows].sum() for rows in draws], [0.025, 0.975])
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-12)
        line = verdict(tables.comparisons, rival, split)
        assert f"{gap.sum():+.3f} log return [{low:+.3f}, {high:+.3f}]" in line
        assert ("beats" in line) == (low > 0)
        assert ("is beaten by" in line) == (high < 0)


def test_every_shapley_value(run):
    market, ((directory, _), _) = run[0], run[1].values()
    again = Again(directory, market, "test")

    def worth(members):
        missing = [name for name in EXPERTS if name not in members]
        one = {0: "mixture", 1: f"without_{missing[0] if missing else ''}", 3: "flat"}
        strategy = one[len(missing)] if len(missing) != 2 else next(iter(members))
        return (again.wide(strategy).sum() * again.weight).sum()

    table = pd.read_csv(directory / "evaluation/shapley.csv").query("split == 'test'").set_index("expert")
    for expert in EXPERTS:
        others, value = [name for name in EXPERTS if name != expert], 0.0
        for members in [set(), {others[0]}, {others[1]}, set(others)]:
            share = factorial(len(members)) * factorial(2 - len(members)) / factorial(3)
            value += share * (worth(members | {expert}) - worth(members))
        assert table.loc[expert, "shapley"] == pytest.approx(value, abs=1e-12)


def test_every_number_of_several_seeds(run):
    market, found = run
    table = over_seeds.strategies_over_seeds([tables for _, tables in found.values()])
    again = [Again(directory, market, "test") for directory, _ in found.values()]
    for rival in ("buy_and_hold", "uniform_gate", "random"):
        earned = [[(one.wide(name).sum() * one.weight).sum() for one in again] for name in ("mixture", rival)]
        (row,) = table.query("split == 'test' and strategy == @rival").to_dict("records")
        assert row["log_return"] == pytest.approx(np.mean(earned[1]), abs=1e-12)
        assert row["mixture_minus"] == pytest.approx(np.mean(np.subtract(*earned)), abs=1e-12)


def test_the_curve_ends_at_the_return(run):
    for _, tables in run[1].values():
        mixture = tables.experts.query("strategy == 'mixture' and instrument != 'all'")
        weights = mixture.set_index(["split", "instrument"])["weight"]
        for split in SPLITS:
            part = tables.equity.query("split == @split")
            (row,) = tables.experts.query("split == @split and strategy == 'expert_1' and instrument == 'all'").to_dict(
                "records"
            )
            curve = pooled_growth(part, "expert_1", weights[split])
            assert np.log(curve.iloc[-1]) == pytest.approx(row["log_return"], abs=1e-9)
            assert curve.index.is_monotonic_increasing


# --- Traces by hand ---------------------------------------------------------------------------------------------------


def trace_of(instruments, reward):
    """Return a trace of a mixture and a buy-and-hold that earned these log returns, lists by instrument."""
    n, length = len(instruments), max(len(one) for one in instruments)
    values = np.full((length, 2, n), np.nan)
    for i, one in enumerate(instruments):
        values[: len(one), :, i] = np.asarray(reward[i])[:, None] * [1.0, 0.5]
    nothing = np.zeros_like(values)
    strategies = (Strategy("mixture", "mixture"), Strategy("buy_and_hold", "baseline"))
    kept = dict.fromkeys(("position", "carried", "traded", "cost", "margin_calls"), nothing)
    gate = np.ones((length, n, 1))
    equity = 100 * np.exp(np.nan_to_num(values))
    return Trace(
        "test",
        100.0,
        strategies,
        instruments,
        values,
        equity=equity,
        gate=gate,
        own_target=gate,
        coalitions=None,
        **kept,
    )


def bars(symbol, time, per_year=365.25):
    time = np.asarray(time).astype("datetime64[us]")
    n = len(time) - 1
    return Evaluated(symbol, time[:-1], time[1:], np.zeros(n, int), np.ones(n + 1), per_year, {})


@pytest.mark.parametrize("seed", range(4))
def test_a_calendar_with_holes_leaves_the_interval_as_it_is(seed):
    """Two equal instruments move together, so that an interval over both is as wide as over one; holes in the calendar
    of one do not change that."""
    rng = np.random.default_rng(seed)
    days = np.datetime64("2020-01-01") + np.arange(1201)
    level = np.concatenate([[0.0], np.cumsum(rng.normal(0, 0.01, 1200))])
    kept = np.flatnonzero(np.arange(1201) % 3 != 1)
    width = {}
    for name, held in (("equal", np.arange(1201)), ("holes", kept)):
        instruments = (bars("A", days), bars("B", days[held], 365.25 * len(held) / 1201))
        trace = trace_of(instruments, [np.diff(level), np.diff(level[held])])
        (row,) = (
            performance_table(trace, 0).query("strategy == 'buy_and_hold' and instrument == 'all'").to_dict("records")
        )
        width[name] = row["log_return_high"] - row["log_return_low"], row["sharpe_high"] - row["sharpe_low"]
    for equal, holes in zip(width["equal"], width["holes"], strict=True):
        assert holes == pytest.approx(equal, rel=0.1)


def test_exchanges_that_close_at_different_hours_are_drawn_in_days():
    """Each stamp belongs to one instrument: a block must still be as long as sqrt(n) of the days."""
    days = np.datetime64("2020-01-01T00", "h") + np.arange(401) * np.timedelta64(24, "h")
    instruments = [bars(f"S{hour}", days + np.timedelta64(hour, "h")) for hour in range(20)]
    pooling = Pooling(instruments)
    assert pooling.n_rows == 20 * 400
    assert pooling.block == pytest.approx(20 * 400**0.5, rel=0.01)


def test_hourly_and_daily_bars_of_one_span_weigh_the_same():
    hours = np.datetime64("2020-01-01T00", "h") + np.arange(24 * 100 + 1)
    instruments = (bars("hourly", hours, 8766), bars("daily", hours[::24]))
    pooling = Pooling(instruments)
    assert pooling.weights == pytest.approx([0.5, 0.5])
    trace = trace_of(instruments, [np.full(2400, 0.001), np.full(100, -0.002)])
    table = performance_table(trace, 0).query("strategy == 'mixture'").set_index("instrument")
    assert table.loc["hourly", "annual_return"] == pytest.approx(np.expm1(8.766))
    assert table.loc["daily", "annual_return"] == pytest.approx(np.expm1(-0.7305))
    assert table.loc["all", "log_return"] == pytest.approx(0.5 * 2.4 - 0.5 * 0.2)
    (gap,) = comparison_table(trace, 0)["log_return_difference"]
    assert gap == pytest.approx(0.5 * (0.5 * 2.4 - 0.5 * 0.2))


def test_a_short_instrument_weighs_what_its_time_is():
    """35 bars of one against 654 of the others: not a third of everything."""
    days = np.datetime64("2020-01-01") + np.arange(655)
    instruments = (bars("long", days), bars("also", days), bars("short", days[-36:]))
    assert Pooling(instruments).weights == pytest.approx(np.array([654, 654, 35]) / 1343)


def test_no_annual_figure_below_a_month():
    minutes = np.datetime64("2020-01-01T00:00", "m") + np.arange(1201)
    rng = np.random.default_rng(0)
    moves = rng.normal(0, 0.001, 1200)
    table = performance_table(trace_of((bars("minutes", minutes, 525_960),), [moves]), 0)
    for name in ("annual_return", "volatility", "sharpe", "sharpe_low", "sortino", "calmar", "turnover"):
        assert table[name].isna().all(), name
    assert table["log_return"].iloc[0] == pytest.approx(moves.sum())
    assert table["log_return_low"].iloc[0] < moves.sum() < table["log_return_high"].iloc[0]
    view = performance_view(table, "test", 100)
    assert "No annual figures: the split covers less than four weeks" in view.caption
    four_weeks = np.datetime64("2020-01-01") + np.arange(29)
    table = performance_table(trace_of((bars("days", four_weeks),), [rng.normal(0, 0.01, 28)]), 0)
    assert table["annual_return"].notna().all()


def test_annual_figures_are_those_of_the_instruments_that_have_any():
    days = np.datetime64("2020-01-01") + np.arange(201)
    rng = np.random.default_rng(0)
    moves = rng.normal(0.001, 0.01, 200)
    trace = trace_of((bars("long", days), bars("listed late", days[-11:])), [moves, moves[-10:]])
    table = performance_table(trace, 0).query("strategy == 'mixture'").set_index("instrument")
    assert table.loc["all", "sharpe"] == table.loc["long", "sharpe"]
    assert np.isnan(table.loc["listed late", "sharpe"])
    assert table.loc["all", "log_return"] == pytest.approx((200 * moves.sum() + 10 * moves[-10:].sum()) / 210)


def test_weights_are_stated():
    days = np.datetime64("2020-01-01") + np.arange(201)
    long, late = bars("LONG", days), bars("LATE", days[-51:])
    moves = np.full(200, 0.001)
    table = performance_table(trace_of((long, late), [moves, moves[-50:]]), 0)
    assert weights_of(table, "test") == "LONG 80 %, LATE 20 %"
    assert "Weights by time covered: LONG 80 %, LATE 20 %" in performance_view(table, "test", 100).caption
    equal = performance_table(trace_of((long, bars("B", days)), [moves, moves]), 0)
    assert weights_of(equal, "test") == "2 instruments, equal"
    assert weights_of(performance_table(trace_of((long,), [moves]), 0), "test") == ""


# --- Warnings when a market is prepared -------------------------------------------------------------------------------


def instrument_of(make_instrument, symbol, time):
    rng = np.random.default_rng(len(symbol))
    return make_instrument(100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(time)))), time=time, symbol=symbol)


def test_unequal_bars_and_short_instruments_are_named(make_settings, make_instrument, warnings):
    hours = np.datetime64("2020-01-01T00", "h") + np.arange(24 * 900)
    env = make_settings("env=csv", "env.path=unread", small=False).env

    def logged(*times):
        made = tuple(instrument_of(make_instrument, f"S{number}", time) for number, time in enumerate(times))
        env.prepare(market=Market("mine", made, opens_are_real=True))
        return warnings()

    text = logged(hours[::24], hours[::4])
    assert "mine: bars differ in length: 4 hours of S1, 1 day of S0. An episode, expert.gamma and feature spans" in text


def test_calendars_that_weekends_explain_are_no_reason_to_warn(make_settings, make_instrument, warnings):
    days = np.datetime64("2020-01-01") + np.arange(900)
    env = make_settings("env=csv", "env.path=unread", small=False).env
    made = (
        instrument_of(make_instrument, "COIN", days),
        instrument_of(make_instrument, "STOCK", days[np.is_busday(days)]),
        instrument_of(make_instrument, "ENDED", days[:740]),
    )
    env.prepare(market=Market("mine", made, opens_are_real=True))
    text = warnings()
    assert "bars differ" not in text
    assert "mine: short in the test split, which covers 180 days: ENDED 20 days (5.3 % of the weight)" in text
    assert text.count("short in the") == 1
