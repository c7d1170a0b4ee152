"""Runs and bundles of 0.1.0 (`tests/data/0.1.0`, one of every gate) open, act and evaluate as they did."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe_trader.agent import MoEAgent
from moe_trader.bundle import read_manifest
from moe_trader.config import load_config, run_settings, to_plain
from moe_trader.evaluate import check_task, saved_features, saved_scaler
from moe_trader.evaluation.evaluate import evaluate
from moe_trader.rerun import rerun_report

OLD = Path(__file__).parent / "data" / "0.1.0"
RUNS = sorted(path.name for path in OLD.iterdir())


def settings_of(run):
    return run_settings(to_plain(load_config(run / ".hydra" / "config.yaml")))


def prepared(run, settings):
    features = saved_features(run / "bundle", settings.env.features)
    env = dataclasses.replace(settings.env, features=features)
    return env.prepare(saved_scaler(run / "bundle"), gate_input=settings.gating.gate_input())


def test_there_is_one_of_every_gate():
    gates = {path.stem for path in (OLD.parents[2] / "conf" / "gating").glob("*.yaml")}
    assert gates <= {*RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_an_old_bundle_acts_as_it_did(name):
    agent, acts = MoEAgent.load(OLD / name / "bundle"), np.load(OLD / name / "acts.npz")
    observations = acts["observations"]
    np.testing.assert_allclose(agent.gate_weights(observations), acts["gate_weights"], atol=1e-6)
    np.testing.assert_allclose(agent.expert_actions(observations), acts["expert_actions"], atol=1e-6)
    np.testing.assert_allclose(agent.predict(observations)[0], acts["actions"], atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "continuous"])
def test_an_old_run_evaluates_as_it_did(name):
    """Another processor may round a tie the other way, so that single bars may differ."""
    run = OLD / name
    settings = settings_of(run)
    task, agent = prepared(run, settings), MoEAgent.load(run / "bundle")
    check_task(task.summary(), read_manifest(run / "bundle")["task"], run)
    tables = evaluate(task, agent, None, settings.seed, shapley=False)
    old, new = pd.read_parquet(run / "activations/steps.parquet"), tables.steps
    same = [column for column in old if column != "regime"]
    assert (old["regime"] == new["regime"]).all()
    close = np.isclose(old[same].select_dtypes("number"), new[same].select_dtypes("number"), atol=1e-6).all(axis=1)
    assert close.mean() > 0.98
    equity = pd.read_parquet(run / "evaluation/equity.parquet")
    np.testing.assert_allclose(equity["buy_and_hold"], tables.equity["buy_and_hold"], rtol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_an_old_config_means_what_it_did(name):
    """Settings that are newer than the run keep what was true then: no margin."""
    settings = settings_of(OLD / name)
    assert settings.env.margin is None


def test_a_rerun_of_an_old_run_names_the_version_that_made_it(finished_run):
    report = rerun_report(OLD / "softmax", finished_run)
    assert report.endswith("; the original was made by moe_trader 0.1.0, whose tables may have other columns") or (
        "; the original was made by moe_trader 0.1.0, whose tables may have other columns; the prices" in report
    )
