"""A2C on the mixture: with one expert it is SB3's A2C, every parameter learns, and a run is as any other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from composed import settings_of
from stable_baselines3 import A2C

from moe_trader.agent import MoEAgent


@pytest.fixture(scope="module")
def experts():
    """``experts(count=2, ...)``: the real settings of A2C made small."""
    made = settings_of("expert=a2c").expert

    def change(**changes):
        small = {"count": 3, "net_arch": [16, 16], "n_steps": 16}
        return dataclasses.replace(made, **(small | changes))

    return change


def states(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize(
    "changes", [{}, {"normalize_advantage": True, "ent_coef": 0.05, "activation": "relu"}], ids=str
)
@pytest.mark.parametrize("market", ["trading", "pendulum"])
def test_one_expert_trains_as_plain_a2c(market, changes, kernels, prepared, settings, experts, pendulum):
    make_env = (lambda: pendulum(5)) if market == "pendulum" else (lambda: prepared.training_env(4, 5))
    # At SB3's default rate: RMSprop divides by the root of a mean square that begins at zero.
    expert = experts(count=1, learning_rate=7e-4, final_learning_rate=7e-4, **changes)
    ours = MoEAgent(make_env(), expert, settings.gating, seed=5, kernels=kernels)
    theirs = A2C(
        "MlpPolicy",
        make_env(),
        learning_rate=7e-4,
        policy_kwargs=expert.architecture(),
        seed=5,
        device="cpu",
        **expert.hyperparameters(),
    )
    beginning = states(theirs.policy)
    assert largest_difference(states(ours.model.experts[0]), beginning) == 0.0
    steps = 3 * expert.n_steps * theirs.n_envs
    for one in (ours, theirs):
        torch.manual_seed(7)
        one.learn(steps)
    assert ours.algorithm._n_updates == theirs._n_updates == 3
    assert largest_difference(beginning, states(theirs.policy)) > 1e-3
    assert largest_difference(states(ours.model.experts[0]), states(theirs.policy)) <= 1e-6


def test_one_update_moves_every_parameter_of_gate_and_experts(experts, settings, prepared):
    agent = MoEAgent(prepared.training_env(4, 0), experts(), settings.gating, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():  # the gate's last layer begins at zero, and lets no gradient below it
        for parameter in agent.model.gate.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = states(agent.model)
    agent.learn(64)
    assert agent.algorithm._n_updates == 1
    assert [name for name, one in states(agent.model).items() if torch.equal(one, before[name])] == []


@pytest.mark.parametrize("losses", ["standard", "[switching,sinkhorn,diversity]"])
def test_the_gates_losses_take_part(losses, experts, prepared_for):
    gating = settings_of(f"gating/losses={losses}").gating
    agent = MoEAgent(prepared_for(gating).training_env(4, 0), experts(), gating, seed=0).learn(128)
    recorded = agent.algorithm.logger.name_to_value
    assert all(np.isfinite(recorded[f"gate_loss/{name}"]) for name in gating.losses)
    assert recorded["gradient_norm/gate"] > 0


def test_an_exported_expert_is_sb3s_a2c(experts, settings, prepared, tmp_path):
    agent = MoEAgent(prepared.training_env(4, 0), experts(), settings.gating, seed=0).learn(128)
    agent.save(tmp_path / "agent")
    observations = prepared.training_env(4, 1).reset()
    loaded = MoEAgent.load(tmp_path / "agent")
    np.testing.assert_array_equal(loaded.expert_actions(observations), agent.expert_actions(observations))
    seen = agent.model.seen_by_experts(torch.from_numpy(observations)).numpy()
    for k, file in enumerate(sorted((tmp_path / "agent" / "experts").iterdir())):
        alone = A2C.load(file, device="cpu").predict(seen, deterministic=True)[0]
        np.testing.assert_array_equal(alone, agent.expert_actions(observations)[:, k])


def test_a_small_rollout_is_named_by_its_settings(experts, settings):
    lines = experts().warnings(settings.gating, gate_learns=True, n_envs=4)
    assert any(
        line.startswith("expert.n_steps x trainer.n_envs (64) is small for gating.losses.inform") for line in lines
    )
