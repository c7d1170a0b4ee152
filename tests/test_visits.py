"""How long a run trains: visits of each training bar, in one number that everything uses."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from composed import settings_of, trainer_of
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from moe_trader import legacy
from moe_trader.config import compose, config_directory, run_settings, to_plain
from moe_trader.env.task import PreparedTask
from moe_trader.option import ConfigError, build, describe

OLD = Path(__file__).parent / "data" / "0.1.0" / "softmax" / ".hydra"


def prepared_of(settings) -> PreparedTask:
    return settings.env.prepare(gate_input=settings.gating.gate_input())


@pytest.fixture(scope="module")
def nasdaq():
    return settings_of().env.prepare()


def steps_of(*overrides, task):
    made = settings_of(*overrides)
    return made.trainer.steps(task, made.expert)


# --- the product ------------------------------------------------------------------------------------------------------


def test_steps_are_visits_of_the_bars_that_the_training_split_decides_on(nasdaq):
    bars = sum(len(one.time) for one in nasdaq.evaluated("train"))
    assert nasdaq.training_bars == bars == 3_110
    assert steps_of(task=nasdaq) == 25 * 3_110 == 77_750


def test_training_bars_are_those_of_all_instruments(prepared):
    assert prepared.training_bars == sum(len(one.time) for one in prepared.evaluated("train"))
    assert len(prepared.evaluated("train")) == 2


def test_a_family_has_a_factor(nasdaq):
    assert steps_of("expert=a2c", task=nasdaq) == 1.5 * 77_750


def test_the_product_is_rounded_and_at_least_one(prepared, settings):
    bars = prepared.training_bars
    for visits, steps in ((1.4 / bars, 1), (1.6 / bars, 2), (1e-9, 1), (3, 3 * bars)):
        task = PreparedTask(dataclasses.replace(prepared.task, visits=visits), prepared.market, prepared.scaler)
        assert settings.trainer.steps(task, settings.expert) == steps


def test_a_number_of_steps_wins(nasdaq):
    for family in ("ppo", "a2c"):
        assert steps_of("trainer.total_timesteps=1234", "env.visits=7", f"expert={family}", task=nasdaq) == 1_234


@pytest.mark.parametrize(
    "overrides",
    [
        ("env=nasdaq",),
        ("env=sp500",),
        ("env=stocks", "env.market.symbols=[KO]"),
        ("env=synthetic", "env.market.bars=700", "env.market.series.train=3"),
        ("env=synthetic", "env.market.bars=700", "gating=sticky"),
        ("env=nasdaq", "env/split=walk_forward", "env.split.fold=1"),
        ("env=csv",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("family", ["ppo", "a2c"])
def test_null_trains_on_every_market(overrides, family, tmp_path):
    if "env=stocks" in overrides:
        pytest.importorskip("skfolio")  # an extra
    if "env=csv" in overrides:
        days = np.datetime64("2010-01-01") + np.arange(900)
        closes = 100 + np.random.default_rng(0).normal(size=900).cumsum()
        rows = [f"{day},{close:.2f}" for day, close in zip(days, closes, strict=True)]
        (tmp_path / "bars.csv").write_text("\n".join(["Date,Close", *rows]) + "\n")
        overrides = (*overrides, f"env.path={tmp_path / 'bars.csv'}", "env.fill=next_close")
    made = run_settings(compose([*overrides, f"expert={family}"]))
    task, factor = prepared_of(made), {"ppo": 1.0, "a2c": 1.5}[family]
    assert made.trainer.total_timesteps is None
    bars = sum(len(one.time) for one in task.evaluated("train"))
    assert made.env.visits == (5.16636 if "env=synthetic" in overrides else 25)
    assert made.trainer.steps(task, made.expert) == round(made.env.visits * bars * factor) > 0


@pytest.mark.parametrize("market", ["four_regimes", "two_regimes", "three_regimes", "rare_crash", "drifting"])
def test_synthetic_markets_keep_their_steps(market):
    """All have the bars of the default one, which sets the visits."""
    made = settings_of("env=synthetic", f"env/market={market}")
    default = settings_of("env=synthetic").env
    drawn = (made.env.market.bars, made.env.market.series, made.env.visits)
    assert drawn == (default.market.bars, default.market.series, default.visits)


def test_ppo_takes_400_000_steps_on_the_synthetic_market_and_a2c_600_000():
    task = settings_of("env=synthetic", "env/features=multi_horizon").env.prepare()
    assert task.training_bars == 77_424
    assert steps_of("env=synthetic", task=task) == 400_000
    assert steps_of("env=synthetic", "expert=a2c", task=task) == 600_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.visits=0", r"^env\.visits: Input should be greater than 0, got 0$"),
        ("env.visits=null", r"^env\.visits: Input should be a valid number, got None$"),
        ("env.visits='25'", r"^env\.visits: Input should be a valid number, got '25'$"),
        ("trainer.total_timesteps=0", r"^trainer\.total_timesteps: Input should be greater than 0, got 0$"),
    ],
)
def test_visits_and_steps_that_are_none_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        run_settings(compose([override]))


# --- what fit gets ----------------------------------------------------------------------------------------------------


def test_fit_trains_the_steps_that_it_is_given(make_agent, settings, tmp_path):
    trainer = dataclasses.replace(settings.trainer, n_envs=4)
    agent = make_agent(n_epochs=1)
    trainer.fit(agent, tmp_path, total_timesteps=200)
    assert agent.algorithm.num_timesteps == 256


@pytest.mark.parametrize(("asked", "trained"), [(None, 128), (200, 256)])
def test_fit_falls_back_on_the_setting(make_agent, settings, tmp_path, asked, trained):
    trainer = dataclasses.replace(settings.trainer, n_envs=4, total_timesteps=100)
    agent = make_agent(n_epochs=1)
    trainer.fit(agent, tmp_path, total_timesteps=asked)
    assert agent.algorithm.num_timesteps == trained


def test_fit_without_any_number_names_the_way_out(make_agent, settings, tmp_path):
    message = (
        "total_timesteps: expected a number of steps, because trainer.total_timesteps is null; pass "
        "total_timesteps=trainer.steps(task, expert)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        settings.trainer.fit(make_agent(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for wrong in (0, 1.5, True, "many"):
        with pytest.raises(ValueError, match=r"^total_timesteps: expected a whole number, 1 or more, got "):
            settings.trainer.fit(make_agent(), tmp_path / "run", total_timesteps=wrong)


# --- what the log says ------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(nasdaq, caplog):
    """``logged("env.visits=30")``: what the log says of a run's length on NASDAQ, as (level, line)."""
    from moe_trader.trainer.visits import log_steps

    def log(*overrides):
        made = settings_of(*overrides)
        task = PreparedTask(made.env, nasdaq.market, nasdaq.scaler)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="moe_trader.trainer.visits"):
            log_steps(made.trainer, task, made.expert)
        return [(record.levelno, record.getMessage()) for record in caplog.records]

    return log


