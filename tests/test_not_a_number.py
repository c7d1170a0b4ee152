"""Numbers that are missing or infinite: no action is chosen on them, nothing is learned from them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from composed import trainer_of
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.env.lanes import Lanes
from moe_trader.fast.losses import GRADIENTS
from moe_trader.finite import TrainingError, checked_observations
from moe_trader.gating.losses.router_z import RouterZ
from moe_trader.mixture.output import OutputError


@pytest.fixture(params=["discrete", "box"])
def agent(request, make_agent, pendulum):
    return make_agent(env=pendulum(0) if request.param == "box" else None)


def observations_for(agent, n=5):
    size = agent.model.observation_space.shape
    return np.random.default_rng(1).normal(size=(n, *size)).astype(np.float32)


EVEN = np.full((5, 3), 1 / 3)
DOORS = {
    "predict": lambda agent, seen: agent.predict(seen),
    "sampled": lambda agent, seen: agent.predict(seen, deterministic=False),
    "stable_baselines3": lambda agent, seen: agent.algorithm.predict(seen),
    "gate_weights": lambda agent, seen: agent.gate_weights(seen),
    "expert_actions": lambda agent, seen: agent.expert_actions(seen),
    "act": lambda agent, seen: agent.act(seen, EVEN),
    "decide": lambda agent, seen: agent.decide(seen, EVEN),
    "under": lambda agent, seen: agent.with_weights(EVEN[None]).decide(0, seen),
}


# --- no action on a number that is missing ----------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_no_door_acts_on_a_number_that_is_missing(door, missing, agent):
    size = agent.model.observation_space.shape[0]
    for column in {0, 1, size - 1}:
        broken = observations_for(agent)
        broken[2:, column] = missing
        with pytest.raises(
            ValueError, match=rf"^observations: expected finite numbers, got {missing} in row 2; not fi"
        ):
            DOORS[door](agent, broken)


def test_a_number_beyond_float32_is_infinite(agent):
    broken = observations_for(agent).astype(np.float64)
    broken[4, 1] = -1e39
    for ask in DOORS.values():
        with pytest.raises(ValueError, match=r"got -inf in row 4; not finite: column 1( \(|$)"):
            ask(agent, broken)


def test_one_observation_counts_as_row_0(make_agent, prepared):
    """Columns are named by feature and bar, from the environment or from the bundle."""
    agent = make_agent()
    window, names = prepared.task.window, prepared.feature_names
    at = len(names) * (window - 1) + names.index("trend_40")
    observation = observations_for(agent)[0]
    observation[[at, window * len(names)]] = np.nan
    expected = rf"row 0; not finite: columns {at} \(trend_40\), {window * len(names)} \(account: exposure\)$"
    with pytest.raises(ValueError, match=expected):
        agent.predict(observation)


def test_a_loaded_agent_names_features_too(make_agent, make_settings, tmp_path):
    task = make_settings("env.window=3").env.prepare()
    agent = make_agent(env=task.training_env(4, 0))
    agent.save(tmp_path / "agent", task.summary())
    observation = observations_for(agent)[0]
    observation[: len(task.feature_names)] = np.nan
    for one in (agent, MoEAgent.load(tmp_path / "agent")):
        with pytest.raises(ValueError, match=r"columns 0 \(return_1, 2 bars before\), 1 .* and \d+ more$"):
            one.predict(observation)


def test_a_foreign_environment_has_columns_without_names(make_agent, pendulum, tmp_path):
    agent = make_agent(env=pendulum(0))
    agent.save(tmp_path / "agent")
    for one in (agent, MoEAgent.load(tmp_path / "agent")):
        with pytest.raises(ValueError, match=r"row 0; not finite: columns 0, 2$"):
            one.predict(np.array([np.nan, 1.0, np.inf]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([[0.0, None, 1.0]], dtype=object), "expected real numbers, got dtype object"),
        (["1", "2", "3"], "expected real numbers, got dtype <U1"),
        (np.zeros(3, complex), "expected real numbers, got dtype complex128"),
        (np.zeros(3, "datetime64[s]"), r"expected real numbers, got dtype datetime64\[s\]"),
        ([[1.0, 2.0], [3.0]], r"expected an array of numbers, got list \(.*inhomogeneous"),
        ({"a": np.zeros(3)}, "expected an array of numbers, got a dict"),
        (torch.zeros(3, requires_grad=True), r"expected an array of numbers, got Tensor \(.*detach"),
        ((np.zeros(3), {}), r"got \(observation, info\), as env.reset\(\) returns it; give the observation only"),
        (np.ma.masked_invalid([0.0, np.nan, 1.0]), "got nan in row 0; not finite: column 1$"),
        (np.ma.array([1, 2, 3], mask=[0, 0, 1]), "got nan in row 0; not finite: column 2$"),
        (np.zeros(()), r"expected shape \(n, 3\), got \(\)"),
        (np.zeros((2, 2, 3)), r"expected shape \(n, 3\), got \(2, 2, 3\)"),
    ],
    ids=lambda given: type(given).__name__ if not isinstance(given, str) else "",
)
def test_observations_that_are_no_numbers_are_refused(given, message, make_agent, pendulum):
    with pytest.raises(ValueError, match=f"^observations: .*{message}"):
        checked_observations(given, 3)
    with pytest.raises(ValueError, match=message):
        make_agent(env=pendulum(0)).gate_weights(given)


def test_numbers_of_every_kind_are_read(make_agent, pendulum):
    agent = make_agent(env=pendulum(0))
    expected = agent.predict(np.array([[1, 0, 2]], np.float32))[0]
    for given in (
        [[1, 0, 2]],
        np.array([[1, 0, 2]]),
        torch.tensor([[1.0, 0.0, 2.0]]),
        np.array([[1, 0, 2]], np.float16),
    ):
        np.testing.assert_array_equal(agent.predict(given)[0], expected)


def test_outputs_that_overflow_are_no_action(agent):
    """Finite observations and finite weights can still make numbers that are not."""
    observations = observations_for(agent)
    with torch.no_grad():
        for parameter in agent.model.experts[1].parameters():
            parameter.fill_(3e38)
    for name, ask in DOORS.items():
        if name not in ("gate_weights", "under"):  # which evaluation asks at every bar
            with pytest.raises(OutputError, match=r"^outputs of expert 2 are not finite$"):
                ask(agent, observations)
    with torch.no_grad():
        for parameter in agent.model.gate.parameters():
            parameter.fill_(3e38)
    with pytest.raises(OutputError, match=r"^outputs of the gate are not finite$"):
        agent.gate_weights(observations)


# --- nothing is learned from a number that is missing -----------------------------------------------------------------


class Faulty(gym.Env):
    """Episodes of ten steps in which one number goes wrong, once: ``what`` at step ``at`` of all that it makes."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, what=None, at=0, value=np.nan, discrete=True, reward=1.0):
        self.action_space = spaces.Discrete(2) if discrete else spaces.Box(-1, 1, (1,), np.float32)
        self._what, self._at, self._value, self._reward, self.steps = what, at, value, reward, 0

    def _observed(self, what):
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        if self._what == what and self.steps == self._at:
            observation[[1, 2]] = self._value
        return observation

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observed("reset"), {}

    def step(self, action):
        self.steps += 1
        reward = self._value if self._what == "reward" and self.steps == self._at else self._reward
        return self._observed("observation"), reward, False, self.steps % 10 == 0, {}


