"""What is compiled or handed to another library, against PyTorch's own: the same numbers, to rounding."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from moe_trader.expert import products as products_module
from moe_trader.expert.activation import Tanh
from moe_trader.expert.adam import ClippingAdam
from moe_trader.expert.mixture import CategoricalMixture
from moe_trader.expert.objective import CategoricalObjective, Coefficients, Objective, mixture_objective
from moe_trader.expert.products import LEAST, product, products

GIVEN = Coefficients(clip_range=0.2, entropy=0.01, value=0.5, expert_value_share=0.3)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


# --- Adam -------------------------------------------------------------------------------------------------------------


def grouped(parameters):
    """Return a stack of two owners in two blocks, 6 and 4 numbers, and a gate of two parameters."""
    stack, *gate = parameters
    groups = [{"params": [stack], "owners": 2, "blocks": [6, 4]}, {"params": gate, "owners": 1}]
    return ClippingAdam(groups, lr=0.01, eps=1e-5, fused=True)


def fresh(dtype=torch.float32):
    return [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in [(10,), (2, 3), (3,)]]


def give(parameters, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.to(parameter.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "PyTorch's"])
@pytest.mark.parametrize("max_norm", [0.5, 1e3], ids=["clipped", "not clipped"])
def test_a_clipped_step_is_clipping_and_adam(dtype, max_norm):
    ours = fresh(dtype)
    theirs = copy.deepcopy(ours)
    optimizer, adam = grouped(ours), torch.optim.Adam(theirs, lr=0.01, eps=1e-5)
    for number in range(5):
        gradients = [torch.randn(p.shape) * (10.0 if number % 2 else 0.01) for p in ours]
        trained = 2 if number == 3 else 3  # what took no part in the loss stays as it is
        for parameters in (ours, theirs):
            parameters[2].grad = None
            give(parameters[:trained], gradients[:trained])
        norms = optimizer.clipped_step(max_norm)
        torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        adam.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    first, second = gradients[0][[0, 1, 2, 6, 7]].norm(), gradients[0][[3, 4, 5, 8, 9]].norm()
    gate = torch.cat([gradient.flatten() for gradient in gradients[1:]]).norm()
    expected = torch.stack([first, second, gate]).to(norms.dtype)
    torch.testing.assert_close(norms, expected, rtol=1e-5, atol=1e-7)


def test_its_state_is_adams_and_can_be_loaded():
    ours = fresh()
    optimizer = grouped(ours)
    gradients = [torch.randn(p.shape) for p in ours]
    give(ours, gradients)
    optimizer.clipped_step(1.0)
    other = copy.deepcopy(ours)
    resumed = grouped(other)
    give(other, gradients)
    resumed.clipped_step(1.0)  # a step of its own, which loading has to undo
    for mine, theirs in zip(ours, other, strict=True):
        theirs.data.copy_(mine.data)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, parameters in ((optimizer, ours), (resumed, other)):
        give(parameters, gradients)
        one.clipped_step(1.0)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours, other, strict=True))
    state = optimizer.state_dict()["state"][0]
    assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert state["step"] == 2


def test_a_gradient_that_is_no_number_is_seen():
    parameters = fresh()
    optimizer = grouped(parameters)
    give(parameters, [torch.full(p.shape, torch.nan) for p in parameters])
    assert optimizer.clipped_step(1.0).isnan().all()
    assert all(p.isnan().all() for p in parameters)


# --- products and activations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, LEAST // 64 // 32])
def test_a_product_is_the_product_whatever_multiplies(n):
    a, b = torch.randn(64, 32), torch.randn(n, 32)
    for left, right in ((a, b), (a.T.contiguous().T, b), (a, b.T.contiguous().T)):
        torch.testing.assert_close(product(left, right).double(), a.double() @ b.double().T, rtol=0, atol=2e-5)
    many, others = torch.randn(3, 64, 32), torch.randn(3, n, 32)
    expected = torch.einsum("pai,pbi->pab", many.double(), others.double())
    given = torch.empty(3, 64, n)
    assert products(many, others, out=given) is given
    for found in (given, products(many, others)):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)


def test_views_with_gaps_are_closed_before_onednn_sees_them(monkeypatch):
    """It multiplies them right, and takes a hundred times as long."""
    seen = []

    def recording(a, b, *rest):
        seen.extend(matrix.stride() for matrix in (a, b))
        return a @ b.T

    monkeypatch.setattr(products_module, "_ONEDNN", recording)
    a, b = torch.randn(600, 80)[:, :70], torch.randn(70, 600).T
    torch.testing.assert_close(product(a, b), a.contiguous() @ b.T.contiguous())
    assert seen == [(70, 1), (1, 600)]


def test_the_compiled_tanh_is_tanh():
    x = torch.linspace(-20, 20, 40_001).view(1, -1)
    x[0, 0], x[0, 1], x[0, 2] = torch.nan, torch.inf, -torch.inf
    bias = torch.tensor([0.25])
    found = x.clone()
    Tanh().forward(found, bias)
    torch.testing.assert_close(found.double(), torch.tanh(x.double() + 0.25), rtol=0, atol=4e-7, equal_nan=True)


# --- the loss ---------------------------------------------------------------------------------------------------------


def minibatch(n=40, n_experts=4, n_actions=3, dtype=torch.float32):
    def draw(*shape):
        return torch.randn(*shape, dtype=dtype)

    batch = SimpleNamespace(actions=torch.randint(n_actions, (n,)), old_log_prob=draw(n) - 1, returns=draw(n))
    return batch, draw(n), (draw(n, n_experts), draw(n, n_experts, n_actions), draw(n, n_experts))


@pytest.mark.parametrize("n_experts", [1, 4])
def test_the_compiled_loss_is_pytorchs(n_experts):
    batch, advantages, given = minibatch(n_experts=n_experts)
    found = []
    for compiled in (True, False):
        free, scores, values = (one.clone().requires_grad_() for one in given)
        mixture = CategoricalMixture(torch.softmax(free, -1), scores)
        if compiled:
            loss, doubt, stated = mixture_objective(mixture, values, batch, advantages, GIVEN)
        else:
            told = (mixture.log_prob(batch.actions), mixture.entropy(), values, mixture.weights.detach())
            weighed = mixture.responsibilities(batch.actions)
            loss, stated = Objective.apply(*told, weighed, advantages, batch.old_log_prob, batch.returns, GIVEN)
            doubt = mixture.posterior_entropy(batch.actions)
        (loss + 3 * doubt.mean()).backward()
        found.append((loss, doubt, stated, free.grad, scores.grad, values.grad))
    assert 0 < stated[-1] < 1  # some ratios are clipped
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_compiled_losss_gradient_is_right():
    batch, advantages, (free, scores, values) = minibatch(n=12, dtype=torch.float64)
    told = (batch.actions, advantages, batch.old_log_prob, batch.returns)

    def of_the_policy(free, scores):  # which the value does not train, by design
        weights = torch.softmax(free, -1)
        return CategoricalObjective.apply(weights, scores, values, *told, GIVEN._replace(value=0.0))[:2]

    def of_the_value(values):
        return CategoricalObjective.apply(torch.softmax(free.detach(), -1), scores.detach(), values, *told, GIVEN)[0]

    assert torch.autograd.gradcheck(of_the_policy, (free.requires_grad_(), scores.requires_grad_()))
    assert torch.autograd.gradcheck(of_the_value, (values.clone().requires_grad_(),))
