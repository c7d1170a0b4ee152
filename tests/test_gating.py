"""The softmax gate against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from moe_trader.gating import entropy
from moe_trader.gating.softmax import Softmax
from moe_trader.mixture.categorical import CategoricalMixture


def softmax_gate(n_features=5, n_experts=4, *, hidden_sizes=(8,), temperature=1.0, floor=0.02, trained=True):
    torch.manual_seed(3)
    settings = Softmax(hidden_sizes=list(hidden_sizes), temperature=temperature, floor=floor, losses={})
    network = settings.network(n_features, n_experts)
    if trained:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=2.0)
    return network


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
