"""Warm start: parts of one run are those another starts from, to the bit, or the first difference is named."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import SMALL, moe_train, sha256

from moe_trader.agent import MoEAgent
from moe_trader.bundle import WEIGHTS, BundleError, read_manifest
from moe_trader.config import compose, load_config, run_settings, to_plain
from moe_trader.option import ConfigError
from moe_trader.trainer.source import changed_source, find_bundle
from moe_trader.trainer.warm_start import UNEQUAL, WarmStart, scaler_line

BOTH = ["experts", "gate"]
ROOT = Path(__file__).resolve().parents[1]
NETS = "expert.count=2", "expert.net_arch=[16]", "expert.n_steps=32", "expert.batch_size=64", "trainer.n_envs=4"
FEATURES = "env/features=[returns,trend,volatility]"


@pytest.fixture(scope="module")
def made(make_settings):
    """``made("env.window=2", seed=1)``: a fresh small agent, and what its task is like."""

    def make(*overrides, seed=0):
        nets = [one for one in NETS if "expert=a2c" not in overrides or "batch_size" not in one]
        settings = make_settings(*nets, FEATURES, *overrides)
        task = settings.env.prepare(gate_input=settings.gating.gate_input())
        return MoEAgent(task.training_env(4, seed), settings.expert, settings.gating, seed=seed), task.summary()

    return make


@pytest.fixture(scope="module")
def source(made, tmp_path_factory):
    """The bundle of a trained agent."""
    agent, task = made()
    path = tmp_path_factory.mktemp("source") / "bundle"
    agent.learn(256).save(path, task=task)
    return path


def state(agent):
    return {name: one.clone() for name, one in agent.model.state_dict().items()}


def lines(caplog, level=logging.INFO):
    return [one.getMessage() for one in caplog.records if one.levelno == level and "warm_start" in one.name]


# --- what is loaded ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [BOTH, ["experts"], ["gate"]], ids="+".join)
def test_parts_that_are_loaded_are_the_sources_to_the_bit_and_the_rest_stays(parts, made, source):
    trained = state(MoEAgent.load(source))
    agent, task = made(seed=5)
    fresh = state(agent)
    manifest = agent.load_parts(source, parts, task=task)
    assert manifest["steps"] == 256
    for name, one in state(agent).items():
        is_loaded = name.partition(".")[0] in parts
        assert torch.equal(one, (trained if is_loaded else fresh)[name])
    changed = {name.partition(".")[0] for name in trained if not torch.equal(trained[name], fresh[name])}
    assert changed == {"experts", "gate"}
    assert not agent.algorithm.policy.optimizer.state


def test_an_agent_acts_with_what_it_loaded_and_learns_on(made, source):
    agent, task = made(seed=5)
    agent.load_parts(source, task=task)
    observations = np.random.default_rng(0).normal(size=(50, agent.model.n_columns)).astype(np.float32)
    loaded = MoEAgent.load(source)
    np.testing.assert_array_equal(agent.gate_weights(observations), loaded.gate_weights(observations))
    np.testing.assert_array_equal(agent.expert_actions(observations), loaded.expert_actions(observations))
    before = state(agent)
    assert not torch.equal(
        state(agent.learn(128))["experts.0.action_net.weight"], before["experts.0.action_net.weight"]
    )


def test_a_new_gate_learns_over_frozen_experts(made, source):
    agent, task = made("gating=entmax", seed=3)
    start = WarmStart(str(source), ["experts"], ["expert_1", "expert_2"])
    remembered = start.apply(agent, task)
    before, trained = state(agent), state(MoEAgent.load(source))
    after = state(agent.learn(256))
    for name, one in after.items():
        if name.startswith("experts."):
            assert torch.equal(one, trained[name])
    assert not torch.equal(after["gate.net.0.weight"], before["gate.net.0.weight"])
    assert remembered["init_from"] == {
        "path": str(source.resolve()),
        "sha256": sha256(source / WEIGHTS),
        "parts": ["experts"],
        "trained_until": task["periods"]["train"][1],
    }


def test_what_is_loaded_and_what_starts_from_zero_is_logged(made, source, caplog):
    caplog.set_level(logging.INFO, logger="moe_trader")
    agent, task = made()
    WarmStart(str(source), BOTH, []).apply(agent, task)
    restarted = "the optimiser's averages, the schedules (learning rate, loss weights, temperature), the step count"
    assert lines(caplog) == [
        f"Warm start: the experts (expert_1, expert_2) and the gate from {source} (market {task['market']}, seed 0, "
        "256 steps)",
        f"From zero: {restarted}",
        "Scaler: fitted on this run's training split, with the same result as the source's",
    ]
    caplog.clear()
    WarmStart(str(source), ["gate"], ["expert_2"]).apply(agent, task)
    assert lines(caplog)[:2] == [
        f"Warm start: the gate from {source} (market {task['market']}, seed 0, 256 steps)",
        f"From zero: {restarted}, the experts",
    ]
    assert lines(caplog, logging.WARNING) == [
        "trainer.frozen: expert_2: random initial weights; trainer.init_from loads trained ones"
    ]


def test_features_that_are_fitted_are_named(made, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="moe_trader")
    agent, task = made(
        "env/features=[returns,trend,regime_probabilities]", "env.features.regime_probabilities.states=2"
    )
    agent.save(tmp_path / "agent", task=task)
    WarmStart(str(tmp_path / "agent"), BOTH, []).apply(agent, task)
    assert lines(caplog)[-1] == "Fitted on this run's training split too, not taken: features regime_probabilities"


def test_the_scalers_are_compared():
    there = {"scaler": {"mean": [0.0, 1.0], "scale": [1.0, 2.0]}}
    here = {"features": ["slow", "fast"], "scaler": {"mean": (0.5, 4.0), "scale": (0.5, 3.0)}}
    assert scaler_line(there, here) == (
        "Scaler: fitted on this run's training split. Against the source, means move by up to 1.50 standard deviations "
        "(fast), and standard deviations change by factors of 0.50 (slow) to 1.50 (fast)"
    )
    assert scaler_line({}, here) is None
    assert scaler_line({"scaler": {"mean": [0.0], "scale": [1.0]}}, here) is None
    assert scaler_line({"scaler": 7}, here) is None


def fold(year, start=None):
    """Return a task that trains up to a year, and validates and tests in the two after it."""
    days = {
        split: [f"{year + k}-01-01", f"{year + k}-12-31"] for k, split in enumerate(("train", "validation", "test"))
    }
    return {"periods": days} | ({} if start is None else {"init_from": {"trained_until": start}})


@pytest.mark.parametrize(
    ("there", "here", "until"),
    [
        (fold(2000), fold(2001), None),
        (fold(2000), fold(2000), None),
        (fold(2002), fold(2000), "2002-12-31"),
        (fold(2000, start="2003-05-05"), fold(2001), "2003-05-05"),
        (fold(2000, start=None), {"periods": {**fold(2000)["periods"], "train": ["2000-01-01", "2009-01-01"]}}, None),
        ({}, fold(2000), None),
        (fold(2002), {}, None),
        ({"periods": 7}, fold(2000), None),
        ({"periods": {}, "init_from": []}, fold(2000), None),
    ],
)
def test_a_source_that_was_trained_on_what_this_run_is_judged_on_is_warned_about(
    there, here, until, made, tmp_path, caplog
):
    agent, task = made()
    agent.save(tmp_path / "agent", task={**task, "periods": None} | there)
    WarmStart(str(tmp_path / "agent"), BOTH, []).apply(agent, {**task, "periods": None} | here)
    found = lines(caplog, logging.WARNING)
    if until is None:
        assert found == []
        return
    judged = here["periods"]["validation"][0], here["periods"]["test"][0]
    assert found == [
        f"Look-ahead: {tmp_path}/agent was trained on bars up to {until}, and this run validates from {judged[0]} and "
        f"tests from {judged[1]}: its results are not out of sample. Start from an earlier fold or an earlier training "
        "split"
    ]


def test_nothing_is_done_without_a_source(made):
    agent, task = made()
    before = state(agent)
    assert WarmStart(None, BOTH, []).apply(agent, task) is task
    assert WarmStart(None, BOTH, []).apply(agent, None) is None
    assert all(torch.equal(one, before[name]) for name, one in state(agent).items())


# --- what does not fit ------------------------------------------------------------------------------------------------

GATE = "use the same gate, or take only the experts: trainer.init_parts=[experts]"
COLUMNS = "use the same features, in the same order, and the same env.window"


@pytest.mark.parametrize(
    ("overrides", "parts", "difference"),
    [
        (["env.window=3"], BOTH, "env.window: 1 there, 3 here; set env.window=1"),
        (
            ["env/features=[trend,returns,volatility]"],
            ["gate"],
            "env.features: column 1: return_1 there, trend_10 here; the same columns in another order, which weights "
            "do not follow; list env/features in that order",
        ),
        (
            ["env/features=[returns,trend,rsi]"],
            BOTH,
            "env.features: columns of one only: volatility_5, volatility_20, volatility_60 there, rsi_14 here; choose "
            "the same features",
        ),
        (["env.gate_features=[trend]"], ["gate"], "env.gate_features: "),
        (
            ["env.gate_only=[volatility]"],
            ["experts"],
            "env.gate_only: [] there, [volatility] here; set env.gate_only=[]",
        ),
        (["env/positions=orders"], ["experts"], "env.positions: moe_trader.env.positions.Discrete there, "),
        (
            ["env.positions.fractions=[0,1]"],
            BOTH,
            "env.positions.fractions: [-1.0, 0.0, 1.0] there, [0.0, 1.0] here; set "
            "env.positions.fractions=[-1.0,0.0,1.0]",
        ),
        (["expert.count=3"], ["gate"], "number of experts: 2 there, 3 here; set expert.count=2"),
        (
            ["expert.prefix=trader"],
            BOTH,
            "names of the experts: [expert_1, expert_2] there, [trader_1, trader_2] here; use the same expert.prefix",
        ),
        (
            ["expert.net_arch=[16,8]"],
            ["experts"],
            "expert.net_arch: [16] there, [16, 8] here; set expert.net_arch=[16]",
        ),
        (["expert.activation=relu"], BOTH, "expert.activation: tanh there, relu here; set expert.activation=tanh"),
        (["gating=entmax"], BOTH, f"gating: Softmax there, Entmax here; {GATE}"),
        (
            ["gating.hidden_sizes=[7]"],
            ["gate"],
            "shape of gate.net.0.weight: (32, 7) there, (7, 7) here; use the settings of gating that the source has",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_the_first_difference_is_named_and_nothing_is_loaded(overrides, parts, difference, made, source):
    agent, task = made(*overrides)
    before = state(agent)
    with pytest.raises(ConfigError) as refused:
        WarmStart(str(source), parts, []).apply(agent, task)
    assert str(refused.value).startswith(f"trainer.init_from: {source}: does not fit: {difference}")
    assert all(torch.equal(one, before[name]) for name, one in state(agent).items())


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["gating=entmax"], ["experts"]),
        (["gating=sticky"], ["experts"]),
        (["expert.net_arch=[8]"], ["gate"]),
        (["env.window=3"], ["gate"]),
        (["env/positions=continuous"], ["gate"]),
        (["expert=a2c"], BOTH),
        (["env.positions.minimum_trade=0.1", "gating.floor=0.1"], BOTH),
        (["gating/losses=[standard,switching]"], BOTH),
    ],
    ids=lambda value: "+".join(value),
)
def test_what_differs_in_the_other_part_or_in_no_meaning_fits(overrides, parts, made, source):
    agent, task = made(*overrides)
    agent.load_parts(source, parts, task=task)
    trained = state(MoEAgent.load(source))
    assert all(torch.equal(one, trained[name]) for name, one in state(agent).items() if name.partition(".")[0] in parts)


def test_columns_are_compared_by_name_where_no_task_is_given(made, source):
    agent, _ = made("env.window=3")
    with pytest.raises(ConfigError) as refused:
        agent.load_parts(source)
    assert str(refused.value) == (
        f"{source}: does not fit: column 0 of an expert's observation: return_1 there, return_1, 2 bars before here; "
        f"{COLUMNS}"
    )


@pytest.mark.parametrize("parts", ["experts", [], ["critic"], None, [["gate"]]], ids=str)
def test_other_parts_are_refused(parts, made, source):
    with pytest.raises(ConfigError, match=r"^parts: expected a list of experts, gate or both, got "):
        made()[0].load_parts(source, parts)


def test_a_damaged_source_is_refused(made, source, tmp_path):
    bundle = Path(shutil.copytree(source, tmp_path / "bundle"))
    (bundle / WEIGHTS).write_bytes((bundle / WEIGHTS).read_bytes()[:-1] + b"\0")
    agent, task = made()
    with pytest.raises(ConfigError, match=r"^trainer.init_from: .*policy.safetensors: altered since it was saved"):
        WarmStart(str(bundle), BOTH, []).apply(agent, task)
    with pytest.raises(BundleError):
        agent.load_parts(bundle)


# --- where it is ------------------------------------------------------------------------------------------------------


def test_a_run_and_a_bundle_are_found(finished_run):
    assert find_bundle(str(finished_run)) == find_bundle(str(finished_run / "bundle")) == finished_run / "bundle"


def test_what_is_no_source_is_refused_in_words(run_of_seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "interrupted", "sweep"):
        (tmp_path / name).mkdir()
    (tmp_path / "interrupted" / "progress.csv").touch()
    (tmp_path / "sweep" / "multirun.yaml").touch()
    expected = {
        str(run_of_seeds): f"a run of several seeds; choose one of them: {run_of_seeds}/seed_1, {run_of_seeds}/seed_2",
        "interrupted": "a run without a bundle, at work or interrupted; go on with it: moe-train resume interrupted",
        "sweep": "a sweep; choose one of its runs, such as sweep/0",
        "empty": "neither a run directory nor a bundle (no bundle/manifest.json); name a directory that moe-train made",
        "absent": f"no such directory; relative paths count from {tmp_path}",
    }
    for place, reason in expected.items():
        with pytest.raises(ConfigError) as refused:
            find_bundle(place)
        assert str(refused.value) == f"trainer.init_from: {place}: {reason}"
    with pytest.raises(ConfigError) as refused:
        find_bundle(name := "a" * 300)
    assert str(refused.value) == f"trainer.init_from: {name}: cannot be read (File name too long)"


# --- the single policy ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single_of(finished_run):
    """A new single policy like that of ``finished_run``, the run's settings and its task."""
    settings = run_settings(to_plain(load_config(finished_run / ".hydra" / "config.yaml")))
    task = settings.env.prepare(gate_input=settings.gating.gate_input())
    saved = MoEAgent.load(finished_run / "single_policy" / "bundle")

    def make(**changes):
        family = dataclasses.replace(saved.expert, **changes)
        return MoEAgent(task.training_env(4, 9), family, saved.gating, seed=9), task.summary()

    return make


