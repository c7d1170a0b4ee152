"""A learner's state: training goes on from it as if it had not been interrupted, to the bit. And copies of agents."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from moe_trader.agent import MoEAgent
from moe_trader.learner.state import LearnerState

STEPS, AN_UPDATE = 5 * 128, 128


def assert_same(one, other, but=()):
    """Compare two states tensor by tensor, to the bit."""
    assert one.tensors.keys() == other.tensors.keys()
    shared = [name for name in one.tensors if name not in but]
    assert [name for name in shared if not torch.equal(one.tensors[name], other.tensors[name])] == []
    values, others = (json.loads(json.dumps(state.values)) for state in (one, other))
    assert values.keys() == others.keys()
    assert [name for name in values if name not in but and values[name] != others[name]] == []


def written(state):
    """Return what a file would give back: values through JSON, tensors copied."""
    values = json.loads(json.dumps(state.values, allow_nan=False))
    return LearnerState({name: tensor.clone() for name, tensor in state.tensors.items()}, values)


RUNS = {
    "discrete": ["gating=softmax"],
    "continuous": ["gating=softmax", "env/positions=continuous"],
    "sticky": ["gating=sticky", "gating.rows=5"],
    "top_k": ["gating=top_k", "gating.balance_rate=0.3"],
    "annealed": ["gating=annealed"],
}


@pytest.fixture
def maker(make_settings, prepared_for, small_experts):
    """``maker("sticky", family="ppo")``: a function that makes the same fresh agent each time."""

    def choose(name, family="ppo", kernels="auto"):
        made = make_settings(*RUNS[name], f"expert={family}")
        gate_input = made.gating.gate_input()
        task = made.env.prepare(gate_input=gate_input) if name == "continuous" else prepared_for(made.gating)
        expert = small_experts(count=3, final_learning_rate=1e-5)
        if family == "a2c":
            expert = dataclasses.replace(made.expert, count=3, net_arch=[16, 16], n_steps=32)
        return lambda seed=0: MoEAgent(task.training_env(4, seed), expert, made.gating, seed=seed, kernels=kernels)

    return choose


@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, {}) for name in RUNS), ("discrete", {"family": "a2c"}), ("discrete", {"kernels": "off"})],
    ids=[*RUNS, "a2c", "plain PyTorch"],
)
@pytest.mark.parametrize("after", [1, 3])
def test_training_goes_on_from_a_state_to_the_bit(name, how, after, maker):
    make, states = maker(name, **how), []
    whole = make()
    whole.algorithm.update_listeners.append(lambda: states.append(whole.algorithm.state()))
    whole.learn(STEPS)
    assert len(states) == 5
    end, draws = whole.algorithm.state(), whole.algorithm.rollout_buffer.actions.copy()

    resumed = make(seed=7)
    resumed.algorithm.load_state(written(states[after - 1]))
    assert_same(resumed.algorithm.state(), states[after - 1])
    resumed.learn(STEPS - after * AN_UPDATE, reset_num_timesteps=False)
    assert resumed.algorithm.num_timesteps == STEPS
    np.testing.assert_array_equal(resumed.algorithm.rollout_buffer.actions, draws)
    assert_same(resumed.algorithm.state(), end, but={"_num_timesteps_at_start"})
    assert not torch.equal(end.tensors["torch_random"], states[after - 1].tensors["torch_random"])


def test_a_state_does_not_change_while_training_goes_on(maker):
    agent = maker("discrete")().learn(128)
    state = agent.algorithm.state()
    kept = written(state)
    agent.learn(128, reset_num_timesteps=False)
    assert_same(state, kept)
    assert not torch.equal(agent.algorithm.state().tensors["optimizer.0.exp_avg"], state.tensors["optimizer.0.exp_avg"])


def test_taking_a_state_does_not_disturb_training(maker):
    ends = []
    for asked in (False, True):
        agent = maker("discrete")()
        if asked:
            agent.algorithm.update_listeners.append(agent.algorithm.state)
        ends.append(agent.learn(256).algorithm.state())
    assert_same(*ends)


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_a_state_of_other_shapes_is_refused(make_agent):
    state = make_agent(count=3).learn(128).algorithm.state()
    wider, more = make_agent(count=3, net_arch=[16, 20]), make_agent(count=4)
    with pytest.raises(
        ValueError,
        match=r"^state: expected one of the same experts and gate; model\.experts\.0\.action_net\.weight has shape "
        r"\(3, 16\) there and \(3, 20\) here$",
    ):
        wider.algorithm.load_state(state)
    with pytest.raises(ValueError, match=r"^state: expected one of the same experts and gate; model\.experts\.3\."):
        more.algorithm.load_state(state)
    assert wider.algorithm.num_timesteps == more.algorithm.num_timesteps == 0


def test_a_state_of_another_number_of_envs_is_refused_and_nothing_is_changed(make_agent, prepared):
    state = make_agent().learn(128).algorithm.state()
    agent = make_agent(env=prepared.training_env(8, 0)).learn(256)
    before = agent.algorithm.state()
    with pytest.raises(ValueError, match=r"^state: expected one of 8 (lanes|envs), got 4$"):
        agent.algorithm.load_state(state)
    assert_same(agent.algorithm.state(), before)


def test_a_state_of_another_algorithm_is_refused(maker):
    """Though its experts and its gate have the same shapes."""
    state = maker("discrete")().learn(128).algorithm.state()
    a2c = maker("discrete", family="a2c")()
    with pytest.raises(ValueError, match=r"^state: expected one of A2CLearner, got one of PPOLearner$"):
        a2c.algorithm.load_state(state)


def test_before_training_there_is_no_state(make_agent):
    with pytest.raises(ValueError, match=r"^state: training has not begun, .*; call learn\(\) first$"):
        make_agent().algorithm.state()


def test_an_environment_that_cannot_say_its_state_is_named(make_agent, pendulum):
    agent = make_agent(env=pendulum(0)).learn(128)
    with pytest.raises(
        ValueError,
        match=r"^env: DummyVecEnv has no state\(\): where training stands in it cannot be saved; use moe_trader's own ",
    ):
        agent.algorithm.state()


# --- copies -----------------------------------------------------------------------------------------------------------

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda agent: pickle.loads(pickle.dumps(agent))}


@pytest.mark.parametrize("name", ["discrete", "continuous", "sticky"])
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_acts_and_learns_as_the_original_and_leaves_it_alone(copied, name, maker):
    agent = maker(name)().learn(128)
    before = agent.algorithm.state()
    other = copied(agent)
    observations = np.random.default_rng(0).normal(size=(40, agent.model.n_columns)).astype(np.float32)
    np.testing.assert_array_equal(other.predict(observations)[0], agent.predict(observations)[0])
    np.testing.assert_array_equal(other.gate_weights(observations), agent.gate_weights(observations))

    other.learn(128, reset_num_timesteps=False)
    end = other.algorithm.state()
    global_draws = {"numpy_random", "torch_random", "python_random"}
    assert_same(agent.algorithm.state(), before, but=global_draws)
    head = "model.experts.0.action_net.weight"
    assert not torch.equal(end.tensors[head], before.tensors[head])
    agent.algorithm.load_state(before)  # the global generators, too
    assert_same(agent.learn(128, reset_num_timesteps=False).algorithm.state(), end)


def test_a_copy_saves_itself(maker, tmp_path):
    """SB3's callbacks save an agent by its learner: a copy's learner must not save the original."""
    agent = maker("discrete")()
    other = copy.deepcopy(agent).learn(128)
    other.algorithm.save(tmp_path / "copy.zip")
    saved = MoEAgent.load(tmp_path / "copy").model.state_dict()
    assert all(torch.equal(one, saved[name]) for name, one in other.model.state_dict().items())
    assert not all(torch.equal(one, saved[name]) for name, one in agent.model.state_dict().items())


@pytest.mark.parametrize("when", ["_on_step", "_on_rollout_end"])
def test_a_state_within_a_rollout_is_refused(when, maker):
    agent = maker("discrete")()

    class Ask(BaseCallback):
        def _on_step(self):
            return True

    setattr(Ask, when, lambda self: self.model.state() is not None)
    with pytest.raises(
        ValueError, match=r"^state: a rollout is being collected or learned from; take the state in an "
    ):
        agent.learn(128, callback=Ask())
    assert agent.algorithm.num_timesteps == (4 if when == "_on_step" else 128)  # at once


def test_a_state_at_the_start_of_a_rollout_goes_on_to_the_bit(maker):
    agent, states = maker("discrete")(), []

    class Ask(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            states.append(self.model.state())

    agent.learn(256, callback=Ask())
    resumed = maker("discrete")(seed=5)
    resumed.algorithm.load_state(states[1])
    resumed.learn(128, reset_num_timesteps=False)
    assert_same(resumed.algorithm.state(), agent.algorithm.state(), but={"_num_timesteps_at_start"})


def test_a_state_that_lacks_something_changes_nothing(make_agent):
    state = make_agent().learn(128).algorithm.state()
    other = make_agent(seed=3).learn(128)
    before = other.algorithm.state()
    del state.values["numpy_random"]
    with pytest.raises(ValueError, match=r"^state: numpy_random is missing; take it again with state\(\)$"):
        other.algorithm.load_state(state)
    del state.tensors["optimizer.0.step"]
    state.values["numpy_random"] = before.values["numpy_random"]
    with pytest.raises(ValueError, match=r"^state: optimizer\.0\.step is missing; take it again with state\(\)$"):
        other.algorithm.load_state(state)
    with pytest.raises(ValueError, match=r"^state: expected a LearnerState, as state\(\) returns it, got dict$"):
        other.algorithm.load_state({})
    assert_same(other.algorithm.state(), before)


def test_an_agent_without_an_environment_has_nothing_to_go_on_in(make_agent, tmp_path):
    state = make_agent().learn(128)
    state.save(tmp_path / "agent")
    loaded = MoEAgent.load(tmp_path / "agent")
    with pytest.raises(
        ValueError, match=r"^state: this agent has no environment to go on in; MoEAgent\.load\(path, env="
    ):
        loaded.algorithm.load_state(state.algorithm.state())


def test_a_copy_does_not_write_to_the_originals_logs(make_agent, tmp_path):
    agent = make_agent()
    agent.set_logger(configure(str(tmp_path), ["csv", "stdout"]))
    agent.learn(128)
    size = (tmp_path / "progress.csv").stat().st_size
    for copied in COPIES.values():
        copied(agent).learn(128)
    assert (tmp_path / "progress.csv").stat().st_size == size
    agent.algorithm.logger.close()


def test_acting_on_bar_indices_is_refused_with_the_way_out(make_agent):
    agent = make_agent().learn(128)
    shown = agent.algorithm.env.reset()
    with pytest.raises(
        ValueError, match=r"got bar indices, \(4, 3\), which only the training environment shows; act on "
    ):
        agent.algorithm.predict(shown)
    whole = agent.algorithm.policy.whole_observations(torch.from_numpy(shown)).numpy()
    assert agent.algorithm.predict(whole)[0].shape == (4,)
