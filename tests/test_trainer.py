"""The trainer: one run from environment to saved mixture, and what one sees of it."""

from __future__ import annotations

import csv
import logging
import math
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from composed import trainer_of
from gymnasium import spaces

from moe_trader.agent import MoEAgent
from moe_trader.gating.fixed import Uniform
from moe_trader.trainer.progress import Progress, blocks, summarise

NAMES = ["expert_1", "expert_2"]


def metrics_of(first, second, gate_entropy=0.5):
    return {
        "importance/expert_1": first,
        "importance/expert_2": second,
        "load/expert_1": 1.0,
        "load/expert_2": 0.0,
        "mixture/gate_entropy": gate_entropy,
        "mixture/effective_experts": 1.8,
        "mixture/disagreement": 0.1,
    }


class StubEnv(gym.Env):
    """Pays 1 a step and ends after four."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, False, self.steps == 4, {}


class StubAgent:
    """Steps the environment as an SB3 algorithm does, learns nothing, and records what it is asked."""

    expert_names = NAMES
    gating = Uniform(losses={})
    gate_learns = True
    frozen = ()

    def __init__(self, env, update_every=5, metrics=None, fails=False):
        self.env, self.update_every, self.fails = env, update_every, fails
        self.history = iter(metrics or [])
        self.calls, self.metrics, self.logger, self.update_listeners = [], {}, None, []
        self.num_timesteps, self.ep_info_buffer = 0, []
        self.algorithm = self

    def set_logger(self, logger):
        self.calls.append("set_logger")
        self.logger = logger

    def learn(self, total_timesteps, callback=None, reset_num_timesteps=True):
        self.calls.append("learn")
        self.asked = total_timesteps
        callback.init_callback(self)
        callback.on_training_start({}, {})
        self.env.reset(seed=0)
        earned = 0.0
        while self.num_timesteps < total_timesteps:
            for _ in range(self.update_every):
                _, reward, terminated, truncated, _ = self.env.step(0)
                earned += reward
                self.num_timesteps += 1
                assert callback.on_step()
                if terminated or truncated:
                    self.ep_info_buffer.append({"r": earned})
                    earned = 0.0
                    self.env.reset()
            callback.on_rollout_end()
            if self.fails:
                raise FloatingPointError("the loss is not a number")
            self.metrics = next(self.history, metrics_of(0.7, 0.3))
            for listener in self.update_listeners:
                listener()
            self.logger.record("train/loss", 0.25)
            self.logger.record("time/total_timesteps", self.num_timesteps)
            self.logger.dump(self.num_timesteps)
        callback.on_training_end()

    def get_env(self):
        return self.env

    def save(self, path, task=None):
        self.calls.append("save")
        self.saved_to, self.task = path, task


def read_progress(directory):
    with (directory / "progress.csv").open() as file:
        return list(csv.DictReader(file))


# --- the loop, with stubs ---------------------------------------------------------------------------------------------


def test_a_run_learns_then_saves_and_logs_the_mixture(tmp_path, caplog):
    env = StubEnv()
    agent = StubAgent(env)
    run = tmp_path / "runs" / "one"
    with caplog.at_level(logging.INFO, logger="moe_trader"):
        path = trainer_of(total_timesteps=20, n_envs=1).fit(agent, run, task={"market": "stub"})
    assert agent.calls == ["set_logger", "learn", "save"]
    assert agent.asked == agent.num_timesteps == 20
    assert path == agent.saved_to == run / "bundle"
    assert agent.task == {"market": "stub"}

    rows = read_progress(run)
    assert [row["time/total_timesteps"] for row in rows] == ["5", "10", "15", "20", "20"]
    assert {name: float(rows[-1][name]) for name in metrics_of(0, 0)} == metrics_of(0.7, 0.3)
    assert list(run.glob("events.out.tfevents.*"))

    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "Training mixture: 20 steps"
    assert messages[-2] == (
        "Mixture at the end: importance expert_1 0.70, expert_2 0.30; "
        "gate entropy 0.50, effective experts 1.80, disagreement 0.10"
    )
    assert messages[-1] == f"Saved the bundle to {run / 'bundle'}"


def test_what_one_sees_every_tenth_of_the_way(tmp_path, caplog):
    agent = StubAgent(StubEnv(), update_every=8)
    with caplog.at_level(logging.INFO, logger="moe_trader"):
        trainer_of(total_timesteps=80, n_envs=1).fit(agent, tmp_path, title="pilots")
    lines = [message for record in caplog.records if "%:" in (message := record.getMessage())]
    assert [line.split(":")[0] for line in lines] == [f"pilots {percent} %" for percent in range(10, 101, 10)]
    assert all("steps/s" in line and "log profit/episode +4.000" in line for line in lines)
    assert all(f"experts {blocks([0.7, 0.3])}  gate entropy 0.50" in line for line in lines)  # each after an update


def test_many_updates_do_not_flood_the_log(tmp_path, caplog):
    agent = StubAgent(StubEnv(), update_every=1)
    with caplog.at_level(logging.INFO, logger="moe_trader"):
        trainer_of(total_timesteps=200, n_envs=1).fit(agent, tmp_path)
    assert len([record for record in caplog.records if "%:" in record.getMessage()]) == 10


def test_a_failed_run_raises_and_saves_nothing(tmp_path):
    agent = StubAgent(StubEnv(), fails=True)
    with pytest.raises(FloatingPointError, match="the loss is not a number"):
        trainer_of(total_timesteps=20, n_envs=1).fit(agent, tmp_path)
    assert agent.calls == ["set_logger", "learn"]
    assert not (tmp_path / "bundle").exists()


def test_a_trainer_that_would_do_nothing_is_refused():
    for wrong in ({"total_timesteps": 0, "n_envs": 1}, {"total_timesteps": 1, "n_envs": 0}):
        with pytest.raises(ValueError, match="greater than 0"):
            trainer_of(**wrong)


# --- the loop, with the real agent ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_run(make_agent, tmp_path_factory):
    agent = make_agent(learning_rate=3e-4)
    directory = tmp_path_factory.mktemp("run")
    trainer_of(total_timesteps=4 * 128, n_envs=4).fit(agent, directory, task={"market": "synthetic"})
    return agent, directory


def test_progress_holds_the_mixtures_metrics(real_run):
    agent, directory = real_run
    rows = read_progress(directory)
    names = agent.expert_names
    expected = [f"{kind}/{name}" for kind in ("importance", "load") for name in names]
    expected += [f"mixture/{name}" for name in ("gate_entropy", "effective_experts", "disagreement")]
    expected += [f"gradient_norm/{name}" for name in ("gate", *names)]
    losses = ("router_z", "minimum_importance", "information")
    expected += [f"{kind}/{name}" for kind in ("gate_loss", "gate_loss_weight") for name in losses]
    expected += [f"train/{name}" for name in ("approx_kl", "clip_fraction", "entropy_loss", "learning_rate", "loss")]
    for column in expected:
        numbers = [float(row[column]) for row in rows if row[column]]
        assert len(numbers) == 4, column  # one for each update
        assert all(math.isfinite(number) for number in numbers), column
    for row in rows[1:]:
        assert sum(float(row[f"importance/{name}"]) for name in names) == pytest.approx(1, abs=1e-4)
        assert sum(float(row[f"load/{name}"]) for name in names) == pytest.approx(1, abs=1e-4)
        assert all(float(row[f"gradient_norm/{name}"]) > 0 for name in ("gate", *names))
    for name, value in agent.metrics.items():  # the last row is the trained mixture
        assert float(rows[-1][name]) == pytest.approx(value, abs=1e-4)


def test_progress_counts_every_update_once(real_run):
    rows = read_progress(real_run[1])
    counted = [int(row["train/n_updates"]) for row in rows if row["train/n_updates"]]
    assert counted == sorted(set(counted))
    assert len(counted) == 4
    steps = [int(float(row["time/total_timesteps"])) for row in rows if row["time/total_timesteps"]]
    assert steps == [128, 256, 384, 512, 512]  # the last row holds what the last update did


def test_tensorboard_sees_the_same(real_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    agent, directory = real_run
    (events,) = directory.glob("events.out.tfevents.*")
    read = EventAccumulator(str(events))
    read.Reload()
    scalars = read.scalars.Items("importance/expert_1")
    assert [scalar.step for scalar in scalars] == [256, 384, 512, 512]
    assert scalars[-1].value == pytest.approx(agent.metrics["importance/expert_1"], abs=1e-5)


def test_the_bundle_is_the_trained_agent(real_run, prepared):
    agent, directory = real_run
    loaded = MoEAgent.load(directory / "bundle")
    observations = prepared.vec_env("test", 4, 0).reset()
    np.testing.assert_array_equal(loaded.gate_weights(observations), agent.gate_weights(observations))


def test_training_ends_with_the_update_that_reaches_the_total(make_agent, tmp_path):
    agent = make_agent(count=2, n_epochs=1)
    trainer_of(total_timesteps=200, n_envs=4).fit(agent, tmp_path)
    assert agent.algorithm.num_timesteps == 256


def test_a_single_policy_trains_too(make_agent, tmp_path, caplog):
    agent = make_agent(count=1, n_epochs=1)
    with caplog.at_level(logging.INFO, logger="moe_trader"):
        trainer_of(total_timesteps=256, n_envs=4).fit(agent, tmp_path, title="single policy")
    messages = [record.getMessage() for record in caplog.records]
    assert "Single policy at the end: one expert" in messages
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert read_progress(tmp_path)[-1]["importance/expert_1"] == "1.0"


def test_two_runs_leave_the_same_numbers(make_agent, tmp_path):
    tables = []
    for name in ("a", "b"):
        trainer_of(total_timesteps=256, n_envs=4).fit(make_agent(), tmp_path / name)
        rows = read_progress(tmp_path / name)
        tables.append([{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows])
        weights = (tmp_path / name / "bundle" / "policy.safetensors").read_bytes()
        tables[-1].append(weights)
    assert tables[0] == tables[1]


# --- warnings ---------------------------------------------------------------------------------------------------------


def warnings_after(importances, caplog):
    """Return the warnings after updates that left the second expert with these importances."""
    history = [metrics_of(1 - importance, importance) for importance in importances]
    agent = StubAgent(StubEnv(), update_every=1, metrics=history)
    agent.logger = SimpleNamespace(record=lambda *args: None, dump=lambda *args: None)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="moe_trader"):
        progress = Progress(agent, len(importances), "mixture")
        agent.update_listeners.append(progress.report)
        agent.learn(len(importances), callback=progress)
    return [record.getMessage() for record in caplog.records]


def test_a_gate_that_collapses_is_reported_as_it_happens(caplog):
    (message,) = warnings_after([0.5] + 12 * [0.019], caplog)
    assert message.startswith("expert_2 is dead: its importance was below 0.02 for 5 updates (no loss ")
    assert warnings_after(4 * [0.01], caplog) == []
    assert len(warnings_after(5 * [0.01], caplog)) == 1


def test_a_gate_that_cannot_learn_is_not_watched(caplog, monkeypatch):
    monkeypatch.setattr(StubAgent, "gate_learns", False)
    assert warnings_after(12 * [0.0], caplog) == []


# --- words ------------------------------------------------------------------------------------------------------------


def test_blocks_show_numbers_between_nothing_and_everything():
    assert blocks([0.0, 0.5, 1.0]) == " ▄█"
    assert blocks([-1.0, 2.0]) == " █"


def test_a_summary_of_one_expert_says_so():
    assert summarise({"importance/a": 1.0}, ["a"]) == "one expert"


def test_an_interrupted_run_keeps_what_was_learned(tmp_path, caplog):
    class Interrupted(StubAgent):
        def learn(self, total_timesteps, callback=None, reset_num_timesteps=True):
            super().learn(total_timesteps, callback, reset_num_timesteps)
            raise KeyboardInterrupt

    agent = Interrupted(StubEnv())
    with caplog.at_level(logging.INFO, logger="moe_trader"), pytest.raises(KeyboardInterrupt):
        trainer_of(total_timesteps=20, n_envs=1).fit(agent, tmp_path)
    assert agent.saved_to == tmp_path / "bundle"
    assert (
        f"Stopped after 20 steps; there is no checkpoint yet; the mixture was saved to {tmp_path / 'bundle'}"
        in caplog.text
    )