def test_the_single_policy_starts_from_the_sources_own(finished_run, single_of):
    single, task = single_of()
    start = WarmStart(str(finished_run), BOTH, ["expert_1"]).of_single_policy(single, task)
    assert start == WarmStart(str(finished_run / "single_policy" / "bundle"), BOTH, [])
    trained = state(MoEAgent.load(finished_run / "single_policy" / "bundle"))
    assert all(torch.equal(one, trained[name]) for name, one in state(single).items())


def test_a_single_policy_that_starts_from_zero_is_warned_about(finished_run, source, single_of, copy_of, caplog):
    caplog.set_level(logging.INFO, logger="moe_trader")
    lone = copy_of(finished_run)
    shutil.rmtree(lone / "single_policy")
    cases = [
        (finished_run, ["experts"], {}, "trainer.init_parts takes only the experts"),
        (source, BOTH, {}, "trainer.init_from is a bundle; a run directory has one for the single policy"),
        (lone, BOTH, {}, f"there is no {lone}/single_policy/bundle"),
        (
            finished_run,
            BOTH,
            {"net_arch": [5]},
            f"{finished_run}/single_policy/bundle: does not fit: expert.net_arch: ",
        ),
    ]
    for place, parts, changes, reason in cases:
        caplog.clear()
        single, task = single_of(**changes)
        before = state(single)
        assert WarmStart(str(place), parts, []).of_single_policy(single, task).init_from is None
        assert all(torch.equal(one, before[name]) for name, one in state(single).items())
        (line,) = lines(caplog, logging.WARNING)
        assert line.startswith(f"The single policy starts from zero ({reason}")
        assert line.endswith(UNEQUAL)
    assert WarmStart(None, BOTH, []).of_single_policy(single, task).init_from is None


