"""The gradient made of compiled parts against autograd's of the same loss: the same numbers, to rounding."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from composed import settings_of

from moe_trader.agent import MoEAgent
from moe_trader.fast.gates import route
from moe_trader.fast.update import can_compile
from moe_trader.gating import GatingNetwork
from moe_trader.gating.losses.router_z import RouterZ
from moe_trader.gating.softmax import SoftmaxNetwork
from moe_trader.mixture.backend import Backend
from tests.test_ppo import collect, gradients, scatter

GATES = {
    "softmax": ["gating=softmax"],
    "softmax, two layers": ["gating=softmax", "gating.hidden_sizes=[12,9]", "gating.temperature=2"],
    "softmax, linear, no floor": ["gating=softmax", "gating.hidden_sizes=[]", "gating.floor=0"],
    **{name: [f"gating={name}"] for name in ("annealed", "entmax", "top_k", "gru", "sticky", "rule", "uniform")},
}


def steady(gating, weight=0.7):
    """Let every loss count from the start; the minimum importance binds."""
    changed = {}
    for name, loss in gating.losses.items():
        changes = {"weight": weight, "ramp_start": 0.0, "ramp_end": 0.0, "final_weight": None}
        changed[name] = dataclasses.replace(loss, **changes, **({"share": 1.0} if hasattr(loss, "share") else {}))
    return dataclasses.replace(gating, losses=changed)


def both_ways(agent, batch):
    """Return gradients and terms by compiled code, then in plain PyTorch."""
    model, fast = agent.model, agent.model.backend
    assert can_compile(model, model.gate_settings.losses.values())
    found = []
    for model.backend in (fast, Backend()):
        terms = agent.algorithm.differentiate(batch, 0.2)
        made = {name: gradient.clone() for name, gradient in gradients(model).items() if gradient is not None}
        found.append((made, {name: float(value) for name, value in terms.items()}))
    model.backend = fast
    return found


def assert_same(one, other):
    (gradient, terms), (expected, others) = one, other
    assert gradient.keys() == expected.keys()
    for name, value in expected.items():
        largest = max(float(value.abs().max()), 1e-3)
        torch.testing.assert_close(gradient[name], value, rtol=0, atol=2e-5 * largest, msg=name)
    assert terms.keys() == others.keys()
    assert terms == pytest.approx(others, rel=2e-5, abs=2e-6)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("losses", ["standard", "none", "[importance,load_balance]"])
def test_it_is_autograds_for_every_gate(gate, losses, make_agent):
    gating = steady(settings_of(*GATES[gate], f"gating/losses={losses}").gating)
    agent = make_agent(gating=gating, count=3)
    scatter(agent.model)
    batch = collect(agent)
    scatter(agent.model, seed=1, scale=0.05)  # some ratios are clipped
    one, other = both_ways(agent, batch)
    assert one[1]["clip_fraction"] > 0.01
    assert losses == "none" or gate == "uniform" or all(one[1][f"gate_loss/{name}"] for name in gating.losses)
    assert_same(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"activation": "relu"},
        {"net_arch": [9]},
        {"net_arch": [20, 7, 12]},
        {"normalize_advantage": False},
    ],
    ids=str,
)
def test_it_is_autograds_whatever_the_experts(changes, make_agent, settings):
    agent = make_agent(gating=steady(settings.gating), **changes)
    scatter(agent.model)
    batch = collect(agent)
    scatter(agent.model, seed=1, scale=0.05)
    assert_same(*both_ways(agent, batch))
    for n in (1, 2, 17):  # a ragged minibatch; SB3 does not normalise the advantage of a single state
        part = type(batch)(*(one if one is None else one[:n] for one in batch))
        assert_same(*both_ways(agent, part))


def test_it_is_autograds_on_whole_observations_of_any_environment(settings, small_experts):
    from stable_baselines3.common.env_util import make_vec_env

    env = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    agent = MoEAgent(env, small_experts(), steady(settings.gating), seed=0)
    scatter(agent.model)
    assert_same(*both_ways(agent, collect(agent)))


def test_experts_and_gates_that_are_all_but_certain_have_a_finite_gradient(make_agent, settings):
    agent = make_agent(gating=steady(dataclasses.replace(settings.gating, floor=0.0)))
    batch = collect(agent)
    scatter(agent.model, scale=30.0)
    algorithm = agent.algorithm
    terms = algorithm.differentiate(batch, 0.2)
    assert all(torch.isfinite(torch.as_tensor(value)) for name, value in terms.items() if name != "approx_kl")
    assert all(gradient.isfinite().all() for gradient in gradients(agent.model).values())


def test_what_is_no_number_is_not_hidden(make_agent):
    agent = make_agent()
    batch = collect(agent)
    with torch.no_grad():
        agent.model.experts[1].action_net.bias[0] = torch.nan
    assert all(torch.isnan(torch.as_tensor(agent.algorithm.differentiate(batch, 0.2)[name])) for name in ("loss",))
    assert agent.model.experts.weights.grad.isnan().any()


def test_what_only_autograd_can_do_is_left_to_it(make_agent, make_settings, pendulum, small_experts, settings):
    diverse = make_settings("gating/losses=[standard,diversity]").gating
    box = MoEAgent(pendulum(0), small_experts(n_steps=64), settings.gating, seed=0)
    assert not can_compile(make_agent(gating=diverse).model, diverse.losses.values())
    assert not can_compile(box.model, settings.gating.losses.values())
    assert not can_compile(make_agent().model.double(), settings.gating.losses.values())
    assert can_compile(make_agent().model, settings.gating.losses.values())


# --- what others derive from ours -------------------------------------------------------------------------------------


class Prototypes(GatingNetwork):
    """Three scores for each expert."""

    def __init__(self, n_features, n_experts):
        super().__init__()
        self.net, self.n_experts = torch.nn.Linear(n_features, 3 * n_experts), n_experts

    def logits(self, features):
        return self.net(features)

    def weights(self, logits):
        return torch.softmax(logits, -1).unflatten(-1, (self.n_experts, 3)).sum(-1)


class Clamped(SoftmaxNetwork):
    def logits(self, features):
        return super().logits(features).clamp(-0.2, 0.2)


class Squared(SoftmaxNetwork):
    def routed(self, logits):
        squares = super().routed(logits).square()
        return squares / squares.sum(-1, keepdim=True)


class HalfZ(RouterZ):
    def __call__(self, batch):
        return 0.5 * super().__call__(batch)


def relu_net(n_features, n_experts):
    made = SoftmaxNetwork(n_features, n_experts, [8], 1.0, 0.02)
    made.net[1] = torch.nn.ReLU()
    return made


DERIVED = {
    "more scores than experts": Prototypes,
    "other scores": lambda *sizes: Clamped(*sizes, [8], 1.0, 0.02),
    "other weights": lambda *sizes: Squared(*sizes, [8], 1.0, 0.02),
    "another activation": relu_net,
}


@pytest.mark.parametrize("made", DERIVED.values(), ids=DERIVED)
def test_a_gate_of_ones_own_is_trained_on_what_it_says(made, make_agent, settings, monkeypatch):
    monkeypatch.setattr(type(settings.gating), "network", lambda self, *sizes: made(*sizes))
    agent = make_agent(gating=steady(settings.gating))
    scatter(agent.model)
    batch = collect(agent)
    seen = agent.model.seen_by_gate(batch.observations)
    torch.testing.assert_close(torch.from_numpy(route(agent.model.gate, seen).weights).T, agent.model.gate(seen))
    assert_same(*both_ways(agent, batch))


def test_a_loss_that_changes_ours_is_left_to_autograd(make_agent, settings):
    steadily = {"weight": 1.0, "ramp_start": 0.0, "ramp_end": 0.0, "final_weight": None}
    losses = {"z": HalfZ(**steadily)}
    agent = make_agent(gating=dataclasses.replace(settings.gating, losses=losses))
    scatter(agent.model)
    batch = collect(agent)
    assert not can_compile(agent.model, losses.values())
    whole = dataclasses.replace(settings.gating, losses={"z": RouterZ(**steadily)})
    other = make_agent(gating=whole)
    scatter(other.model)
    terms = [float(one.algorithm.differentiate(batch, 0.2)["gate_loss/z"]) for one in (agent, other)]
    assert terms[0] == pytest.approx(0.5 * terms[1], rel=1e-5)


@pytest.mark.parametrize("gate", ["softmax", "sticky"])
def test_a_gate_that_is_held_stays_as_it_is(gate, make_agent):
    agent = make_agent(gating=settings_of(f"gating={gate}").gating)
    scatter(agent.model)
    agent.model.gate.requires_grad_(False)
    before = {name: value.clone() for name, value in agent.model.gate.state_dict().items()}
    assert not agent.learn(256).gate_learns
    assert all(torch.equal(value, before[name]) for name, value in agent.model.gate.state_dict().items())
