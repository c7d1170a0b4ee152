"""MoEAgent: what it says about observations, alone, forced and mixed."""

from __future__ import annotations

import dataclasses
import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecFrameStack, VecNormalize

from moe_trader.agent import MoEAgent
from moe_trader.option import ConfigError


def scatter(agent, scale=0.5):
    """Give gate and experts something to say, without training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return agent


def observations_for(agent, n=200):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, *agent.model.observation_space.shape)).astype(np.float32)


@pytest.fixture(params=["discrete", "box"])
def agent(request, make_agent, pendulum):
    return scatter(make_agent(env=pendulum(0) if request.param == "box" else None, batch_size=64))


def test_gate_weights_are_one_row_a_state(agent):
    observations = observations_for(agent)
    weights = agent.gate_weights(observations)
    assert weights.shape == (200, 3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)
    assert weights.min() >= agent.gating.floor / 3 - 1e-7
    assert weights.std(axis=0).min() > 0.01
    np.testing.assert_allclose(agent.gate_weights(observations[7:8])[0], weights[7], atol=1e-6)


def test_a_single_observation_gets_a_single_row(agent):
    observations = observations_for(agent)
    np.testing.assert_allclose(agent.gate_weights(observations[7]), agent.gate_weights(observations)[7], atol=1e-6)


@pytest.mark.parametrize("width", [3, 7, 40, 132])
def test_observations_of_another_shape_are_refused(width, make_agent):
    """Three numbers above all, which stand for an observation while it learns."""
    agent = make_agent()
    size, odd = agent.model.observation_space.shape[0], np.zeros((5, width), dtype=np.float32)
    expected = rf"^observations: expected shape \(n, {size}\), got \(5, {width}\)$"
    with pytest.raises(ValueError, match=expected):
        agent.gate_weights(odd)
    with pytest.raises(ValueError, match=expected):
        agent.expert_actions(odd)
    with pytest.raises(ValueError, match=expected):
        agent.decide(odd, np.full((5, 3), 1 / 3))
    with pytest.raises(ValueError, match=rf"\(5, {width}\)"):
        agent.predict(odd)
    if width != 3:
        policy = agent.algorithm.policy
        for ask in (policy, policy.predict_values, lambda seen: policy.evaluate_actions(seen, torch.zeros(5))):
            with pytest.raises(ValueError, match=rf"^bar indices: expected shape \(n, 3\), got \(5, {width}\)$"):
                ask(torch.from_numpy(odd))


def test_stable_baselines3_evaluates_on_the_training_environment(make_agent, prepared):
    env = prepared.training_env(4, 0)
    agent = make_agent(env=env).learn(128)
    rewards, lengths = evaluate_policy(agent.algorithm, env, n_eval_episodes=2, return_episode_rewards=True, warn=False)
    assert len(rewards) == len(lengths) == 2
    callback = EvalCallback(prepared.training_env(4, 1), n_eval_episodes=1, eval_freq=16, verbose=0, warn=False)
    agent.learn(128, callback)
    assert np.isfinite(callback.last_mean_reward)


def test_predict_has_the_signature_of_stable_baselines3(agent):
    ours, theirs = (inspect.signature(one.predict).parameters for one in (agent, agent.algorithm))
    assert list(ours) == list(theirs)
    assert (ours["deterministic"].default, theirs["deterministic"].default) == (True, False)
    observations = observations_for(agent)
    np.testing.assert_array_equal(agent.predict(observations)[0], agent.predict(observations, None, None, True)[0])
    torch.manual_seed(0)
    drawn = agent.predict(observations, deterministic=False)[0]
    torch.manual_seed(0)
    np.testing.assert_array_equal(agent.algorithm.predict(observations)[0], drawn)
    assert (drawn != agent.predict(observations)[0]).any()


@pytest.mark.parametrize("state", [False, True, np.False_])
def test_a_bool_in_the_place_of_the_state_is_refused(state, agent):
    with pytest.raises(TypeError, match=rf"^predict: state: expected None, got {state}; write deterministic={state}$"):
        agent.predict(observations_for(agent), state)


def test_stable_baselines3_evaluates_an_agent(make_agent, prepared):
    """In an environment of its own, and in lanes; the rewards of an episode are the agent's own actions'."""
    agent = scatter(make_agent())
    env = DummyVecEnv([lambda: Monitor(prepared.env("test"))])
    env.seed(3)
    rewards, lengths = evaluate_policy(agent, env, n_eval_episodes=2, return_episode_rewards=True)
    single = prepared.env("test")
    observation, _ = single.reset(seed=3)
    earned, ended = [], False
    while not ended:
        observation, reward, terminated, truncated, _ = single.step(agent.predict(observation)[0])
        earned.append(reward)
        ended = terminated or truncated
    assert (len(earned), sum(earned)) == (lengths[0], pytest.approx(rewards[0], abs=1e-6))
    lanes = prepared.vec_env("test", 2, 3)
    in_lanes, _ = evaluate_policy(agent, lanes, n_eval_episodes=2, return_episode_rewards=True, warn=False)
    assert in_lanes[0] == pytest.approx(rewards[0], abs=1e-5)
    drawn = evaluate_policy(agent, lanes, n_eval_episodes=2, deterministic=False, warn=False)
    assert np.isfinite(drawn).all()


def test_stable_baselines3_evaluates_box_actions(make_agent, pendulum):
    agent = make_agent(env=pendulum(0))
    rewards, lengths = evaluate_policy(agent, pendulum(1), n_eval_episodes=2, return_episode_rewards=True)
    assert lengths == [200, 200]
    assert max(rewards) < 0


def test_one_hot_weights_are_one_expert_alone(agent):
    observations = observations_for(agent)
    alone = agent.expert_actions(observations)
    assert alone.shape == (200, 3, *agent.model.action_space.shape)
    for k in range(3):
        weights = np.zeros((200, 3))
        weights[:, k] = 1.0
        np.testing.assert_allclose(agent.act(observations, weights), alone[:, k], rtol=1e-6)
    assert (alone[:, 0] != alone[:, 1]).any()
    assert (alone[:, 1] != alone[:, 2]).any()


def test_an_expert_alone_is_its_own_stable_baselines3_policy(agent):
    observations = observations_for(agent)
    alone = agent.expert_actions(observations)
    low, high = (agent.model.action_space.low, agent.model.action_space.high) if alone.ndim == 3 else (0, 2)
    for k, expert in enumerate(agent.model.experts):
        theirs, _ = expert.predict(observations[:, agent.layout.experts], deterministic=True)
        np.testing.assert_allclose(np.clip(alone[:, k], low, high), theirs, rtol=1e-5, atol=1e-6)


def test_the_gates_own_weights_are_the_mixture(agent):
    observations = observations_for(agent)
    chosen, state = agent.predict(observations)
    assert state is None
    np.testing.assert_array_equal(agent.act(observations, agent.gate_weights(observations)), chosen)


def test_other_weights_give_other_actions(make_agent):
    agent = scatter(make_agent())
    observations = observations_for(agent)
    equal = agent.act(observations, np.full((200, 3), 1 / 3))
    with torch.no_grad():
        output = agent.model.evaluate(torch.from_numpy(observations)).mixture
    by_hand = output.expert_log_probs.exp().mean(dim=1).argmax(dim=-1)
    np.testing.assert_array_equal(equal, by_hand.numpy())
    assert (equal != agent.predict(observations)[0]).any()


def test_what_it_would_do_is_something_it_can_do(agent):
    """Actions are fit for ``env.step`` wherever they come from."""
    observations = 5 * observations_for(agent)
    space = agent.model.action_space
    weights = agent.gate_weights(observations)
    for actions in (
        agent.predict(observations)[0],
        agent.predict(observations, deterministic=False)[0],
        agent.act(observations, weights),
        agent.decide(observations, weights, np.ones(len(observations), dtype=bool))[0],
        *agent.expert_actions(observations).swapaxes(0, 1),
    ):
        assert all(space.contains(np.asarray(action, dtype=space.dtype)) for action in actions)


def test_predict_takes_one_observation_or_a_batch(agent):
    observations = observations_for(agent, 5)
    batch, _ = agent.predict(observations)
    assert batch.shape == (5, *agent.model.action_space.shape)
    one, _ = agent.predict(observations[2])
    assert one.shape == agent.model.action_space.shape
    np.testing.assert_allclose(one, batch[2], rtol=1e-5)


def test_draws_follow_the_mixture_density(make_agent):
    agent = scatter(make_agent())
    observation = observations_for(agent, 1)
    with torch.no_grad():
        expected = agent.model.evaluate(torch.from_numpy(observation)).mixture.log_probs[0].exp().numpy()
    torch.manual_seed(0)
    draws, _ = agent.predict(np.repeat(observation, 20_000, axis=0), deterministic=False)
    share = np.bincount(draws, minlength=3) / 20_000
    assert expected.min() > 0.01
    np.testing.assert_array_less(np.abs(share - expected), 5 * np.sqrt(expected * (1 - expected) / 20_000))


def test_many_decisions_under_given_weights_are_one_after_the_other(agent):
    """What a row draws does not depend on the rows behind it, so that strategies can be added to a walk."""
    observations = observations_for(agent, 60).reshape(3, 20, -1)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(3, 20))
    drawn = np.arange(20) == 4
    given = agent.with_weights(weights, drawn)
    for at in range(3):
        for found, expected in zip(
            given.decide(at, observations[at], seed=at),
            agent.decide(observations[at], weights[at], drawn, seed=at),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)
    if agent.model.action_space.shape == ():
        fewer = agent.decide(observations[0, :7], weights[0, :7], drawn[:7], seed=0)[0]
        np.testing.assert_array_equal(fewer, given.decide(0, observations[0], seed=0)[0][:7])
    with pytest.raises(ValueError, match=r"^observations: expected as many rows as weights, 20, got 7$"):
        given.decide(0, observations[0, :7])


def test_seeded_draws_repeat_and_disturb_nobody(agent):
    observations = observations_for(agent)
    weights = agent.gate_weights(observations)
    before = torch.get_rng_state()
    drawn = np.arange(len(observations)) % 2 == 0
    (first, own), (again, _), (other, _) = (agent.decide(observations, weights, drawn, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == agent.predict(observations)[0].shape
    np.testing.assert_array_equal(first[~drawn], agent.act(observations, weights)[~drawn])
    np.testing.assert_array_equal(own, agent.expert_actions(observations))


def test_the_gate_sees_its_columns_and_never_the_account(make_agent, prepared):
    agent = scatter(make_agent())
    size = agent.model.observation_space.shape[0]
    assert agent.gate_columns == list(prepared.rules.gate_columns)
    assert not {size - 2, size - 1} & set(agent.gate_columns)
    names = [prepared.feature_names[column] for column in agent.gate_columns]
    assert len(names) == 14
    assert all(name.startswith(("trend", "volatility", "autocorrelation", "regime")) for name in names), names
    observations = observations_for(agent, 20)
    before = agent.gate_weights(observations)
    for column in range(size):
        changed = observations.copy()
        changed[:, column] += 3.0
        differs = not np.array_equal(agent.gate_weights(changed), before)
        assert differs == (column in agent.gate_columns), column


def test_another_environment_shows_the_gate_everything(make_agent, pendulum):
    assert make_agent(env=pendulum(0)).gate_columns == [0, 1, 2]


def test_experts_are_named_in_order(make_agent):
    assert make_agent(count=3).expert_names == ["expert_1", "expert_2", "expert_3"]
    assert make_agent(count=2, prefix="pilot").expert_names == ["pilot_1", "pilot_2"]


def test_metrics_describe_the_last_rollout(make_agent):
    agent = make_agent(learning_rate=3e-4)
    assert agent.metrics == {}
    assert agent.learn(128) is agent
    rollout = agent.algorithm.rollout_buffer.observations
    references = torch.from_numpy(rollout.reshape(-1, rollout.shape[-1]))
    weights = agent.gate_weights(agent.algorithm.policy.whole_observations(references).numpy())
    for k, name in enumerate(agent.expert_names):
        assert agent.metrics[f"importance/{name}"] == pytest.approx(weights[:, k].mean(), abs=1e-5)
        assert agent.metrics[f"load/{name}"] == pytest.approx((weights.argmax(-1) == k).mean(), abs=1e-5)


@pytest.mark.parametrize("net_arch", [[64, 64], [128, 32], [64]], ids=str)
@pytest.mark.parametrize("market", ["trading", "pendulum"])
def test_the_matched_single_policy_has_the_mixtures_size(net_arch, market, make_agent, prepared, pendulum):
    env = pendulum(0) if market == "pendulum" else None
    mixture = make_agent(env=env, count=4, net_arch=net_arch)
    size = mixture.model.n_parameters()
    assert size == sum(p.numel() for p in mixture.model.parameters())
    expert = mixture.expert.parameter_matched(mixture.model)
    assert expert.names() == ["single_1"]
    single = MoEAgent(pendulum(0) if env else prepared.training_env(4, 0), expert, mixture.gating, seed=0)
    found = sum(p.numel() for p in single.model.experts[0].parameters())
    assert abs(found - size) <= 0.02 * size
    if net_arch == [64, 64]:  # as a bundle reports it: with the idle gate of one expert, a few hundred more
        assert abs(single.model.n_parameters() - size) <= 0.02 * size
    same = {field.name for field in dataclasses.fields(expert)} - {"count", "prefix", "net_arch"}
    assert all(getattr(expert, name) == getattr(mixture.expert, name) for name in same)


class Shaped(gym.Env):
    """An environment of any spaces."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


