"""Experts as one stack and one by one: the same numbers where both can be, and which of them an agent takes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from moe_trader.agent import MoEAgent
from moe_trader.expert.ppo import PPOExperts
from moe_trader.mixture.actor_critics import ModuleBank
from moe_trader.mixture.clipping import clip_gradients
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.stacked import StackedBank, bank_of

SEEN = spaces.Box(-1, 1, (5,), np.float32)
ACTIONS = {"discrete": spaces.Discrete(3), "box": spaces.Box(-1, 1, (2,), np.float32)}


def expert(seen=SEEN, actions=ACTIONS["discrete"], net_arch=(8, 6), activation=torch.nn.Tanh):
    arch = dict(net_arch) if isinstance(net_arch, dict) else list(net_arch)
    return ActorCriticPolicy(seen, actions, lambda _: 0.0, net_arch=arch, activation_fn=activation)


def frozen(policy):
    return policy.requires_grad_(False)


# --- both hold the same experts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.ReLU])
@pytest.mark.parametrize("net_arch", [(8,), (8, 6, 7)], ids=str)
@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_a_stack_is_its_experts_one_by_one(actions, net_arch, activation):
    torch.manual_seed(0)
    members = [expert(actions=actions, net_arch=net_arch, activation=activation) for _ in range(3)]
    banks = [ModuleBank(copy.deepcopy(members)), StackedBank(members)]
    observations, draws, found = torch.randn(11, 5), [], []
    for bank in banks:
        outputs = [one for one in bank(observations) if one is not None]
        draws = draws or [torch.randn_like(one) for one in outputs]
        torch.autograd.backward(outputs, [one.clone() for one in draws])  # a gradient may be a view of them
        gradients = {name: gradient.clone() for name, gradient in bank.gradients()}
        norms = clip_gradients([{**group} for group in bank.parameter_groups()], max_norm=0.1)
        found.append((outputs, gradients, norms, {name: gradient.clone() for name, gradient in bank.gradients()}))
    to_rounding = {"rtol": 1e-5, "atol": 2e-6}
    (outputs, gradients, norms, clipped), (others, other_gradients, other_norms, other_clipped) = found
    torch.testing.assert_close(outputs, others, **to_rounding)
    assert gradients.keys() == other_gradients.keys() == dict(banks[0].named_parameters()).keys()
    torch.testing.assert_close(gradients, other_gradients, **to_rounding)
    assert norms.shape == (3,)
    torch.testing.assert_close(norms, other_norms, **to_rounding)
    torch.testing.assert_close(clipped, other_clipped, **to_rounding)
    assert sum(one.square().sum() for one in clipped.values()).sqrt() == pytest.approx(0.1, rel=1e-4)


def test_experts_of_different_widths_answer_each_for_itself():
    members = [expert(net_arch=[4]), expert(net_arch=[9, 7])]
    observations = torch.randn(6, 5)
    outputs = bank_of(members)(observations)
    assert outputs.log_std is None
    for k, one in enumerate(members):
        torch.testing.assert_close(outputs.values[:, k], one.predict_values(observations)[:, 0])
        scores = torch.log_softmax(outputs.scores[:, k], dim=-1)
        torch.testing.assert_close(scores, one.get_distribution(observations).distribution.logits)


@pytest.mark.parametrize("bank", [ModuleBank, StackedBank])
def test_observations_of_another_width_are_refused(bank):
    made = bank([expert(), expert()])
    for wrong in (torch.zeros(3, 4), torch.zeros(3, 6), torch.zeros(5)):
        with pytest.raises(ValueError, match=r"^experts: expected shape \(n, 5\), got \("):
            made(wrong)


# --- which of the two -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (lambda: [expert(), expert()], StackedBank),
        (lambda: [expert()], StackedBank),
        (lambda: [expert(actions=ACTIONS["box"])] * 2, StackedBank),
        (lambda: [expert(net_arch=[8, 6]), expert(net_arch=[8, 7])], ModuleBank),
        (lambda: [expert(net_arch=[8]), expert(net_arch=[8, 8])], ModuleBank),
        (lambda: [expert(), expert(activation=torch.nn.ReLU)], ModuleBank),
        (lambda: [expert(net_arch={"pi": [8], "vf": [4]})] * 2, ModuleBank),
        (lambda: [expert(net_arch=[])] * 2, ModuleBank),
        (lambda: [expert(), frozen(expert())], StackedBank),
        (lambda: [frozen(expert()), frozen(expert())], StackedBank),
    ],
    ids=[
        "the same shape",
        "a single expert",
        "Box actions",
        "another width",
        "another depth",
        "another activation",
        "actor and critic of different shapes",
        "no hidden layer",
        "one frozen",
        "all frozen",
    ],
)
def test_experts_are_stacked_where_they_have_one_shape(members, kind):
    assert type(bank_of(members())) is kind


class OddExperts(PPOExperts):
    """The settings of PPO experts; the second one has layers of its own, and the last one may be frozen."""

    freeze = False

    def model(self, gate, layout, observation_space, action_space):
        def experts(seen):
            widths = [self.net_arch, [9], *[self.net_arch] * (self.count - 2)]
            members = [expert(seen, action_space, width) for width in widths]
            return bank_of([*members[:-1], frozen(members[-1])] if self.freeze else members)

        return MixtureModel(gate, experts, layout, observation_space, action_space)


class HalfFrozen(OddExperts):
    freeze = True


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("family", [OddExperts, HalfFrozen])
@pytest.mark.parametrize("market", ["trading", "pendulum"])
def test_an_update_trains_experts_of_different_widths(
    market, family, kernels, small_experts, prepared, settings, pendulum
):
    env = prepared.training_env(4, 0) if market == "trading" else pendulum(0)
    made = family(**vars(small_experts(count=2, n_steps=128 // env.num_envs)))
    agent = MoEAgent(env, made, settings.gating, seed=0, kernels=kernels)
    assert type(agent.model.experts) is ModuleBank
    before = {name: one.clone() for name, one in agent.model.state_dict().items()}
    agent.learn(256)
    after = agent.model.state_dict()
    still = {name for name, one in before.items() if one.is_floating_point() and torch.equal(one, after[name])}
    assert still == ({name for name in before if name.startswith("experts.1.")} if family.freeze else set())
    norms = [agent.algorithm.logger.name_to_value[f"gradient_norm/expert_{k}"] for k in (1, 2)]
    assert norms[0] > 0
    assert (norms[1] == 0) == family.freeze


# --- what is done to experts after they were stacked ------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 2])
def test_weights_loaded_into_any_expert_count(k, make_agent):
    """SB3's load_from_vector gives every parameter memory of its own."""
    agent, observations = make_agent(), np.random.default_rng(0)
    observations = torch.from_numpy(observations.normal(size=(20, agent.model.n_columns)).astype(np.float32))
    one = agent.model.experts[k]
    one.load_from_vector(np.random.default_rng(k).normal(size=len(one.parameters_to_vector())))
    found = agent.model.evaluate(observations).mixture.expert_log_probs[:, k]
    seen = agent.model.seen_by_experts(observations)
    torch.testing.assert_close(found, one.get_distribution(seen).distribution.logits, rtol=1e-4, atol=1e-4)