def test_the_product_is_logged(logged):
    ppo, a2c = "3,110 training bars x 1 (ppo)", "3,110 training bars x 1.5 (a2c)"
    assert logged() == [(logging.INFO, f"Training steps: 77,750 = 25 visits x {ppo}")]
    assert logged("expert=a2c") == [(logging.INFO, f"Training steps: 116,625 = 25 visits x {a2c}")]
    assert logged("env.visits=0.5") == [(logging.INFO, f"Training steps: 1,555 = 0.5 visits x {ppo}")]
    assert logged("trainer.total_timesteps=100_000") == [
        (logging.INFO, f"Training steps: 100,000 (trainer.total_timesteps), about 32.2 visits x {ppo}")
    ]


def test_more_than_60_visits_are_warned_about(logged):
    heart = "visits of each training bar (above 60): mixture and single policy learn the training years by heart; set"
    assert logged("env.visits=61")[1:] == [(logging.WARNING, f"61 {heart} env.visits to at most 60")]
    assert logged("trainer.total_timesteps=400_000")[1:] == [
        (
            logging.WARNING,
            f"128.6 {heart} trainer.total_timesteps to at most 186,600, or to null for 25 (env.visits)",
        )
    ]
    assert "85.7 visits" in logged("trainer.total_timesteps=400_000", "expert=a2c")[1][1]


@pytest.mark.parametrize("override", ["env.visits=60", "trainer.total_timesteps=186_600"])
def test_60_visits_are_not(logged, override):
    assert [level for level, _ in logged(override)] == [logging.INFO]


def test_a_run_trains_what_its_log_and_its_report_say(finished_run):
    log, report = (finished_run / "train.log").read_text(), (finished_run / "report.html").read_text()
    (line,) = [line for line in log.splitlines() if "Training steps: " in line]
    assert "Training steps: 1,024 (trainer.total_timesteps), about " in line
    assert "1,024" in report
    assert "Training mixture: 1,024 steps" in log
    assert "Training single policy: 1,024 steps" in log


# --- runs of before ---------------------------------------------------------------------------------------------------


def rerun(*overrides):
    """Compose as ``moe-train rerun RUN`` does, on a run of 0.1.0."""
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        composed = hydra_compose("rerun", overrides=[f"hydra.searchpath=[file://{OLD}]", *overrides])
    return run_settings(to_plain(composed))


def test_an_old_run_repeats_with_its_own_number_of_steps():
    made = rerun()
    task = prepared_of(made)
    assert made.trainer.steps(task, made.expert) == made.trainer.total_timesteps == 4_096
    assert (made.env.visits, made.trainer.cost_multiple) == (25, 1)


def test_an_old_run_can_be_repeated_by_visits():
    made = rerun("trainer.total_timesteps=null", "env.visits=2", "trainer.cost_multiple=3")
    task = prepared_of(made)
    assert made.trainer.steps(task, made.expert) == 2 * task.training_bars
    assert made.trainer.cost_multiple == 3


def test_settings_that_a_config_of_before_lacks_mean_what_was_true_then(settings):
    plain = describe(settings)
    for full in legacy.ADDED:
        *groups, key = full.split(".")
        node = plain
        for group in groups:
            node = node[group]
        del node[key]
    made = build(plain, "")
    assert (made.kernels, made.env.visits, made.trainer.cost_multiple) == ("auto", 25, 1)


def test_a_trainer_of_python_has_no_steps_of_its_own(prepared, settings):
    trainer = trainer_of(total_timesteps=None, n_envs=4)
    assert trainer.steps(prepared, settings.expert) == round(5.16636 * prepared.training_bars)
