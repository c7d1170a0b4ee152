"""The gate's losses against closed forms and finite differences, their schedule, and how they are composed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import settings_of

from moe_trader.gating import GateBatch, entropy
from moe_trader.gating.losses.diversity import Diversity
from moe_trader.gating.losses.importance import Importance
from moe_trader.gating.losses.information import Information
from moe_trader.gating.losses.load_balance import LoadBalance
from moe_trader.gating.losses.minimum_importance import MinimumImportance
from moe_trader.gating.losses.router_z import RouterZ
from moe_trader.gating.losses.sinkhorn import Sinkhorn, transport
from moe_trader.mixture.categorical import CategoricalMixture
from moe_trader.mixture.gaussian import GaussianMixture
from moe_trader.mixture.on_policy import expert_advantages
from moe_trader.option import ConfigError, build

LOSSES = sorted(
    path.stem
    for path in (Path(__file__).parents[1] / "conf" / "gating" / "losses").glob("*.yaml")
    if "_target_" in path.read_text()
)
STEADY = {"weight": 1.0, "ramp_start": 0.0, "ramp_end": 0.0, "final_weight": None}


def observed(logits, mixture, actions, advantages, before=None):
    posterior_entropy = mixture.posterior_entropy(actions)
    return GateBatch(
        logits, mixture, posterior_entropy, lambda: expert_advantages(mixture, actions, advantages), before
    )


def gate_batch(weights, logits=None, experts=None, actions=None, advantages=None):
    """A minibatch of experts that act alike, unless their action probabilities ``(batch, K, n_actions)`` are given."""
    weights = torch.as_tensor(weights, dtype=torch.float64)
    n, n_experts = weights.shape
    experts = torch.full((n, n_experts, 3), 1 / 3) if experts is None else experts
    return observed(
        logits=torch.log(weights) if logits is None else torch.as_tensor(logits, dtype=torch.float64),
        mixture=CategoricalMixture(weights, torch.log(torch.as_tensor(experts, dtype=torch.float64))),
        actions=torch.zeros(n, dtype=torch.long) if actions is None else torch.as_tensor(actions),
        advantages=torch.zeros(n, dtype=torch.float64) if advantages is None else torch.as_tensor(advantages).double(),
        before=weights.roll(1, dims=0),
    )


def of_config(name, **changes):
    (loss,) = settings_of(f"gating/losses={name}").gating.losses.values()
    return dataclasses.replace(loss, **changes)


# --- router z ---------------------------------------------------------------------------------------------------------


def test_router_z_is_zero_at_the_start_and_the_mean_square_after():
    loss = RouterZ(**STEADY)
    assert loss(gate_batch(np.full((6, 4), 0.25), logits=np.zeros((6, 4)))).item() == pytest.approx(0, abs=1e-12)
    logits = np.array([[1.0, -2.0, 0.5], [3.0, 3.0, 3.0]])
    expected = np.mean((np.log(np.exp(logits).sum(-1)) - np.log(3)) ** 2)
    assert expected == pytest.approx((np.log(np.exp([1.0, -2.0, 0.5]).sum() / 3) ** 2 + 9.0) / 2)
    assert loss(gate_batch(np.full((2, 3), 1 / 3), logits=logits)).item() == pytest.approx(expected, rel=1e-6)


# --- minimum importance -----------------------------------------------------------------------------------------------


def test_minimum_importance_costs_nothing_when_every_expert_has_its_share():
    loss = MinimumImportance(share=0.5, **STEADY)
    assert loss(gate_batch([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])).item() == 0.0


def test_minimum_importance_by_hand_when_one_is_below():
    # K = 2, share 0.5: least importance 0.25; expert 2 has 0.1, so ((0.25 - 0.1) / 0.25)^2 = 0.36
    weights = torch.tensor([[0.95, 0.05], [0.85, 0.15]], dtype=torch.float64, requires_grad=True)
    value = MinimumImportance(share=0.5, **STEADY)(gate_batch(weights))
    assert value.item() == pytest.approx(0.36)
    value.backward()  # d/dg = -2 (0.25 - 0.1) / 0.25^2 / 2 rows = -2.4 for the starving expert, nothing for the other
    torch.testing.assert_close(weights.grad, torch.tensor([[0.0, -2.4], [0.0, -2.4]], dtype=torch.float64))


def test_minimum_importance_looks_at_the_mean_and_not_at_single_rows():
    assert MinimumImportance(share=1.0, **STEADY)(gate_batch([[1.0, 0.0], [0.0, 1.0]])).item() == pytest.approx(0.0)


def test_minimum_importance_with_no_share_is_off():
    assert MinimumImportance(share=0.0, **STEADY)(gate_batch([[1.0, 0.0]])).item() == 0.0


# --- information ------------------------------------------------------------------------------------------------------


def test_information_is_minus_the_mutual_information_of_expert_with_state_and_action():
    rng = np.random.default_rng(0)
    n_states, n_experts, n_actions = 7, 3, 4
    gate = rng.dirichlet(np.ones(n_experts), n_states)  # g_k(s)
    policy = rng.dirichlet(np.ones(n_actions), (n_states, n_experts))  # p_k(a|s)
    joint = gate[:, :, None] * policy / n_states  # P(s, k, a), states equally likely
    of_expert = joint.sum((0, 2))
    of_state_action = joint.sum(1)
    independent = of_expert[None, :, None] * of_state_action[:, None, :]
    information = np.sum(joint * np.log(joint / independent))
    assert information > 0.1
    assert Information(**STEADY)(gate_batch(gate, experts=policy)).item() == pytest.approx(-information, rel=1e-9)


def test_information_rewards_a_sharp_balanced_gate_and_experts_that_act_differently():
    def value(gate, policy):
        return Information(**STEADY)(gate_batch(gate, experts=policy)).item()

    alike = [[[0.5, 0.5], [0.5, 0.5]]] * 2
    apart = [[[1.0 - 1e-9, 1e-9], [1e-9, 1.0 - 1e-9]]] * 2
    uniform, sharp, collapsed = [[0.5, 0.5]] * 2, [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    assert value(uniform, alike) == pytest.approx(0.0, abs=1e-6)
    assert value(uniform, apart) == pytest.approx(-math.log(2), abs=1e-5)
    assert value(sharp, alike) == pytest.approx(-math.log(2), abs=1e-5)
    assert value(collapsed, apart) == pytest.approx(0.0, abs=1e-6)


# --- importance and load balance --------------------------------------------------------------------------------------


def test_importance_is_the_squared_coefficient_of_variation():
    weights = np.random.default_rng(1).dirichlet(np.ones(4), 30)
    used = weights.sum(0)
    assert Importance(**STEADY)(gate_batch(weights)).item() == pytest.approx((used.std() / used.mean()) ** 2)


@pytest.mark.parametrize("loss", [Importance(**STEADY), LoadBalance(**STEADY)])
def test_balance_costs_from_nothing_to_one_less_than_the_experts(loss):
    assert loss(gate_batch(np.eye(4))).item() == pytest.approx(0)  # sharp gates are balanced too
    assert loss(gate_batch(np.full((8, 4), 0.25))).item() == pytest.approx(0)
    assert loss(gate_batch([[1.0, 0, 0, 0]] * 5)).item() == pytest.approx(3)


def test_load_balance_by_hand():
    # the first leads on 2 of 3 states; importances 0.5, 0.3, 0.2: 3 (2/3 0.5 + 1/3 0.3 + 0) - 1
    weights = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.4, 0.5, 0.1]], dtype=torch.float64, requires_grad=True)
    value = LoadBalance(**STEADY)(gate_batch(weights))
    assert value.item() == pytest.approx(3 * (2 / 3 * 0.5 + 1 / 3 * 0.3) - 1)
    value.backward()  # K f_k / 3 rows: through the importance alone
    expected = torch.tensor([2 / 3, 1 / 3, 0.0], dtype=torch.float64).expand(3, 3)
    torch.testing.assert_close(weights.grad, expected)


# --- diversity --------------------------------------------------------------------------------------------------------


def test_diversity_is_the_hinge_on_the_jensen_shannon_divergence():
    rng = np.random.default_rng(2)
    gate, policy = rng.dirichlet(np.ones(3), 6), rng.dirichlet(np.ones(4), (6, 3))
    mixed = np.einsum("bk,bka->ba", gate, policy)
    divergence = np.einsum("bk,bka->b", gate, policy * np.log(policy / mixed[:, None])).mean()
    batch = gate_batch(gate, experts=policy)
    assert Diversity(delta=0.9, **STEADY)(batch).item() == pytest.approx(0.9 - divergence)
    assert Diversity(delta=divergence / 2, **STEADY)(batch).item() == 0.0


def test_diversity_trains_the_experts_and_never_softens_the_gate():
    weights = torch.tensor([[0.9, 0.1]] * 4, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    batch = observed(torch.log(weights), CategoricalMixture(weights, logits), torch.zeros(4), torch.zeros(4))
    value = Diversity(delta=1.0, **STEADY)(batch)
    to_gate, to_experts = torch.autograd.grad(value, [weights, logits], allow_unused=True)
    assert to_gate is None
    moved = CategoricalMixture(weights, logits - 0.1 * to_experts / to_experts.norm())
    assert moved.disagreement().mean() > batch.choice.disagreement().mean()


def test_diversity_of_gaussians_parts_their_means():
    means = torch.tensor([[[0.5], [-0.5]]] * 2_000, requires_grad=True)
    weights = torch.full((2_000, 2), 0.5)
    mixture = GaussianMixture(weights, means, torch.zeros(2, 1))
    torch.manual_seed(0)
    Diversity(delta=0.5, **STEADY)(observed(weights, mixture, torch.zeros(2_000, 1), torch.zeros(2_000))).backward()
    assert means.grad[:, 0].sum() < 0 < means.grad[:, 1].sum()  # downhill is apart


# --- sinkhorn ---------------------------------------------------------------------------------------------------------


def test_a_transport_plan_assigns_every_state_in_full_and_every_expert_its_share():
    score = torch.randn(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    score[:, 0] += 5.0  # an expert that is best nearly everywhere gets no more than the others
    plan = transport(score, 100)
    torch.testing.assert_close(plan.sum(-1), torch.ones(60, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((4,), 15.0, dtype=torch.float64))
    # optimal: a state's constant and an expert's constant are all that separates log plan and score
    rest = torch.log(plan) - score
    torch.testing.assert_close(rest - rest[:, :1], (rest - rest[:, :1])[:1].expand_as(rest))


def test_a_transport_plan_survives_large_scores():
    score = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    torch.testing.assert_close(transport(score, 3), torch.eye(2))


def test_sinkhorn_scores_are_on_average_the_advantage_of_following_an_expert():
    """E over a ~ m of A p_k / m is sum_a p_k(a) A(a)."""
    rng = np.random.default_rng(3)
    gate, policy = rng.dirichlet(5 * np.ones(3), 1), rng.dirichlet(5 * np.ones(4), (1, 3))
    advantage = rng.normal(size=4)  # of each action
    mixed = np.einsum("bk,bka->a", gate, policy)
    every = gate_batch(
        np.repeat(gate, 4, 0), experts=np.repeat(policy, 4, 0), actions=np.arange(4), advantages=advantage
    )
    assert (policy[0] / mixed).max() < 3  # nothing is truncated
    scores = every.expert_advantages.numpy()
    np.testing.assert_allclose(mixed @ scores, policy[0] @ advantage / np.sqrt(np.mean(advantage**2)), rtol=1e-6)


def test_a_rare_expert_cannot_drown_the_others():
    batch = gate_batch(
        [[0.999, 0.001]] * 2, experts=[[[0.001, 0.999], [0.999, 0.001]]] * 2, actions=[0, 1], advantages=[1.0, -1.0]
    )
    scores = batch.expert_advantages
    assert scores[0, 1].item() == pytest.approx(2.0)  # K, where p_2 / m is 500


def test_sinkhorn_is_the_cross_entropy_to_the_plan_and_leaves_the_experts_alone():
    rng = np.random.default_rng(4)
    weights = torch.tensor(rng.dirichlet(np.ones(3), 8), requires_grad=True)
    logits = torch.tensor(rng.normal(size=(8, 3, 4)), requires_grad=True)
    mixture = CategoricalMixture(weights, logits)
    batch = observed(torch.log(weights), mixture, torch.arange(8) % 4, torch.tensor(rng.normal(size=8)))
    loss = Sinkhorn(epsilon=0.5, iterations=3, **STEADY)
    plan = transport(batch.expert_advantages / 0.5, 3)
    value = loss(batch)
    assert value.item() == pytest.approx(-(plan * torch.log(weights)).sum(-1).mean().item())
    to_gate, to_experts = torch.autograd.grad(value, [weights, logits], allow_unused=True)
    assert to_experts is None
    torch.testing.assert_close(to_gate, -plan / weights / 8)  # P itself is held


def test_sinkhorn_learns_which_expert_earns_where():
    """Two conditions, two experts, one action each that pays in one of them: the gate has to find who is who."""
    torch.manual_seed(0)
    n = 512
    condition = torch.arange(n) % 2
    policy = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).expand(n, 2, 2)
    gate = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)  # (condition, expert)
    optimiser = torch.optim.Adam([gate], lr=0.05)
    loss = Sinkhorn(epsilon=1.0, iterations=3, **STEADY)
    for _ in range(100):
        weights = torch.softmax(gate[condition], dim=-1)
        mixture = CategoricalMixture(weights, torch.log(policy))
        actions = mixture.sample()
        advantages = (actions == condition).double() - 0.5 + 0.5 * torch.randn(n)
        value = loss(observed(gate[condition], mixture, actions, advantages))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    weights = torch.softmax(gate, dim=-1)
    assert weights[0, 0] > 0.6
    assert weights[1, 1] > 0.6


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name):
    loss = of_config(name)
    if name == "sinkhorn":  # its target would move with the gate
        loss = dataclasses.replace(loss, epsilon=1e9)
    if name == "diversity":
        loss = dataclasses.replace(loss, delta=1.0)
    torch.manual_seed(5)
    scores = torch.randn(6, 3, dtype=torch.float64)
    scores[:, 2] -= 3.0  # below its minimum importance, and nowhere near leading
    experts = torch.randn(6, 3, 4, dtype=torch.float64)
    advantages = torch.randn(6, dtype=torch.float64)

    def value(scores, experts):
        weights = torch.softmax(scores, dim=-1)
        held = weights.detach() if name == "diversity" else weights
        mixture = CategoricalMixture(held, experts)
        return loss(observed(scores, mixture, torch.arange(6) % 4, advantages, held.roll(1, dims=0)))

    given = scores.requires_grad_(name != "diversity"), experts.requires_grad_(loss.trains_experts)
    assert value(*given).item() != 0
    assert torch.autograd.gradcheck(value, given, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_whether_it_trains_the_experts(name):
    loss = of_config(name, **({"delta": 1.0} if name == "diversity" else {}))
    experts = torch.randn(6, 3, 4, requires_grad=True)
    weights = torch.softmax(torch.randn(6, 3), dim=-1)
    mixture = CategoricalMixture(weights, experts)
    value = loss(observed(torch.log(weights), mixture, torch.arange(6) % 4, torch.ones(6), weights.roll(1, dims=0)))
    assert value.requires_grad == loss.trains_experts


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"diversity", "router_z", "information", "switching"}))
def test_every_balance_raises_the_weight_of_a_starving_expert(name):
    torch.manual_seed(0)
    scores = torch.tensor([[2.0, 2.0, -3.0]] * 60, requires_grad=True)
    weights = torch.softmax(scores, dim=-1)
    batch = observed(scores, CategoricalMixture(weights, torch.zeros(60, 3, 4)), torch.arange(60) % 4, torch.randn(60))
    of_config(name)(batch).backward()
    assert (scores.grad[:, 2] < 0).all()


def test_nothing_is_computed_that_no_loss_asks_for():
    class Silent:
        weights = torch.full((4, 2), 0.5)

    batch = GateBatch(torch.zeros(4, 2), Silent(), None, None)
    for name in ("router_z", "minimum_importance", "importance", "load_balance"):
        assert of_config(name)(batch).item() == pytest.approx(0, abs=1e-6)


# --- schedule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_the_same_schedule(name):
    loss = of_config(name, weight=2.0, ramp_start=0.1, ramp_end=0.3, final_weight=1.0)
    progress = [0.0, 0.1, 0.15, 0.2, 0.3, 0.65, 1.0]
    assert [loss.weight_at(p) for p in progress] == pytest.approx([0.0, 0.0, 0.5, 1.0, 2.0, 1.5, 1.0])


def test_without_a_final_weight_it_stays():
    loss = Information(weight=2.0, ramp_start=0.1, ramp_end=0.3, final_weight=None)
    assert [loss.weight_at(p) for p in (0.0, 0.2, 0.3, 0.7, 1.0)] == pytest.approx([0.0, 1.0, 2.0, 2.0, 2.0])
    assert [RouterZ(**STEADY | {"weight": 0.3}).weight_at(p) for p in (0.0, 0.4, 1.0)] == [0.3, 0.3, 0.3]


def test_without_a_ramp_it_switches_on():
    loss = Information(weight=2.0, ramp_start=0.5, ramp_end=0.5, final_weight=None)
    assert [loss.weight_at(p) for p in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 2.0, 2.0]


def test_a_final_weight_that_is_never_reached_is_refused():
    node = {"_target_": "moe_trader.gating.losses.router_z.RouterZ", **STEADY, "ramp_end": 1.0, "final_weight": 0.5}
    with pytest.raises(
        ConfigError, match=r"^loss: final_weight: 0\.5 is never reached, as ramp_end is 1; lower ramp_end$"
    ):
        build(node, "loss")
    assert build(node | {"final_weight": None}, "loss").weight_at(0.5) == 0.5


def test_each_loss_and_its_weight_are_logged(make_agent, settings):
    everything = {name: of_config(name, weight=0.1, final_weight=0.0, ramp_end=0.5) for name in LOSSES}
    agent = make_agent(gating=dataclasses.replace(settings.gating, losses=everything)).learn(4 * 128)
    logged = agent.algorithm.logger.name_to_value
    for name in LOSSES:
        assert math.isfinite(logged[f"gate_loss/{name}"])
        # an update sees the progress at the end of its rollout: after the last one, the end
        assert logged[f"gate_loss_weight/{name}"] == pytest.approx(everything[name].weight_at(1.0))


def test_every_loss_works_on_continuous_actions(make_agent, settings, pendulum):
    names = set(LOSSES) - {"switching"}  # which needs an environment that shows two bars
    everything = {name: of_config(name, ramp_start=0.0, ramp_end=0.0) for name in names}
    agent = make_agent(env=pendulum(), gating=dataclasses.replace(settings.gating, losses=everything)).learn(128)
    assert all(math.isfinite(agent.algorithm.logger.name_to_value[f"gate_loss/{name}"]) for name in names)


# --- composition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("none", []),
        ("standard", ["router_z", "minimum_importance", "information"]),
        ("balanced", ["router_z", "minimum_importance", "information", "importance"]),
        ("diverse", ["router_z", "minimum_importance", "information", "diversity"]),
        ("transport", ["router_z", "minimum_importance", "information", "sinkhorn"]),
        ("importance", ["importance"]),
        ("[router_z,minimum_importance,load_balance]", ["router_z", "minimum_importance", "load_balance"]),
        ("[balanced,diversity]", ["router_z", "minimum_importance", "information", "importance", "diversity"]),
    ],
)
def test_losses_are_chosen_by_name(chosen, names):
    for gate in ("softmax", "sparsemax", "uniform"):
        assert list(settings_of(f"gating={gate}", f"gating/losses={chosen}").gating.losses) == names


def test_losses_are_added_changed_and_taken_out():
    losses = settings_of(
        "gating/losses=[standard,importance]",
        "gating.losses.importance.weight=0.3",
        "gating.losses.importance.final_weight=null",
        "~gating.losses.router_z",
    ).gating.losses
    assert list(losses) == ["minimum_importance", "information", "importance"]
    assert losses["importance"].weight_at(1.0) == 0.3


def test_the_numbers_of_the_default_are_what_they_were(settings):
    losses = settings.gating.losses
    found = {name: [loss.weight_at(p) for p in (0.0, 0.1, 0.2, 0.3, 1.0)] for name, loss in losses.items()}
    assert list(found) == ["router_z", "minimum_importance", "information"]
    assert found["router_z"] == [0.001] * 5
    assert found["minimum_importance"] == [0.3] * 5
    assert found["information"] == pytest.approx([0.0, 0.0, 0.025, 0.05, 0.05])
    assert losses["minimum_importance"].share == 0.6


def test_entropy_and_weights_of_a_batch_are_those_of_its_mixture():
    batch = gate_batch([[0.7, 0.3], [0.5, 0.5]])
    torch.testing.assert_close(
        batch.posterior_entropy, entropy(batch.weights)
    )  # experts alike: an action tells nothing
