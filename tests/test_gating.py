"""Gates and their losses against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from moe_trader.expert.mixture import CategoricalMixture
from moe_trader.gating import GateBatch, entropy
from moe_trader.gating.losses import Information, MinimumImportance, RouterZ
from moe_trader.gating.softmax import Softmax


def softmax_gate(n_features=5, n_experts=4, *, hidden_sizes=(8,), temperature=1.0, floor=0.02, trained=True):
    torch.manual_seed(3)
    settings = Softmax(hidden_sizes=list(hidden_sizes), temperature=temperature, floor=floor, losses={})
    network = settings.network(n_features, n_experts)
    if trained:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=2.0)
    return network


def gate_batch(weights, logits=None, posterior_entropy=None):
    weights = torch.as_tensor(weights, dtype=torch.float64)
    return GateBatch(
        logits=torch.log(weights) if logits is None else torch.as_tensor(logits, dtype=torch.float64),
        weights=weights,
        posterior_entropy=entropy(weights) if posterior_entropy is None else posterior_entropy,
    )


@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 6)])
@pytest.mark.parametrize("n_experts", [1, 3, 4])
def test_a_fresh_gate_gives_every_expert_the_same_weight(hidden_sizes, n_experts):
    gate = softmax_gate(n_experts=n_experts, hidden_sizes=hidden_sizes, trained=False)
    weights = gate(torch.randn(50, 5))
    assert weights.shape == (50, n_experts)
    torch.testing.assert_close(weights, torch.full((50, n_experts), 1 / n_experts), rtol=0, atol=1e-7)


@pytest.mark.parametrize("floor", [0.0, 0.02, 0.5])
def test_weights_sum_to_one_and_stay_above_the_floor(floor):
    gate = softmax_gate(floor=floor)
    weights = gate(100 * torch.randn(400, 5)).detach()
    torch.testing.assert_close(weights.sum(-1), torch.ones(400))
    assert weights.min() >= floor / 4 - 1e-8
    assert weights.max() <= 1 - floor * 3 / 4 + 1e-6
    # the bounds are reached: these features drive the gate to certainty
    assert weights.min() == pytest.approx(floor / 4, abs=1e-5)
    assert weights.max() == pytest.approx(1 - floor * 3 / 4, abs=1e-5)


def test_weights_follow_the_formula():
    gate = softmax_gate(temperature=2.0, floor=0.1)
    features = torch.randn(20, 5)
    logits = gate.logits(features).detach().numpy().astype(np.float64)
    raised = np.exp(logits / 2.0)
    expected = 0.9 * raised / raised.sum(-1, keepdims=True) + 0.1 / 4
    np.testing.assert_allclose(gate(features).detach().numpy(), expected, rtol=1e-5)


def test_a_higher_temperature_is_softer():
    features = torch.randn(100, 5)
    entropies = [entropy(softmax_gate(temperature=t)(features)).mean().item() for t in (0.25, 1.0, 4.0)]
    assert entropies[0] < entropies[1] < entropies[2]


def test_weights_of_a_row_do_not_depend_on_other_rows():
    gate = softmax_gate()
    features = torch.randn(64, 5)
    together = gate(features)
    alone = torch.cat([gate(row.unsqueeze(0)) for row in features])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-7)
    changed = features.clone()
    changed[1:] = 100.0
    torch.testing.assert_close(gate(changed)[0], together[0], rtol=1e-5, atol=1e-7)
    # nor do gradients leak: row 0 hears of its own features alone
    features.requires_grad_()
    gate(features)[0, 0].backward()
    assert features.grad[0].abs().sum() > 0
    assert features.grad[1:].abs().sum() == 0


def test_entropy_of_known_distributions():
    rows = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(entropy(rows), torch.tensor([math.log(4), 0.0, math.log(2)]))


def test_router_z_is_zero_at_the_start_and_the_mean_square_after():
    loss = RouterZ(weight=0.1)
    assert loss(gate_batch(np.full((6, 4), 0.25), logits=np.zeros((6, 4)))).item() == pytest.approx(0, abs=1e-12)
    logits = np.array([[1.0, -2.0, 0.5], [3.0, 3.0, 3.0]])
    expected = np.mean((np.log(np.exp(logits).sum(-1)) - np.log(3)) ** 2)
    assert expected == pytest.approx((np.log(np.exp([1.0, -2.0, 0.5]).sum() / 3) ** 2 + 9.0) / 2)
    assert loss(gate_batch(np.full((2, 3), 1 / 3), logits=logits)).item() == pytest.approx(expected, rel=1e-6)


def test_minimum_importance_costs_nothing_when_every_expert_has_its_share():
    loss = MinimumImportance(weight=0.1, share=0.5)
    assert loss(gate_batch([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])).item() == 0.0


def test_minimum_importance_by_hand_when_one_is_below():
    # K = 2, share 0.5: least importance 0.25; expert 2 has 0.1, so ((0.25 - 0.1) / 0.25)^2 = 0.36
    loss = MinimumImportance(weight=0.1, share=0.5)
    weights = torch.tensor([[0.95, 0.05], [0.85, 0.15]], dtype=torch.float64, requires_grad=True)
    value = loss(GateBatch(torch.log(weights), weights, entropy(weights)))
    assert value.item() == pytest.approx(0.36)
    value.backward()  # d/dg = -2 (0.25 - 0.1) / 0.25^2 / 2 rows = -2.4 for the starving expert, nothing for the other
    torch.testing.assert_close(weights.grad, torch.tensor([[0.0, -2.4], [0.0, -2.4]], dtype=torch.float64))


def test_minimum_importance_looks_at_the_mean_and_not_at_single_rows():
    sharp = gate_batch([[1.0, 0.0], [0.0, 1.0]])
    assert MinimumImportance(weight=0.1, share=1.0)(sharp).item() == pytest.approx(0.0)


def test_minimum_importance_with_no_share_is_off():
    value = MinimumImportance(weight=0.1, share=0.0)(gate_batch([[1.0, 0.0]]))
    assert value.item() == 0.0


def test_constant_losses_keep_their_weight():
    for loss in (RouterZ(weight=0.3), MinimumImportance(weight=0.3, share=0.5)):
        assert [loss.weight_at(progress) for progress in (0.0, 0.4, 1.0)] == [0.3, 0.3, 0.3]


def test_information_is_ramped_in():
    loss = Information(weight=2.0, ramp_start=0.1, ramp_end=0.3)
    progress = [0.0, 0.1, 0.15, 0.2, 0.3, 0.7, 1.0]
    assert [loss.weight_at(p) for p in progress] == pytest.approx([0.0, 0.0, 0.5, 1.0, 2.0, 2.0, 2.0])


def test_information_without_a_ramp_switches_on():
    loss = Information(weight=2.0, ramp_start=0.5, ramp_end=0.5)
    assert [loss.weight_at(p) for p in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 2.0, 2.0]
    assert Information(weight=2.0, ramp_start=0.0, ramp_end=0.0).weight_at(0.0) == 2.0


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
    mixture = CategoricalMixture(torch.from_numpy(gate), torch.from_numpy(np.log(policy)))
    batch = gate_batch(gate, posterior_entropy=mixture.posterior_entropy(torch.zeros(n_states)))
    assert information > 0.1
    loss = Information(weight=1.0, ramp_start=0.0, ramp_end=0.0)
    assert loss(batch).item() == pytest.approx(-information, rel=1e-9)


def test_information_rewards_a_sharp_balanced_gate_and_experts_that_act_differently():
    loss = Information(weight=1.0, ramp_start=0.0, ramp_end=0.0)

    def value(gate, policy):
        mixture = CategoricalMixture(torch.tensor(gate), torch.log(torch.tensor(policy)))
        return loss(
            gate_batch(gate, posterior_entropy=mixture.posterior_entropy(torch.zeros(len(gate))).double())
        ).item()

    alike = [[[0.5, 0.5], [0.5, 0.5]]] * 2
    apart = [[[1.0 - 1e-9, 1e-9], [1e-9, 1.0 - 1e-9]]] * 2
    uniform, sharp, collapsed = [[0.5, 0.5]] * 2, [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    assert value(uniform, alike) == pytest.approx(0.0, abs=1e-6)
    assert value(uniform, apart) == pytest.approx(-math.log(2), abs=1e-5)
    assert value(sharp, alike) == pytest.approx(-math.log(2), abs=1e-5)
    assert value(collapsed, apart) == pytest.approx(0.0, abs=1e-6)


def test_a_gate_without_a_floor_that_is_certain_still_has_finite_gradients():
    """Single precision rounds the weight of a hopeless expert to zero, and its logarithm to minus infinity."""
    gate = softmax_gate(n_experts=2, hidden_sizes=(), floor=0.0, trained=False)
    with torch.no_grad():
        gate.net[-1].bias.copy_(torch.tensor([0.0, 150.0]))
    logits = gate.logits(torch.zeros(3, 5))
    weights = gate.weights(logits)
    assert weights[0].tolist() == [0.0, 1.0]
    mixture = CategoricalMixture(weights, torch.zeros(3, 2, 4, requires_grad=True))
    actions = torch.tensor([0, 1, 2])
    for value in (mixture.log_prob(actions), mixture.entropy(), mixture.posterior_entropy(actions)):
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert gradient.isfinite().all()