BOX = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (
            spaces.Box(-1, 1, (2, 3), np.float32),
            spaces.Discrete(2),
            r"^expected a flat Box observation space, got Box\(",
        ),
        (spaces.Discrete(4), spaces.Discrete(2), r"^expected a flat Box observation space, got Discrete\(4\)"),
        (BOX, spaces.MultiDiscrete([2, 3]), r"^expected a Discrete or Box action space, got MultiDiscrete"),
        (
            BOX,
            spaces.Box(-1, 1, (2, 3), np.float32),
            r"^expected a flat action space with finite bounds, such as Box\(-1",
        ),
        (BOX, spaces.Box(-1, 1, (), np.float32), r"^expected a flat action space with finite bounds, .*, got Box\("),
        (BOX, spaces.Box(-1, np.inf, (2,), np.float32), r"^expected a flat action space with finite bounds, .*inf"),
        (BOX, spaces.Discrete(3, start=5), r"^expected actions that count from 0, Discrete\(3\), got Discrete\(3, sta"),
    ],
)
def test_spaces_it_cannot_serve_are_refused(observation_space, action_space, message, small_experts, settings):
    env = DummyVecEnv([lambda: Shaped(observation_space, action_space)])
    with pytest.raises(ValueError, match=message):
        MoEAgent(env, small_experts(), settings.gating, seed=0)