# --- reruns and old configs -------------------------------------------------------------------------------------------


def test_a_rerun_needs_the_source_that_the_run_started_from(source, made, tmp_path):
    agent, task = made()
    moving = Path(shutil.copytree(source, tmp_path / "moving"))
    run = tmp_path / "run"
    agent.save(run / "bundle", task=WarmStart(str(moving), BOTH, []).apply(agent, task))
    assert changed_source(run, str(moving)) is None
    assert changed_source(run, str(source)) is None  # the same weights elsewhere
    assert changed_source(run, None) is None
    digest = sha256(source / WEIGHTS)[:12]
    agent.learn(128).save(moving, task=task)
    assert changed_source(run, str(moving)) == (
        f"trainer.init_from: {moving} has weights of sha256 {sha256(moving / WEIGHTS)[:12]}, but {run} started from "
        f"{moving}, weights of sha256 {digest}; this is no repetition"
    )
    shutil.rmtree(moving)
    with pytest.raises(ConfigError) as refused:
        changed_source(run, str(moving))
    assert str(refused.value).startswith(f"trainer.init_from: {moving}: no such directory")
    assert str(refused.value).endswith(
        f"{run} started from {moving}, weights of sha256 {digest}; restore them, or choose others with "
        "trainer.init_from=..."
    )
    assert changed_source(tmp_path, str(moving)) is None  # a run without a bundle recorded nothing