def faulty(n=2, **fault):
    """Return ``n`` environments, of which the last is faulty."""
    return DummyVecEnv([*[lambda: Faulty(discrete=fault.get("discrete", True))] * (n - 1), lambda: Faulty(**fault)])


class Remember(BaseCallback):
    """Keeps the weights that every rollout was made with."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.weights.append(weights_of(self.model.model))


def weights_of(policy):
    return {name: one.clone() for name, one in policy.state_dict().items()}


def assert_same_weights(policy, weights):
    for name, one in policy.state_dict().items():
        assert torch.equal(one, weights[name]), name


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "box"])
@pytest.mark.parametrize(
    ("what", "at", "value", "message"),
    [
        ("reward", 1, np.nan, "environment 1, step 1: the reward is nan"),
        ("reward", 90, -np.inf, "environment 1, step 90: the reward is -inf"),
        ("reward", 10, 1e39, "environment 1, step 10: the reward is inf"),
        ("reset", 0, np.nan, "environment 1, step 0: the observation has nan in columns 1, 2"),
        ("reset", 70, np.inf, "environment 1, step 70: the observation has inf in columns 1, 2"),
        ("observation", 77, np.nan, "environment 1, step 77: the observation has nan in columns 1, 2"),
        ("observation", 80, np.nan, "environment 1, step 80: the observation has nan in columns 1, 2"),  # the terminal
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # SB3's, of rewards
def test_training_names_what_is_no_number(what, at, value, message, discrete, make_agent):
    agent = make_agent(env=faulty(what=what, at=at, value=value, discrete=discrete))
    remember = Remember()
    with pytest.raises(TrainingError) as refused:
        agent.learn(320, callback=remember)
    assert str(refused.value) == f"{message}, expected finite numbers; correct the environment"
    assert len(remember.weights) == max(at - 1, 0) // 32
    if not remember.weights:
        assert agent.algorithm._n_updates == 0
    agent.predict(np.zeros(3))


def test_an_environment_of_ours_points_to_its_settings(make_agent, monkeypatch):
    """Its observations are references while it learns, three numbers that no feature has named."""

    def step(lanes, actions, plain=Lanes.step):
        plain(lanes, actions)
        lanes.rewards[1] = np.nan

    monkeypatch.setattr(Lanes, "step", step)
    message = (
        r"^environment 1, step 1: the reward is nan, expected finite numbers; check env.initial_equity, env.costs a"
    )
    with pytest.raises(TrainingError, match=message):
        make_agent().learn(128)


# --- a diverged update is undone --------------------------------------------------------------------------------------

GATES = ["softmax", "annealed", "entmax", "sparsemax", "top_k", "sticky", "gru", "rule", "random", "uniform"]


def diverged(agent, steps=1024, back=1):
    """Train until it diverges, and return the message.

    :param back: which weights must be back, counted from those of the last rollout that came to its end
    """
    remember = Remember()
    with pytest.raises(TrainingError, match=r"^training diverged at step \d[\d,]*: ") as refused:
        agent.learn(steps, callback=remember)
    assert_same_weights(agent.model, remember.weights[-back])
    agent.predict(observations_for(agent))
    return str(refused.value)


@pytest.mark.parametrize("gate", GATES)
def test_a_learning_rate_that_is_too_large_ends_in_one_line(gate, make_agent):
    agent = make_agent(gating=run_settings(compose([f"gating={gate}"])).gating, learning_rate=1e30)
    message = diverged(agent)
    assert "\n" not in message
    assert message.endswith("; lower expert.learning_rate (now 1e+30) or expert.max_grad_norm (now 1)")


@pytest.mark.parametrize("count", [1, 3])
def test_so_it_does_for_box_actions(count, make_agent, pendulum):
    message = diverged(make_agent(env=pendulum(0), count=count, learning_rate=1e30))
    assert "lower expert.learning_rate (now 1e+30)" in message


@pytest.mark.parametrize(
    ("rate", "fault"), [(3e37, "step 128: outputs of"), (1e36, "step 256: train/value_loss is inf")]
)
def test_finite_weights_of_no_use_are_undone_too(rate, fault, make_agent):
    """A single minibatch: the weights are finite after it; their outputs are not, or those of the next loss."""
    message = diverged(make_agent(learning_rate=rate, batch_size=128, n_epochs=1), back=1 if "128" in fault else 2)
    assert fault in message


def test_a_mixture_that_diverges_only_where_it_trades_is_undone(make_agent, monkeypatch):
    """The states that an update is measured on do not show it: the next rollout does."""
    monkeypatch.setattr("moe_trader.learner.on_policy.STATES_MEASURED", 1)
    agent = make_agent(env=faulty(n=4), batch_size=128, n_epochs=1)
    train = agent.algorithm.train

    def overflow():
        train()
        with torch.no_grad():
            agent.model.experts[2].action_net.weight.fill_(3e38)

    monkeypatch.setattr(agent.algorithm, "train", overflow)
    assert "at step 128: outputs of expert 3 are not finite; lower expert.learning_rate (now" in diverged(agent)


def test_a_spread_that_overflows_is_undone(make_agent, pendulum):
    agent = make_agent(env=pendulum(0), learning_rate=200.0, n_steps=64, batch_size=128, n_epochs=1)
    fault = "outputs of expert 1, expert 2, expert 3 are not finite; lower expert.learning_rate (now 200)"
    assert fault in diverged(agent)  # exp(200) is beyond float32


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "box"])
def test_rewards_too_large_to_be_squared_are_to_be_scaled(discrete, make_agent):
    agent = make_agent(env=faulty(reward=1e25, discrete=discrete))
    assert diverged(agent).endswith("; scale the rewards, which reach 1e+25")


def test_an_overflow_of_returns_is_the_rewards_doing(make_agent):
    message = diverged(make_agent(env=faulty(reward=3e38), gamma=1.0))
    assert message.startswith("training diverged at step 64: the advantage of environment ")
    assert message.endswith("; scale the rewards, which reach 3e+38")


def test_a_weight_of_the_loss_that_is_too_large_is_named(make_agent):
    agent = make_agent(env=faulty(), learning_rate=1e-3)
    agent.algorithm.ent_coef = 1e30
    message = diverged(agent)
    assert message.endswith(
        "; lower expert.ent_coef, expert.vf_coef, the weights of gating.losses or expert.learning_rate (now 0.001)"
    )


def test_a_loss_of_the_gate_that_is_no_number_is_named(make_agent, monkeypatch):
    monkeypatch.setitem(GRADIENTS, RouterZ, lambda loss, arrays, weight: np.nan)
    message = diverged(make_agent())
    assert "gate_loss/router_z is nan in minibatch 1 of the update; lower gating.losses.router_z.weight" in message


def test_training_can_go_on_at_a_lower_rate(make_agent):
    """Adam's moments are forgotten with the update."""
    agent = make_agent(learning_rate=1e30)
    diverged(agent)
    agent.algorithm.lr_schedule = lambda _: 1e-3
    assert np.isfinite(list(agent.learn(256).metrics.values())).all()


def test_the_last_finite_weights_are_saved(make_agent, tmp_path):
    agent = make_agent(learning_rate=1e30)
    message = rf"^single: training diverged at step 128: .*; the last finite weights were saved to {tmp_path}/bundle$"
    with pytest.raises(TrainingError, match=message):
        trainer_of(total_timesteps=512, n_envs=4).fit(agent, tmp_path, title="single", task={"market": "synthetic"})
    loaded = MoEAgent.load(tmp_path / "bundle")
    assert_same_weights(loaded.model, weights_of(make_agent(learning_rate=1e30).model))


def test_of_a_faulty_environment_everything_learned_is_saved(make_agent, tmp_path):
    agent = make_agent(env=faulty(what="reward", at=70))
    with pytest.raises(TrainingError, match=r"^mixture: environment 1, step 70: the reward is nan, .*/bundle$"):
        trainer_of(total_timesteps=512, n_envs=2).fit(agent, tmp_path)
    assert agent.algorithm.num_timesteps == 138
    assert_same_weights(MoEAgent.load(tmp_path / "bundle").model, weights_of(agent.model))
