"""Stable-Baselines3's own verbs on an agent: the arguments of ``learn``, its callbacks, and its evaluation."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import (
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger

from moe_trader.agent import MoEAgent
from moe_trader.bundle import read_manifest


class Written(KVWriter):
    """Keeps the step and the columns of each write."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append((step, dict(key_values)))

    def close(self):
        pass


def log_of(agent):
    written = Written()
    agent.set_logger(Logger(None, [written]))
    return written.rows


def same_weights(one, other):
    theirs = other.model.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.model.state_dict().items())


# --- learn ------------------------------------------------------------------------------------------------------------


def test_learn_has_the_signature_of_stable_baselines3():
    ours, theirs = (inspect.signature(one.learn).parameters for one in (MoEAgent, PPO))
    assert list(ours) == list(theirs)
    differing = [name for name in ours if ours[name].default != theirs[name].default]
    assert differing == ["tb_log_name"]  # a name of the agent's own


@pytest.mark.parametrize(("log_interval", "steps"), [(1, [128, 256, 384, 512]), (2, [256, 512]), (4, [512])])
def test_the_logger_is_written_every_so_many_updates(log_interval, steps, make_agent):
    agent = make_agent(n_epochs=1)
    rows = log_of(agent)
    agent.learn(4 * 128, log_interval=log_interval)
    assert [step for step, _ in rows] == steps
    assert all("time/total_timesteps" in row for _, row in rows)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None])
def test_a_log_interval_that_is_none_is_refused(wrong, make_agent):
    with pytest.raises(ValueError, match=r"^log_interval: expected a whole number, 1 or more, got "):
        make_agent().learn(128, log_interval=wrong)


def test_steps_are_counted_on_where_they_are_not_reset(make_agent):
    agent = make_agent(n_epochs=1)
    rows = log_of(agent)
    agent.learn(256).learn(128, reset_num_timesteps=False)
    assert agent.algorithm.num_timesteps == 384
    assert [step for step, _ in rows] == [128, 256, 384]
    assert agent.algorithm._current_progress_remaining == 0.0
    assert agent.learn(128).algorithm.num_timesteps == 128


@pytest.mark.filterwarnings("ignore:rich is experimental")  # of the bar that SB3 draws
def test_a_progress_bar_goes_to_the_end(make_agent, capsys):
    make_agent(n_epochs=1).learn(256, progress_bar=True)
    assert "256/256" in "".join(capsys.readouterr())


def test_a_callback_may_be_a_function_or_a_list(make_agent, prepared):
    seen = []
    make_agent(n_epochs=1).learn(128, callback=lambda local, scope: seen.append(local["self"].num_timesteps) or True)
    assert seen == list(range(4, 129, 4))
    stopped = make_agent(n_epochs=1).learn(512, callback=lambda local, scope: local["self"].num_timesteps < 132)
    assert stopped.algorithm.num_timesteps == 132
    envs = [prepared.training_env(4, seed) for seed in (1, 2)]
    callbacks = [EvalCallback(env, n_eval_episodes=1, eval_freq=16, verbose=0, warn=False) for env in envs]
    make_agent(n_epochs=1).learn(128, callback=callbacks)
    assert all(np.isfinite(one.last_mean_reward) for one in callbacks)


@pytest.mark.parametrize("wrong", [1, "x", {"a": 1}, [1]], ids=str)
def test_a_callback_that_is_none_is_refused(wrong, make_agent):
    with pytest.raises(TypeError, match=r"^callback: expected "):
        make_agent().learn(128, callback=wrong)


# --- callbacks that save ----------------------------------------------------------------------------------------------


def test_the_best_model_of_an_evaluation_is_a_bundle(make_agent, prepared, tmp_path):
    """And training stops at a reward, by another callback of SB3's."""
    agent = make_agent(n_epochs=1)
    enough = StopTrainingOnRewardThreshold(reward_threshold=-1e9, verbose=0)
    evaluation = EvalCallback(
        prepared.training_env(4, 1),
        callback_on_new_best=enough,
        n_eval_episodes=2,
        eval_freq=40,
        best_model_save_path=str(tmp_path),
        verbose=0,
        warn=False,
    )
    agent.learn(10 * 128, callback=evaluation)
    assert agent.algorithm.num_timesteps == 160
    assert [path.name for path in tmp_path.iterdir()] == ["best_model"]
    best = MoEAgent.load(tmp_path / "best_model")
    assert best.expert_names == agent.expert_names
    assert same_weights(best, agent)
    earned, _ = evaluate_policy(best, prepared.training_env(4, 1), n_eval_episodes=2, warn=False)
    assert earned == pytest.approx(evaluation.best_mean_reward, rel=1e-6)


def test_checkpoints_are_bundles(make_agent, tmp_path):
    agent = make_agent(n_epochs=1)
    checkpoint = CheckpointCallback(save_freq=64, save_path=str(tmp_path), name_prefix="trader")
    agent.learn(512, callback=CallbackList([checkpoint]))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["trader_256_steps", "trader_512_steps"]
    first, last = (MoEAgent.load(tmp_path / name) for name in names)
    assert not same_weights(first, last)
    assert read_manifest(tmp_path / names[0])["experts"] == agent.expert_names
    assert not same_weights(last, agent)  # it is written before the update of the step's rollout


def test_an_agent_is_evaluated_as_a_policy_is(make_agent, prepared):
    agent = make_agent()
    mean, spread = evaluate_policy(agent, prepared.training_env(4, 3), n_eval_episodes=4, warn=False)
    by_learner, _ = evaluate_policy(agent.algorithm, prepared.training_env(4, 3), n_eval_episodes=4, warn=False)
    assert mean == pytest.approx(by_learner)
    assert spread >= 0


# --- learning on ------------------------------------------------------------------------------------------------------


def test_learning_on_from_a_bundle_says_once_what_starts_from_zero(make_agent, prepared, tmp_path, caplog):
    agent = make_agent().learn(128)
    agent.save(tmp_path / "agent")
    loaded = MoEAgent.load(tmp_path / "agent", env=prepared.training_env(4, 1))
    lines = []
    for one in (agent, loaded, loaded):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="moe_trader"):
            one.learn(128)
        messages = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
        lines.append([line for line in messages if line.startswith("Learning on from a bundle")])
    assert lines == [
        [],
        [
            "Learning on from a bundle: weights and the gate's state are kept; the optimiser's averages, the schedules "
            "(learning rate, loss weights, temperature) and the step count start from zero"
        ],
        [],
    ]
