"""Stacked experts, gradients by hand and bars by number against the plain way: the same numbers, to rounding."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from composed import settings_of
from moe_trader.expert.mixture import CategoricalMixture
from moe_trader.expert.objective import Coefficients, Objective
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor, VecNormalize

from benchmarks.plain import plain_mixture
from moe_trader.agent import MoEAgent
from moe_trader.env.trading_vec_env import UnitRewards
from moe_trader.expert import towers


class Whole(VecEnvWrapper):
    """Any wrapper of SB3's kind: what it passes on of the environment within is not its own."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


def parameters(policy):
    return {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.fixture(params=["discrete", "box"])
def make_env(request, prepared, pendulum):
    return (lambda: prepared.training_env(4, 0)) if request.param == "discrete" else (lambda: pendulum(0))


def settings_for(env, **changes):
    return {"count": 4, "n_steps": 128 // env.num_envs, "batch_size": 32, "n_epochs": 2, **changes}


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_it_takes_the_steps_of_the_plain_loop(activation, make_env, settings, small_experts):
    """Six minibatches, ragged ones among them; Adam enlarges what rounding does to tiny gradients."""
    env = make_env()
    discrete = env.action_space.shape == ()
    changes = {"activation": activation, "target_kl": None, "batch_size": 48, "learning_rate": 1e-4}
    expert = small_experts(**settings_for(env, **changes))
    ours = MoEAgent(env, expert, settings.gating, seed=0)
    before = parameters(ours.policy)
    first = parameters(ours.learn(128).policy)
    second = parameters(ours.learn(128).policy)
    plain = plain_mixture(expert, settings.gating, make_env(), ours.view, seed=0)
    assert largest_difference(before, parameters(plain.policy)) == 0.0
    plain.learn(128)
    assert largest_difference(before, first) > 5e-5
    assert largest_difference(first, parameters(plain.policy)) <= (1e-6 if discrete else 2e-5)
    if discrete:  # a pendulum pushed otherwise in the seventh digit soon swings otherwise
        plain.learn(128)
        assert largest_difference(second, parameters(plain.policy)) <= 5e-6


def test_scores_and_values_are_the_experts_own(make_env, small_experts, settings):
    env = make_env()
    policy = MoEAgent(env, small_experts(**settings_for(env)), settings.gating, seed=0).policy
    observations = torch.randn(7, policy.expert_space.shape[0])
    scores, values, log_std = policy.stack(observations)
    for k, expert in enumerate(policy.experts):
        actor, critic = expert.mlp_extractor(observations)
        torch.testing.assert_close(scores[:, k], expert.action_net(actor), rtol=0, atol=1e-5)
        torch.testing.assert_close(values[:, k], expert.value_net(critic).squeeze(-1), rtol=0, atol=1e-5)
        if log_std is not None:
            assert torch.equal(log_std[k], expert.log_std)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "PyTorch's"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("net_arch", [[16], [16, 12, 7]], ids=str)
@pytest.mark.parametrize("n", [1, 5, 70])
def test_the_gradient_by_hand_is_autograds_whatever_the_depth(n, net_arch, activation, dtype, make_env, small_experts):
    env = make_env()
    expert = small_experts(**settings_for(env, count=3, net_arch=net_arch, activation=activation))
    policy = MoEAgent(env, expert, settings_of().gating, seed=0).policy.to(dtype)
    observations = torch.randn(n, policy.expert_space.shape[0], dtype=dtype)
    scores, values, log_std = policy.stack(observations)
    wanted = [torch.randn_like(one) for one in (scores, values, log_std) if one is not None]
    torch.autograd.backward([one for one in (scores, values, log_std) if one is not None], wanted)
    by_hand = {name: gradient.double() for name, gradient in policy.stack.gradients()}
    for k, expert in enumerate(copy.deepcopy(policy.experts).double()):
        actor, critic = expert.mlp_extractor(observations.double())
        ends = [expert.action_net(actor), expert.value_net(critic)]
        d_ends = [wanted[0][:, k].double(), wanted[1][:, k : k + 1].double()]
        if log_std is not None:
            ends, d_ends = [*ends, expert.log_std], [*d_ends, wanted[2][k].double()]
        torch.autograd.backward(ends, d_ends)
        for name, parameter in expert.named_parameters():
            rounding = 1e-12 if dtype == torch.float64 else 3e-6 * max(1.0, float(parameter.grad.abs().max()))
            torch.testing.assert_close(by_hand[f"{k}.{name}"], parameter.grad, rtol=0, atol=rounding)


def test_the_densitys_gradient_by_hand_is_right():
    weights = torch.softmax(torch.randn(5, 4, dtype=torch.float64), -1).requires_grad_()
    logits = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)

    def statistics(weights, logits):
        mixture = CategoricalMixture(weights, logits)
        actions = torch.tensor([0, 2, 1, 1, 0])
        return mixture.log_prob(actions), mixture.entropy(), mixture.posterior_entropy(actions)

    # the gradient along directions that keep the weights' sum: a gate moves along no other
    assert torch.autograd.gradcheck(lambda free, logits: statistics(torch.softmax(free, -1), logits), (weights, logits))


def test_a_weight_of_zero_has_a_finite_gradient():
    weights = torch.tensor([[1.0, 0.0]], requires_grad=True)
    mixture = CategoricalMixture(weights, torch.zeros(1, 2, 3))
    (mixture.log_prob(torch.tensor([0])) + mixture.entropy() + mixture.posterior_entropy(None)).sum().backward()
    assert weights.grad.isfinite().all()


def test_the_objectives_gradient_by_hand_is_right():
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    old, advantages, returns = draw(40), draw(40), draw(40)
    weights, responsibilities = torch.softmax(draw(40, 4), -1), torch.softmax(draw(40, 4), -1)
    log_prob = (old + 0.3 * draw(40)).requires_grad_()  # some ratios are clipped
    given = Coefficients(clip_range=0.2, entropy=0.01, value=0.5, expert_value_share=0.3)

    def loss(log_prob, entropy, values):
        return Objective.apply(log_prob, entropy, values, weights, responsibilities, advantages, old, returns, given)[0]

    inputs = (log_prob, draw(40).requires_grad_(), draw(40, 4).requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


def test_an_expert_is_a_view_of_the_stack_both_ways(make_agent):
    policy = make_agent(count=2).policy
    observations = torch.randn(6, policy.observation_space.shape[0])
    before = policy.mix(observations).mixture.expert_log_probs
    policy.experts[0].load_state_dict(policy.experts[1].state_dict())
    after = policy.mix(observations).mixture.expert_log_probs
    torch.testing.assert_close(after[:, 0], before[:, 1])
    with torch.no_grad():
        policy.stack.weights.zero_()
    assert not any(parameter.any() for parameter in policy.experts.parameters())


@pytest.mark.parametrize("count", [1, 4])
def test_the_actors_alone_say_what_they_say_beside_their_critics(count, make_agent):
    policy = make_agent(count=count).policy
    stack, n_seen = policy.stack, policy.actor_critics[0].observation_space.shape[0]
    for batch in (1, 7, 64):
        observations = torch.randn(batch, n_seen)
        scores = stack.actor()(observations)
        assert torch.equal(scores, stack(observations)[0])
        assert not scores.requires_grad


def test_experts_that_were_taken_out_of_the_stack_come_back(make_agent):
    policy, other = make_agent(count=2).policy, make_agent(count=2, seed=1).policy
    observations = torch.randn(6, policy.observation_space.shape[0])
    policy.load_from_vector(other.parameters_to_vector())  # gives every parameter memory of its own
    for one in (policy, pickle.loads(pickle.dumps(other))):
        torch.testing.assert_close(one.mix(observations).values, other.mix(observations).values)
        before = one.mix(observations).values.detach()
        one.mix(observations).values.sum().backward()
        one.optimizer.clipped_step(1.0)
        assert (one.mix(observations).values - before).abs().max() > 1e-5
        assert torch.equal(one.experts[0].value_net.bias, one.stack._blocks[-1][0])


def test_observations_of_another_width_never_reach_compiled_code(make_agent):
    policy = make_agent(count=2).policy
    n_seen, n_gate = policy.expert_space.shape[0], policy.gate.net[0].in_features
    for wrong in (torch.randn(5, n_seen + 1), torch.randn(5, n_seen - 1), torch.randn(n_seen)):
        for run in (policy.stack.run, policy.stack.actor(), policy.stack):
            with pytest.raises(ValueError, match=rf"^experts: expected shape \(n, {n_seen}\), got \("):
                run(wrong)
    with pytest.raises(ValueError, match=rf"^gate: expected shape \(n, {n_gate}\), got \(5, {n_gate + 2}\)$"):
        policy.gate.route(torch.randn(5, n_gate + 2))


def test_a_copy_of_a_policy_trains_by_itself(make_agent):
    original = make_agent(count=2)
    policy = copy.deepcopy(original.policy)
    before = parameters(original.policy)
    policy.mix(torch.randn(6, policy.observation_space.shape[0])).values.sum().backward()
    policy.optimizer.step()
    assert largest_difference(before, parameters(policy)) > 1e-6
    assert largest_difference(before, parameters(original.policy)) == 0.0


# --- bars by number ---------------------------------------------------------------------------------------------------


def test_what_stands_for_an_observation_is_read_back_to_the_bit(prepared, make_agent):
    whole, named = prepared.training_env(4, 7), prepared.training_env(4, 7).referring()
    policy = make_agent(env=prepared.training_env(4, 7)).policy
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
            np.testing.assert_array_equal(infos[lane]["terminal_observation"], same_infos[lane]["terminal_observation"])
    assert ends >= 4


def test_training_does_not_notice_that_bars_are_named(prepared, settings, small_experts):
    trained = []
    for env in (prepared.training_env(4, 0), Whole(prepared.training_env(4, 0))):
        agent = MoEAgent(env, small_experts(), settings.gating, seed=0)
        agent.learn(384)
        trained.append(parameters(agent.policy))
        width = agent.algorithm.rollout_buffer.observations.shape[-1]
        assert width == (agent.sizes[0] if isinstance(env, Whole) else 3)
    assert largest_difference(*trained) == 0.0


def test_an_observation_as_narrow_as_its_reference_is_not_mistaken_for_one(make_settings, small_experts):
    """One column and the account: three numbers, as in a reference."""
    made = make_settings("env/features=[autocorrelation]", "env.features.autocorrelation.spans=[20]")
    prepared, trained = made.env.prepare(), []
    for env in (prepared.training_env(4, 0), Whole(prepared.training_env(4, 0))):
        assert env.observation_space.shape == (3,)
        agent = MoEAgent(env, small_experts(), made.gating, seed=0)
        agent.learn(384)
        trained.append(parameters(agent.policy))
        assert np.abs(agent.algorithm.rollout_buffer.observations).max() <= made.env.clip
    assert largest_difference(*trained) == 0.0


rewards_only = functools.partial(VecNormalize, norm_obs=False)


@pytest.mark.parametrize("wrapper", [rewards_only, VecMonitor, lambda env: UnitRewards(rewards_only(env), 2.0)])
def test_a_wrapper_is_never_bypassed(wrapper, prepared, settings, small_experts):
    agent = MoEAgent(wrapper(prepared.vec_env("train", 4, 0)), small_experts(), settings.gating, seed=0)
    agent.learn(128)
    assert agent.algorithm.rollout_buffer.observations.shape[-1] == agent.sizes[0]


def test_values_are_of_references_and_of_whole_last_observations(prepared, make_agent):
    """SB3's rollout asks for the value of both."""
    policy = make_agent(env=prepared.training_env(4, 7)).policy
    whole, named = prepared.training_env(4, 7), prepared.training_env(4, 7).referring()
    seen, read = torch.from_numpy(whole.reset()), torch.from_numpy(named.reset())
    torch.manual_seed(0)
    policy.experts.apply(lambda part: [torch.nn.init.normal_(p) for p in part.parameters(recurse=False)])
    assert torch.equal(policy.predict_values(seen), policy.predict_values(read))
    assert policy.predict_values(seen).std() > 0


def test_a_rollout_takes_less_than_a_hundred_bytes_a_step(make_agent):
    buffer = make_agent().algorithm.rollout_buffer
    arrays = [array for array in vars(buffer).values() if isinstance(array, np.ndarray)]
    assert len(arrays) == 8
    assert sum(array.nbytes for array in arrays) / (buffer.buffer_size * buffer.n_envs) < 100


def test_a_market_too_long_to_number_is_observed_whole(prepared, monkeypatch):
    monkeypatch.setattr("moe_trader.env.trading_vec_env.MOST_BARS", 100)
    assert prepared.vec_env("train", 2, seed=0).referring() is None
    assert prepared.training_env(2, seed=0).referring() is None


def test_it_is_known_whether_an_earlier_run_has_compiled(make_agent, tmp_path):
    policy = make_agent().policy
    policy.stack.run(torch.zeros(2, policy.expert_space.shape[0]))
    assert towers.are_compiled()
    code = "from moe_trader.expert import towers; print(towers.are_compiled())"
    fresh = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], env=fresh, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"