@pytest.mark.parametrize("seed", [True, -1, 2**31, 1.0, "0", None])
def test_a_seed_that_is_none_is_refused(seed, prepared, small_experts, settings):
    with pytest.raises(ValueError, match=r"^seed: expected a whole number from 0 to 2147483647, got "):
        MoEAgent(prepared.training_env(4, 0), small_experts(), settings.gating, seed=seed)


@pytest.mark.parametrize("device", ["meta", "gpu", "cpu:0", None])
def test_a_device_that_is_none_is_refused(device, prepared, small_experts, settings):
    with pytest.raises(ValueError, match=r"^device: expected cpu, cuda, cuda:N or mps, got "):
        MoEAgent(prepared.training_env(4, 0), small_experts(), settings.gating, seed=0, device=device)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"count": 1024, "net_arch": [65_536, 65_536]},
            r"^expert\.count, expert\.net_arch: 1,024 experts of [\d,]+ parameters, their gradient and Adam's two aver"
            r"ages would need about 1\d\d,\d\d\d GB of memory, and this machine has \d+ GB; lower one of them$",
        ),
        (
            {"n_steps": 10_000_000, "batch_size": 2},
            r"^expert\.n_steps, trainer\.n_envs: a rollout of 10,000,000 steps in 2,000 envs that show 3 numbers",
        ),
    ],
)
def test_networks_and_rollouts_that_no_memory_holds_are_refused(changes, message, prepared, small_experts, settings):
    env = prepared.training_env(2_000, 0)
    with pytest.raises(ConfigError, match=message):
        MoEAgent(env, small_experts(**changes), settings.gating, seed=0)


