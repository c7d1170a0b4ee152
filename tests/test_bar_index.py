"""Observations that name their bar: read back to the bit, in rollouts and at the end of episodes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor, VecNormalize

from moe_trader.agent import MoEAgent
from moe_trader.env.trading_vec_env import UnitRewards


class Whole(VecEnvWrapper):
    """Any wrapper of SB3's kind: what it passes on of the environment within is not its own."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


def parameters(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_what_stands_for_an_observation_is_read_back_to_the_bit(prepared, make_agent):
    whole, named = prepared.training_env(4, 7), prepared.training_env(4, 7).with_bar_indices()
    policy = make_agent(env=prepared.training_env(4, 7)).algorithm.policy
    actions = np.random.default_rng(0).integers(3, size=(600, 4))
    seen, read = whole.reset(), named.reset()
    ends = 0
    for chosen in actions:
        assert read.shape == (4, 3)
        np.testing.assert_array_equal(policy.whole_observations(torch.from_numpy(read)).numpy(), seen)
        assert named.observation_space.contains(read[0])
        (seen, reward, done, infos), (read, same_reward, same_done, same_infos) = whole.step(chosen), named.step(chosen)
        np.testing.assert_array_equal(reward, same_reward)
        np.testing.assert_array_equal(done, same_done)
        for lane in np.flatnonzero(done):
            ends += 1
            last, _ = policy.obs_to_tensor(same_infos[lane]["terminal_observation"])  # as SB3 asks for it
            np.testing.assert_array_equal(policy.whole_observations(last)[0], infos[lane]["terminal_observation"])
    assert ends >= 4


def test_training_does_not_notice_that_bars_are_named(prepared, settings, small_experts):
    trained = []
    for env in (prepared.training_env(4, 0), Whole(prepared.training_env(4, 0))):
        agent = MoEAgent(env, small_experts(), settings.gating, seed=0)
        agent.learn(384)
        trained.append(parameters(agent.model))
        width = agent.algorithm.rollout_buffer.observations.shape[-1]
        assert width == (agent.layout.single_width if isinstance(env, Whole) else 3)
    assert largest_difference(*trained) == 0.0


def test_an_observation_as_narrow_as_its_reference_is_not_mistaken_for_one(make_settings, small_experts):
    """One column and the account: three numbers, as in a reference."""
    made = make_settings("env/features=[autocorrelation]", "env.features.autocorrelation.spans=[20]")
    prepared, trained = made.env.prepare(), []
    for env in (prepared.training_env(4, 0), Whole(prepared.training_env(4, 0))):
        assert env.observation_space.shape == (3,)
        agent = MoEAgent(env, small_experts(), made.gating, seed=0)
        agent.learn(384)
        trained.append(parameters(agent.model))
        assert np.abs(agent.algorithm.rollout_buffer.observations).max() <= made.env.clip
    assert largest_difference(*trained) == 0.0


rewards_only = functools.partial(VecNormalize, norm_obs=False)


@pytest.mark.parametrize("wrapper", [rewards_only, VecMonitor, lambda env: UnitRewards(rewards_only(env), 2.0)])
def test_a_wrapper_is_never_bypassed(wrapper, prepared, settings, small_experts):
    agent = MoEAgent(wrapper(prepared.vec_env("train", 4, 0)), small_experts(), settings.gating, seed=0)
    agent.learn(128)
    assert agent.algorithm.rollout_buffer.observations.shape[-1] == agent.layout.single_width


def test_a_rollout_takes_less_than_a_hundred_bytes_a_step(make_agent):
    buffer = make_agent().algorithm.rollout_buffer
    arrays = [array for array in vars(buffer).values() if isinstance(array, np.ndarray)]
    assert len(arrays) == 8
    assert sum(array.nbytes for array in arrays) / (buffer.buffer_size * buffer.n_envs) < 100


def test_a_market_too_long_to_number_is_observed_whole(prepared, monkeypatch):
    monkeypatch.setattr("moe_trader.env.trading_vec_env.MOST_BARS", 100)
    assert prepared.vec_env("train", 2, seed=0).with_bar_indices() is None
    assert prepared.training_env(2, seed=0).with_bar_indices() is None
