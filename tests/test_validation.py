"""Validation while training: when it happens, that it is the table's row, disturbs nothing, and what it selects."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_trader.agent import MoEAgent
from moe_trader.bundle import read_manifest
from moe_trader.config import compose, run_settings
from moe_trader.evaluation.backtest import Backtest
from moe_trader.evaluation.evaluate import evaluate
from moe_trader.evaluation.validation_curve import save_validation, validation_lines
from moe_trader.option import ConfigError, build, describe
from moe_trader.trainer.interval import FEW, MINUTE, MOST, STEPS_PER_BAR, STEPS_PER_DECISION, interval
from moe_trader.trainer.validation import Row, Validation

NAN = math.nan
USUAL = {"every": 1, "select": "last", "select_by": "sharpe", "patience": None, "total_timesteps": 1024, "seed": 0}


@pytest.fixture
def validation(prepared, make_agent):
    """``validation(agent, every=..., select=...)``: validations of an agent on the small synthetic task."""
    return lambda agent=None, **changes: Validation(prepared, agent or make_agent(count=2), **(USUAL | changes))


@pytest.fixture
def measured(monkeypatch):
    """``measured([0.1, 0.6])``: the Sharpe ratios of coming validations; log returns are a tenth of them."""

    def set_values(values):
        coming = iter(values)

        def run(self, agent):
            value = next(coming)
            log_return = 0.0 if math.isnan(value) else value / 10
            return {"sharpe": value, "log_return": log_return, "log_return_low": log_return - 1}

        monkeypatch.setattr(Backtest, "run", run)

    return set_values


def infos(caplog):
    return [record.getMessage() for record in caplog.records]


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "decisions", "bars", "number"),
    [
        (400_000, 754, 754, FEW),  # a twentieth of training pays for three; a short run has five
        (2_500_000, 754, 754, MOST),  # it pays for 22
        (2_500_000, 4_839, 19_356, 3),  # 125,000 / (7 x 4,839 + 0.3 x 19,356) = 3.15
        (1_500_000, 100_000, 100_000, 1),  # one costs more than a twentieth
        (3, 754, 754, 3),  # not more often than every step
    ],
)
def test_the_usual_interval_in_closed_form(steps, decisions, bars, number):
    assert (STEPS_PER_DECISION, STEPS_PER_BAR) == (7, 0.3)
    assert interval(steps, decisions, bars) == max(steps // number, 1)


def test_validations_of_longer_runs_cost_a_twentieth_of_training():
    rng = np.random.default_rng(0)
    for _ in range(500):
        steps, decisions = int(rng.integers(MINUTE + 1, 10**8)), int(rng.integers(50, 100_000))
        bars = decisions * int(rng.integers(1, 100))
        number = steps // interval(steps, decisions, bars)
        cost = number * (STEPS_PER_DECISION * decisions + STEPS_PER_BAR * bars)
        assert number == 1 or cost <= 0.05 * steps
        assert number <= MOST


def test_an_update_that_passes_a_multiple_is_validated(validation, measured):
    measured([0.0] * 9)
    one = validation(every=300)
    for step in range(128, 1025, 128):
        assert one.after_update(step) is False
    assert [row.step for row in one.curve] == [384, 640, 1024]
    assert one.finish(1024)["validations"] == 3  # the last update had one


def test_the_last_update_is_always_validated(validation, measured):
    measured([0.0] * 9)
    one = validation(every=300)
    for step in (128, 256, 384, 512):
        one.after_update(step)
    one.finish(512)
    assert [row.step for row in one.curve] == [384, 512]


def test_never_is_never(validation, monkeypatch):
    monkeypatch.setattr(Backtest, "run", None)
    one = validation(every=0)
    assert [one.after_update(step) for step in (128, 10**9)] == [False, False]
    assert one.finish(10**9) is None
    assert one.curve == []


# --- the same numbers as the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["discrete", "continuous"])
def test_a_validation_is_the_row_of_the_table(positions, make_settings, make_agent):
    env = make_settings(f"env/positions={positions}", "env.market.series.validation=2").env
    task = env.prepare()
    mixture = make_agent(env=task.training_env(4, 0)).learn(256)
    single = make_agent(env=task.training_env(4, 0), count=1).learn(256)
    for agent in (mixture, single):
        for expert in agent.model.experts:
            with torch.no_grad():
                expert.action_net.weight *= 50  # so that positions vary
    table = evaluate(task, mixture, single, 3, splits=("validation",), shapley=False).experts
    whole = table[table["instrument"] == "all"].set_index("strategy")
    for strategy, agent in (("mixture", mixture), ("single_policy", single)):
        found = Backtest(task, "validation", 3).run(agent)
        for name, value in whole.drop(columns="kind").loc[strategy].items():
            np.testing.assert_equal(found[name], value, err_msg=name)
        assert found["trades"] > 0


def test_a_run_ends_with_the_validation_of_its_tables(finished_run):
    experts = pd.read_csv(finished_run / "evaluation/experts.csv").query(
        "split == 'validation' and instrument == 'all'"
    )
    for strategy, folder in (("mixture", finished_run), ("single_policy", finished_run / "single_policy")):
        curve = pd.read_csv(folder / "validation.csv")
        (row,) = experts[experts["strategy"] == strategy].to_dict("records")
        last = curve.iloc[-1]
        assert [last["sharpe"], last["log_return"], last["lower_bound"]] == [
            row["sharpe"],
            row["log_return"],
            row["log_return_low"],
        ]
        assert len(curve) == FEW
        assert curve["selected"].tolist() == [0, 0, 0, 0, 1]
        progress = pd.read_csv(folder / "progress.csv")
        assert progress["validation/sharpe"].dropna().tolist() == pytest.approx(curve["sharpe"].tolist(), rel=1e-9)
        selection = read_manifest(folder / "bundle")["task"]["selection"]
        assert selection["step"] == last["step"]
        assert selection["value"] == last["sharpe"]


# --- nothing of training changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gating", "kernels"), [("softmax", "off"), ("annealed", "auto"), ("top_k", "auto")])
def test_training_is_the_same_to_the_bit(gating, kernels, make_settings, small_experts, prepared):
    """Weights, optimiser, gate, environments and every random generator are those of a training without."""
    gate = make_settings(f"gating={gating}").gating
    states = []
    for every in (0, 1):
        env = prepared.training_env(4, 0)
        agent = MoEAgent(env, small_experts(count=3), gate, seed=0, kernels=kernels)
        one = Validation(prepared, agent, **(USUAL | {"every": every}))
        train(agent, one, 384)
        one.finish(384)
        assert len(one.curve) == 3 * every
        states.append(agent.algorithm.state())
    first, second = states
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert json.dumps(first.values) == json.dumps(second.values)


# --- selection --------------------------------------------------------------------------------------------------------


def train(agent, one, steps):
    """Train, and return the weights after each update."""
    kept = []

    def after_update():
        kept.append({name: tensor.clone() for name, tensor in agent.model.state_dict().items()})
        one.after_update(agent.algorithm.num_timesteps)

    agent.algorithm.update_listeners.append(after_update)
    agent.learn(steps)
    return kept


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_best_weights_are_put_into_the_agent(validation, measured, make_agent):
    measured([0.1, 0.6, NAN, 0.3])
    agent = make_agent(count=2)
    one = validation(agent, select="best_validation")
    kept = train(agent, one, 512)
    assert not any(same(kept[1], other) for other in (kept[0], kept[2], kept[3]))
    found = one.finish(512)
    assert same(agent.model.state_dict(), kept[1])
    assert found == {
        "step": 256,
        "rule": "best_validation",
        "metric": "sharpe",
        "value": 0.6,
        "validations": 4,
        "why": "the highest Sharpe of 4 validations, up to step 512",
    }
    assert one.selected == 1


@pytest.mark.parametrize(("select_by", "best"), [("sharpe", 128), ("log_return", 256), ("lower_bound", 384)])
def test_the_metric_ranks(select_by, best, validation, monkeypatch):
    rows = iter([(3.0, 1.0, -9.0), (2.0, 3.0, -8.0), (1.0, 2.0, -1.0)])
    names = ("sharpe", "log_return", "log_return_low")
    monkeypatch.setattr(Backtest, "run", lambda self, agent: dict(zip(names, next(rows), strict=True)))
    one = validation(select="best_validation", select_by=select_by)
    for step in (128, 256, 384):
        one.after_update(step)
    found = one.finish(384)
    assert found["step"] == best
    assert found["metric"] == select_by
    assert one.curve[0] == Row(128, 3.0, 1.0, -9.0)


def test_of_equals_the_first_is_kept(validation, measured):
    measured([0.5, 0.5])
    one = validation(select="best_validation")
    for step in (128, 256):
        one.after_update(step)
    assert one.finish(256)["step"] == 128


def test_the_last_weights_stay_by_default(validation, measured, make_agent):
    measured([0.6, 0.1])
    agent = make_agent(count=2)
    one = validation(agent)
    kept = train(agent, one, 256)
    found = one.finish(256)
    assert same(agent.model.state_dict(), kept[-1])
    assert (found["step"], found["rule"], found["value"]) == (256, "last", 0.1)
    assert found["why"] == "the last weights (trainer.select=last), the best Sharpe was +0.60 at step 128"
    assert one.state()[0] == {}  # no weights are kept that nobody selects


def test_without_any_sharpe_the_last_weights_are_kept_and_it_is_logged(validation, measured, warnings):
    measured([NAN, NAN])
    one = validation(select="best_validation", patience=1)
    assert [one.after_update(step) for step in (128, 256)] == [False, False]
    found = one.finish(256)
    assert (found["step"], found["value"]) == (256, None)
    assert found["why"] == "the last weights; no validation has a Sharpe"
    assert warnings() == (
        "mixture: validation has no Sharpe (no trades, or less than four weeks of bars), so it is never the best; "
        "trainer.select_by=log_return always exists"
    )
    json.dumps(found, allow_nan=False)


def test_patience_counts_from_the_first_value_on(validation, measured):
    measured([NAN, NAN, 0.5, 0.4, 0.6, NAN, 0.6, 0.9])
    one = validation(select="best_validation", patience=2)
    assert [one.after_update(128 * n) for n in range(1, 8)] == [False] * 6 + [True]
    assert one.after_update(8 * 128) is False  # whoever trains on all the same may find better weights


def test_training_stops_when_patience_is_exhausted(settings, prepared, make_agent, measured, tmp_path):
    measured([0.1, 0.5, 0.4, 0.3])
    agent = make_agent(count=2)
    how = {"total_timesteps": 10_000, "n_envs": 4, "validate_every": 1, "select": "best_validation", "patience": 2}
    trainer = dataclasses.replace(settings.trainer, **how)
    trainer.fit(agent, tmp_path, validation=trainer.validation(prepared, agent, 0, 10_000))
    assert agent.algorithm._n_updates == 4 * agent.expert.n_epochs
    curve = pd.read_csv(tmp_path / "validation.csv")
    assert curve[["step", "sharpe", "selected"]].to_numpy().tolist() == [
        [128, 0.1, 0],
        [256, 0.5, 1],
        [384, 0.4, 0],
        [512, 0.3, 0],
    ]
    selection = read_manifest(tmp_path / "bundle")["task"]["selection"]
    assert selection["why"] == (
        "the highest Sharpe of 4 validations, up to step 512; training stopped after 2 without improvement"
    )
    assert same(MoEAgent.load(tmp_path / "bundle").model.state_dict(), agent.model.state_dict())
    assert agent.algorithm.update_listeners == []


# --- a state ----------------------------------------------------------------------------------------------------------


def through_files(state, path):
    tensors, values = state
    save_file(tensors, path / "state.safetensors")
    (path / "state.json").write_text(json.dumps(values, allow_nan=False))
    return load_file(path / "state.safetensors"), json.loads((path / "state.json").read_text())


def test_a_state_goes_on_as_if_nothing_had_happened(validation, measured, make_agent, tmp_path):
    values = [NAN, 0.1 + 0.2, 1 / 3, 0.25, 0.2, 0.1]
    whole, halves = make_agent(count=2), make_agent(count=2)
    how = {"select": "best_validation", "patience": 3, "every": 200}
    steps = [128 * n for n in range(1, 13)]

    measured(values)
    one = validation(whole, **how)
    expected = [one.after_update(step) for step in steps[:9]]

    measured(values)
    before = validation(halves, **how)
    found = [before.after_update(step) for step in steps[:5]]
    state = through_files(before.state(), tmp_path)
    after = validation(halves, **how)
    after.load_state(*state)
    found += [after.after_update(step) for step in steps[5:9]]
    assert found == expected
    np.testing.assert_equal(np.array(after.curve), np.array(one.curve))
    assert len(one.curve) == 5
    np.testing.assert_equal(after.state()[1], one.state()[1])
    assert same(after.state()[0], one.state()[0])
    ends = []
    for each in (one, after):
        measured([0.05])
        ends.append(each.finish(steps[8]))
    assert ends[0] == ends[1]
    assert ends[0]["validations"] == 6
    assert after.curve[2].sharpe == 1 / 3


def test_a_state_under_another_metric_is_refused(validation, measured):
    measured([0.1])
    one = validation(select="best_validation")
    one.after_update(128)
    other = validation(select="best_validation", select_by="log_return")
    message = (
        "trainer.select_by: expected sharpe, under which the run was validated so far, got log_return; keep it, or "
        "start a new run"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        other.load_state(*one.state())


# --- words ------------------------------------------------------------------------------------------------------------


def test_each_validation_is_one_line(validation, measured, caplog):
    measured([0.61, 0.5, NAN])
    caplog.set_level("INFO", logger="moe_trader")
    one = validation(select="best_validation", patience=5)
    for step in (40_960, 81_920, 122_880):
        one.after_update(step)
    one.finish(122_880)
    assert infos(caplog) == [
        "mixture, step 40,960: validation Sharpe +0.61, log return +0.061 (best so far)",
        "mixture, step 81,920: validation Sharpe +0.50, log return +0.050 (no improvement in 1 of 5)",
        "mixture, step 122,880: validation Sharpe -, log return +0.000 (no improvement in 2 of 5)",
        "Mixture keeps the weights of step 40,960: the highest Sharpe of 3 validations, up to step 122,880",
    ]


def test_the_curve_is_a_row_of_blocks(validation, measured, caplog):
    measured([0.1, 0.5, NAN, 0.3])
    caplog.set_level("INFO", logger="moe_trader")
    one = validation()
    for step in (128, 256, 384, 512):
        one.after_update(step)
    one.finish(512)
    assert infos(caplog)[4] == "Mixture, validation Sharpe over training: ▁█ ▄ (+0.10 to +0.50)"


def test_the_lower_bound_is_named_where_it_selects(validation, measured, caplog):
    measured([0.5])
    caplog.set_level("INFO", logger="moe_trader")
    validation(select_by="lower_bound").after_update(128)
    assert infos(caplog) == [
        "mixture, step 128: validation Sharpe +0.50, log return +0.050, lower bound of the log return -0.950 "
        "(best so far)"
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["trainer.select=best_validation", "trainer.validate_every=0"],
            "trainer: select=best_validation needs validations, but validate_every is 0; set "
            "trainer.validate_every=null or trainer.select=last",
        ),
        (
            ["trainer.patience=3"],
            "trainer: patience=3 ends training 3 validations after the best one, but select=last keeps the weights of "
            "the end; set trainer.select=best_validation or trainer.patience=null",
        ),
        (
            ["trainer.validate_every=-1"],
            "trainer.validate_every: Input should be greater than or equal to 0, got -1",
        ),
        (
            ["trainer.select=best"],
            "trainer.select: Input should be 'last' or 'best_validation', got 'best'",
        ),
        (
            ["trainer.select_by=sortino"],
            "trainer.select_by: Input should be 'sharpe', 'log_return' or 'lower_bound', got 'sortino'",
        ),
        (
            ["trainer.patience=0", "trainer.select=best_validation"],
            "trainer.patience: Input should be greater than 0, got 0",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(overrides, message):
    with pytest.raises(ConfigError) as raised:
        run_settings(compose(overrides))
    assert str(raised.value) == message


def test_a_config_from_before_validation_means_what_it_did(settings):
    new = ("validate_every", "select", "select_by", "patience")
    node = {name: value for name, value in describe(settings.trainer).items() if name not in new}
    old = build(node, "trainer")
    assert (old.validate_every, old.select, old.patience) == (0, "last", None)
    assert settings.trainer.validate_every is None


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_shows_the_curve(finished_run):
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    assert "<h2>Validation while training</h2>" in page
    assert "Mixture: 5 validations. The run keeps the weights of step 1,024 (Sharpe " in page
    assert "Single policy: 5 validations. " in page
    assert {"validation_sharpe.png", "validation_log_return.png"} <= {
        one.name for one in finished_run.glob("figures/*")
    }


def curve(*rows):
    return pd.DataFrame(rows, columns=["step", "sharpe", "log_return", "lower_bound", "selected"])


def test_a_curve_without_selection_or_sharpe_is_shown_too(tmp_path):
    interrupted = curve((128, NAN, 0.1, -0.1, 0))
    assert validation_lines({"mixture": interrupted}) == ["Mixture: 1 validation."]
    assert list(save_validation(tmp_path, {"mixture": interrupted})) == ["validation_log_return"]
    chosen = curve((128, 0.7, 0.1, -0.1, 1), (256, 0.2, 0.3, 0.0, 0))
    assert validation_lines({"single policy": chosen}) == [
        "Single policy: 2 validations. The run keeps the weights of step 128 (Sharpe +0.70, log return +0.100). The "
        "highest Sharpe was +0.70, at step 128."
    ]
