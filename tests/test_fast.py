"""Compiled experts and gradients by hand against plain PyTorch: the same numbers, to rounding."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from composed import settings_of
from conftest import SMALL_MARKET

from moe_trader.agent import MoEAgent
from moe_trader.fast import stacked, towers
from moe_trader.fast.densities import FastCategorical
from moe_trader.fast.gates import route
from moe_trader.fast.objective import FastObjective
from moe_trader.mixture.categorical import CategoricalMixture
from moe_trader.mixture.ppo_loss import Coefficients
from tests.test_compiled_gradient import steady
from tests.test_ppo import scatter


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
    before = parameters(ours.model)
    first = parameters(ours.learn(128).model)
    second = parameters(ours.learn(128).model)
    plain = MoEAgent(make_env(), expert, settings.gating, seed=0, kernels="off")
    assert largest_difference(before, parameters(plain.model)) == 0.0
    plain.learn(128)
    assert largest_difference(before, first) > 5e-5
    assert largest_difference(first, parameters(plain.model)) <= (1e-6 if discrete else 2e-5)
    if discrete:  # a pendulum pushed otherwise in the seventh digit soon swings otherwise
        plain.learn(128)
        assert largest_difference(second, parameters(plain.model)) <= 5e-6


CONF = Path(__file__).parents[1] / "conf" / "gating"
GATES = sorted(path.stem for path in CONF.glob("*.yaml"))
LOSSES = sorted(path.stem for path in (CONF / "losses").glob("*.yaml") if "_target_" in path.read_text())
SPACES = ["discrete", "continuous"]


@pytest.fixture(scope="module")
def envs_of():
    """``envs_of("continuous", gating)``: fresh environments of the small synthetic task, for this gate."""

    @functools.cache
    def prepared(positions, gate_input):
        return settings_of(*SMALL_MARKET, f"env/positions={positions}").env.prepare(gate_input=gate_input)

    return lambda positions, gating: prepared(positions, gating.gate_input()).training_env(4, 0)


def assert_one_update_is_the_same(gating, positions, envs_of, small_experts):
    """Take six steps on a ragged rollout both ways, from parameters that differ from expert to expert."""
    expert = small_experts(count=4, batch_size=48, n_epochs=2, target_kl=None, learning_rate=1e-3)
    learned, logged = [], []
    for kernels in ("auto", "off"):
        agent = MoEAgent(envs_of(positions, gating), expert, gating, seed=0, kernels=kernels)
        scatter(agent.model)
        before = parameters(agent.model)
        learned.append(parameters(agent.learn(128).model))
        logged.append(agent.algorithm.logger.name_to_value)
    fast, plain = learned
    for owner in ("gate.", *(f"experts.{k}." for k in range(4))):
        own = [name for name in plain if name.startswith(owner)]
        assert all(not torch.equal(plain[name], before[name]) for name in own)
        if own:
            largest = max(float(plain[name].abs().max()) for name in own)
            difference = max(float((fast[name] - plain[name]).abs().max()) for name in own)
            assert difference <= 1e-6 * largest, owner
            assert max(float((plain[name] - before[name]).abs().max()) for name in own) > 1e-3 * largest
    for name in gating.losses:
        assert logged[0][f"gate_loss/{name}"] == pytest.approx(logged[1][f"gate_loss/{name}"], rel=1e-4, abs=1e-6)
    return logged[0]


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("positions", SPACES)
@pytest.mark.parametrize("gate", GATES)
def test_one_update_is_the_plain_one_for_every_gate(gate, positions, envs_of, small_experts):
    gating = steady(settings_of(f"gating={gate}").gating)
    assert_one_update_is_the_same(gating, positions, envs_of, small_experts)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("positions", SPACES)
@pytest.mark.parametrize("loss", LOSSES)
def test_one_update_is_the_plain_one_for_every_loss(loss, positions, envs_of, small_experts):
    changes = ["gating.losses.diversity.delta=1.2"] if loss == "diversity" else []  # more than there is
    gating = steady(settings_of(f"gating/losses={loss}", *changes).gating)
    logged = assert_one_update_is_the_same(gating, positions, envs_of, small_experts)
    assert abs(logged[f"gate_loss/{loss}"]) > 1e-3  # it took part


def test_scores_and_values_are_the_experts_own(make_env, small_experts, settings):
    env = make_env()
    policy = MoEAgent(env, small_experts(**settings_for(env)), settings.gating, seed=0).model
    observations = torch.randn(7, policy.experts.n_inputs)
    scores, values, log_std = policy.backend.evaluate(policy, observations)
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
    policy = MoEAgent(env, expert, settings_of().gating, seed=0).model.to(dtype)
    observations = torch.randn(n, policy.experts.n_inputs, dtype=dtype)
    scores, values, log_std = policy.backend.evaluate(policy, observations)
    wanted = [torch.randn_like(one) for one in (scores, values, log_std) if one is not None]
    torch.autograd.backward([one for one in (scores, values, log_std) if one is not None], wanted)
    by_hand = {name: gradient.double() for name, gradient in policy.experts.gradients()}
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
        mixture = FastCategorical(weights, logits)
        actions = torch.tensor([0, 2, 1, 1, 0])
        return mixture.log_prob(actions), mixture.entropy(), mixture.posterior_entropy(actions)

    # the gradient along directions that keep the weights' sum: a gate moves along no other
    assert torch.autograd.gradcheck(lambda free, logits: statistics(torch.softmax(free, -1), logits), (weights, logits))


@pytest.mark.parametrize("count", [1, 4])
def test_a_density_in_fewer_steps_is_the_plain_one(count):
    """With its gradient, and as rollouts ask for it: in float32, without one."""
    torch.manual_seed(0)
    scores = torch.randn(9, count, dtype=torch.float64, requires_grad=True)
    logits = (2 * torch.randn(9, count, 4, dtype=torch.float64)).requires_grad_()
    actions = torch.arange(9) % 4

    def answers(kind, scores, logits):
        mixture = kind(torch.softmax(scores, -1), logits)
        return {
            "log_prob": mixture.log_prob(actions),
            "log_probs": mixture.log_probs,
            "expert_log_prob": mixture.expert_log_prob(actions),
            "entropy": mixture.entropy(),
            "posterior_entropy": mixture.posterior_entropy(actions),
            "disagreement": mixture.disagreement(),
            "responsibilities": mixture.responsibilities(actions),
            "mode": mixture.mode(),
            "expert_modes": mixture.expert_modes(),
        }

    fast, plain = (answers(kind, scores, logits) for kind in (FastCategorical, CategoricalMixture))
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)
    constants = {"responsibilities", "mode", "expert_modes"}
    assert constants == {name for name, one in plain.items() if not one.requires_grad}
    for name in plain.keys() - constants:
        d = torch.randn_like(plain[name])
        found, right = (
            torch.autograd.grad(
                one[name], [scores, logits], d, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for one in (fast, plain)
        )
        torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-12, msg=name)
    with torch.no_grad():
        rollout = answers(FastCategorical, scores.float(), logits.float())
    torch.testing.assert_close(rollout["log_probs"].double(), plain["log_probs"], rtol=0, atol=2e-6)
    torch.testing.assert_close(rollout["log_prob"].double(), plain["log_prob"], rtol=0, atol=2e-6)
    assert torch.equal(rollout["mode"], plain["mode"])


def test_a_weight_of_zero_has_a_finite_gradient():
    weights = torch.tensor([[1.0, 0.0]], requires_grad=True)
    mixture = FastCategorical(weights, torch.zeros(1, 2, 3))
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
        return FastObjective.apply(
            log_prob, entropy, values, weights, responsibilities, advantages, old, returns, given
        )[0]

    inputs = (log_prob, draw(40).requires_grad_(), draw(40, 4).requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


def test_an_expert_is_a_view_of_the_stack_both_ways(make_agent):
    policy = make_agent(count=2).model
    observations = torch.randn(6, policy.observation_space.shape[0])
    before = policy.evaluate(observations).mixture.expert_log_probs
    policy.experts[0].load_state_dict(policy.experts[1].state_dict())
    after = policy.evaluate(observations).mixture.expert_log_probs
    torch.testing.assert_close(after[:, 0], before[:, 1])
    with torch.no_grad():
        policy.experts.weights.zero_()
    assert not any(parameter.any() for parameter in policy.experts.parameters())


@pytest.mark.parametrize("count", [1, 4])
def test_the_actors_alone_say_what_they_say_beside_their_critics(count, make_agent):
    policy = make_agent(count=count).model
    for batch in (1, 7, 64):
        observations = torch.randn(batch, policy.experts.n_inputs)
        scores = stacked.actor(policy.experts)(observations).scores
        assert torch.equal(scores, stacked.evaluate(policy.experts, observations).scores)
        assert not scores.requires_grad


def test_experts_that_were_taken_out_of_the_stack_come_back(make_agent):
    agent, other = make_agent(count=2), make_agent(count=2, seed=1)
    observations = torch.randn(6, agent.model.n_columns)
    policy = agent.algorithm.policy
    policy.load_from_vector(other.algorithm.policy.parameters_to_vector())  # gives every parameter memory of its own
    for one in (policy, pickle.loads(pickle.dumps(other.algorithm.policy))):
        before = one.model.evaluate(observations).values.detach()
        torch.testing.assert_close(before, other.model.evaluate(observations).values)
        one.model.evaluate(observations).values.sum().backward()
        one.optimizer.clipped_step(1.0)
        assert (one.model.evaluate(observations).values - before).abs().max() > 1e-5
        assert torch.equal(one.model.experts[0].value_net.bias, one.model.experts.views[-1][0])


def test_observations_of_another_width_never_reach_compiled_code(make_agent):
    policy = make_agent(count=2).model
    bank, n_seen, n_gate = policy.experts, policy.experts.n_inputs, policy.gate.net[0].in_features
    for wrong in (torch.randn(5, n_seen + 1), torch.randn(5, n_seen - 1), torch.randn(n_seen)):
        for run in (functools.partial(stacked.run, bank), stacked.actor(bank), bank):
            with pytest.raises(ValueError, match=rf"^experts: expected shape \(n, {n_seen}\), got \("):
                run(wrong)
    with pytest.raises(ValueError, match=rf"^gate: expected shape \(n, {n_gate}\), got \(5, {n_gate + 2}\)$"):
        route(policy.gate, torch.randn(5, n_gate + 2))


def test_a_copy_of_a_policy_trains_by_itself(make_agent):
    original = make_agent(count=2)
    policy = copy.deepcopy(original.algorithm.policy)
    before = parameters(original.model)
    policy.model.evaluate(torch.randn(6, original.model.n_columns)).values.sum().backward()
    policy.optimizer.step()
    assert largest_difference(before, parameters(policy.model)) > 1e-6
    assert largest_difference(before, parameters(original.model)) == 0.0


def test_it_is_known_whether_an_earlier_run_has_compiled(make_agent, tmp_path):
    policy = make_agent().model
    stacked.run(policy.experts, torch.zeros(2, policy.experts.n_inputs))
    assert towers.are_compiled()
    code = "from moe_trader.fast import towers; print(towers.are_compiled())"
    fresh = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    printed = subprocess.run([sys.executable, "-c", code], env=fresh, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