def test_it_learns_in_any_box_environment(make_agent):
    agent = make_agent(env=make_vec_env("CartPole-v1", n_envs=4, seed=0), count=2)
    agent.learn(256)
    assert agent.algorithm.num_timesteps == 256
    assert set(agent.metrics) >= {"importance/expert_1", "load/expert_2", "mixture/gate_entropy"}


def test_weights_that_are_none_are_refused(agent):
    observations = observations_for(agent)
    n, k = len(observations), len(agent.expert_names)
    for weights in (np.full((n, k), 0.5), np.full((n, k), np.nan), np.full((n, k + 1), 1 / (k + 1))):
        with pytest.raises(ValueError, match=r"^weights: expected rows of shape .* that are not negative and sum to 1"):
            agent.act(observations, weights)


def test_one_expert_alone_is_that_expert_even_beside_its_twin(agent):
    agent.model.experts[0].load_state_dict(agent.model.experts[1].state_dict())
    observations = observations_for(agent)
    alone = np.eye(len(agent.expert_names))
    for k in (0, 1):
        weights = np.tile(alone[k], (len(observations), 1))
        np.testing.assert_array_equal(agent.act(observations, weights), agent.expert_actions(observations)[:, k])


def test_what_cannot_learn_says_why(make_agent, tmp_path):
    agent = make_agent()
    for wrong in (-5, 0, np.nan, np.inf, 1e5, np.float64(64), True, np.True_, "64", None, [64]):
        with pytest.raises(ValueError, match=r"^total_timesteps: expected a whole number, 1 or more, got ") as refused:
            agent.learn(wrong)
        assert str(refused.value).endswith(f"got {wrong!r}")
    assert agent.algorithm.num_timesteps == 0
    assert agent.learn(np.int64(64)).algorithm.num_timesteps == 128
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"loaded without an environment: MoEAgent\.load\(path, env=\.\.\.\)"):
        MoEAgent.load(tmp_path / "agent").learn(10)