def test_old_configs_start_from_zero():
    old = load_config(ROOT / "tests/data/0.1.0/softmax/.hydra/config.yaml")
    assert "init_from" not in old.trainer
    trainer = run_settings(to_plain(old)).trainer
    assert trainer.warm_start == WarmStart(None, BOTH, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.frozen=[expert_9]",
            "trainer.frozen: no expert is called 'expert_9'; the experts are expert_1, expert_2",
        ),
        ("trainer.init_parts=[]", "trainer.init_parts: List should have at least 1 item"),
        ("trainer.init_parts=[critic]", "trainer.init_parts.0: Input should be 'experts' or 'gate', got 'critic'"),
        ("trainer.init_from=''", "trainer.init_from: String should have at least 1 character, got ''"),
    ],
)
def test_settings_that_cannot_be_are_refused(override, message):
    with pytest.raises(ConfigError) as refused:
        run_settings(compose(["env=synthetic", "expert.count=2", override]))
    assert str(refused.value).startswith(message)


# --- through the command ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fold_after_fold_through_the_command(tmp_path):
    common = [word for word in SMALL if not word.startswith("env")]
    common += ["env=sp500", "env/split=walk_forward", "shapley=false", "trainer.total_timesteps=512"]
    first = moe_train(*common, "hydra.run.dir=fold_0", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    following = "env.split.fold=1", "trainer.init_from=fold_0", "trainer.frozen=[expert_2]", "hydra.run.dir=fold_1"
    second = moe_train(*common, *following, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    log = (tmp_path / "fold_1" / "train.log").read_text()
    assert f"Warm start: the experts (expert_1, expert_2) and the gate from {tmp_path}/fold_0/bundle (market " in log
    assert f"Warm start: the experts (single_1) and the gate from {tmp_path}/fold_0/single_policy/bundle (market" in log
    assert "Scaler: fitted on this run's training split. Against the source, means move by up to " in log
    kept = {fold: MoEAgent.load(tmp_path / fold / "bundle") for fold in ("fold_0", "fold_1")}
    assert kept["fold_1"].frozen == ["expert_2"]
    old, new = (state(one) for one in kept.values())
    same = {name for name in old if torch.equal(old[name], new[name])}
    assert {name for name in old if name.startswith("experts.1.")} <= same
    assert "experts.0.action_net.weight" not in same
    recorded = read_manifest(tmp_path / "fold_1" / "bundle")["task"]["init_from"]
    digest = json.loads((tmp_path / "fold_0/bundle/manifest.json").read_text())["files"][WEIGHTS]
    own = read_manifest(tmp_path / "fold_0" / "bundle")["task"]["periods"]["train"][1]
    place = f"{tmp_path}/fold_0/bundle"
    assert recorded == {"path": place, "sha256": digest, "parts": BOTH, "trained_until": own}
    assert "Look-ahead" not in log