def test_a_plain_gymnasium_environment_is_told_to_be_wrapped(small_experts, settings):
    with pytest.raises(ValueError, match=r"^expected an SB3 VecEnv, got .*: wrap it, DummyVecEnv\(\[lambda: env\]\)$"):
        MoEAgent(gym.make("CartPole-v1"), small_experts(), settings.gating, seed=0)


def standardised(env, wrap=lambda env: env, **settings):
    return wrap(VecNormalize(env, **settings))


@pytest.mark.parametrize("wrap", [lambda env: env, VecCheckNan, lambda env: VecFrameStack(VecCheckNan(env), 2)])
def test_running_means_that_no_bundle_would_hold_are_refused(wrap, make_agent, pendulum, prepared, tmp_path):
    message = (
        r"^env: the running means of VecNormalize are not saved with the agent, which would act on other numbers once "
        r"loaded; use norm_obs=False \(norm_reward may stay\), or scale observations by constants in the environment$"
    )
    for env in (pendulum(0), prepared.training_env(4, 0)):
        with pytest.raises(ValueError, match=message):
            make_agent(env=standardised(env, wrap))
    make_agent(env=pendulum(0)).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=message):
        MoEAgent.load(tmp_path / "agent", env=standardised(pendulum(0)))


def test_so_are_those_of_gymnasium(make_agent):
    env = DummyVecEnv([lambda: NormalizeObservation(gym.make("Pendulum-v1"))])
    with pytest.raises(
        ValueError, match=r"^env: the running means of NormalizeObservation are not saved .*; remove it"
    ):
        make_agent(env=env)


def test_rewards_may_be_normalised(make_agent, pendulum, prepared):
    """They matter while it learns only; of an environment of ours the gate's columns are still known."""
    agent = make_agent(env=standardised(pendulum(0), norm_obs=False)).learn(128)
    seen = agent.algorithm.env.reset()
    np.testing.assert_allclose(np.hypot(seen[:, 0], seen[:, 1]), 1.0, rtol=1e-5)  # a sine and a cosine, as they are
    agent = make_agent(env=standardised(prepared.training_env(4, 0), norm_obs=False)).learn(128)
    assert agent.gate_columns == list(prepared.rules.gate_columns)


def test_a_wrapper_that_moves_the_gates_columns_is_refused(prepared, small_experts, settings):
    stacked = VecFrameStack(prepared.vec_env("train", 4, 0), n_stack=2)
    with pytest.raises(ValueError, match=r"^a wrapper around the environment made .* take it away$"):
        MoEAgent(stacked, small_experts(), settings.gating, seed=0)


@pytest.mark.parametrize(
    "weights",
    [[[0.5], [0.5, 0.5]], None, "x", np.zeros((0, 2)), np.array([["a", "b"]]), torch.zeros(1, 2, requires_grad=True)],
    ids=["ragged", "none", "text", "empty", "texts", "a gradient"],
)
def test_what_is_no_array_of_weights_is_refused(weights, make_agent):
    agent = make_agent(count=2)
    with pytest.raises(
        ValueError, match=r"^weights: expected (an array of numbers|rows of shape \(batch, 2\)).*, got "
    ):
        agent.act(observations_for(agent), weights)


@pytest.mark.parametrize(
    "drawn", [np.ones(3, bool), np.ones(21, bool), np.ones(20), [True] * 20, True, np.ones((20, 1), bool)]
)
def test_rows_that_are_drawn_are_marked_one_by_one(drawn, make_agent):
    agent = make_agent(count=2)
    observations = np.zeros((20, agent.model.observation_space.shape[0]), np.float32)
    with pytest.raises(ValueError, match=r"^drawn: expected an array of True or False for each of 20 rows, got "):
        agent.decide(observations, np.full((20, 2), 0.5), drawn)
