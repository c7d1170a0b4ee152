"""The mixture's mathematics against numpy, closed forms, quadrature and Stable-Baselines3."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution

from moe_trader.mixture.categorical import CategoricalMixture
from moe_trader.mixture.gaussian import GaussianMixture
from moe_trader.mixture.metrics import mixture_metrics

BATCH, K, N_ACTIONS, DIM = 6, 4, 5, 3


def categorical(n_experts=K, scale=2.0, requires_grad=False):
    generator = torch.Generator().manual_seed(1)
    gate_logits = torch.randn(BATCH, n_experts, generator=generator, dtype=torch.float64)
    logits = scale * torch.randn(BATCH, n_experts, N_ACTIONS, generator=generator, dtype=torch.float64)
    gate_logits.requires_grad_(requires_grad)
    logits.requires_grad_(requires_grad)
    return gate_logits, logits, CategoricalMixture(torch.softmax(gate_logits, -1), logits)


def gaussian(n_experts=K, dim=DIM, requires_grad=False, batch=BATCH):
    generator = torch.Generator().manual_seed(2)
    gate_logits = torch.randn(batch, n_experts, generator=generator, dtype=torch.float64)
    means = 2 * torch.randn(batch, n_experts, dim, generator=generator, dtype=torch.float64)
    log_std = 0.5 * torch.randn(n_experts, dim, generator=generator, dtype=torch.float64)
    for tensor in (gate_logits, means, log_std):
        tensor.requires_grad_(requires_grad)
    return gate_logits, means, log_std, GaussianMixture(torch.softmax(gate_logits, -1), means, log_std)


def probabilities(mixture):
    """Return g, shape (batch, K), and p_k, shape (batch, K, n_actions), in numpy."""
    return mixture.weights.numpy(), np.exp(mixture.expert_log_probs.numpy())


def numpy_entropy(p):
    return -np.sum(p * np.log(p), axis=-1)


def every_action(mixture):
    return torch.stack([mixture.log_prob(torch.full((BATCH,), a)).exp() for a in range(N_ACTIONS)], dim=1)


def test_categorical_mixture_is_the_weighted_sum_of_its_experts():
    gate_logits, logits, mixture = categorical()
    g = np.exp(gate_logits.numpy()) / np.exp(gate_logits.numpy()).sum(-1, keepdims=True)
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    expected = np.einsum("bk,bka->ba", g, p)
    np.testing.assert_allclose(every_action(mixture).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(every_action(mixture).sum(-1).numpy(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(mixture.log_probs.exp().numpy(), expected, rtol=1e-12)


def test_categorical_expert_log_prob_belongs_to_each_expert():
    _, _, mixture = categorical()
    actions = torch.tensor([0, 4, 2, 3, 1, 0])
    _, p = probabilities(mixture)
    expected = np.log(p[np.arange(BATCH), :, actions.numpy()])
    np.testing.assert_allclose(mixture.expert_log_prob(actions).numpy(), expected, rtol=1e-12)


def test_categorical_entropy_and_the_jensen_shannon_identity():
    _, _, mixture = categorical()
    g, p = probabilities(mixture)
    m = np.einsum("bk,bka->ba", g, p)
    divergence = np.einsum("bk,bka->b", g, p * np.log(p / m[:, None]))  # sum_k g_k KL(p_k || m)
    assert divergence.min() > 0.05
    np.testing.assert_allclose(mixture.entropy().numpy(), numpy_entropy(m), rtol=1e-12)
    np.testing.assert_allclose(mixture.disagreement().numpy(), divergence, rtol=1e-10)
    np.testing.assert_allclose(numpy_entropy(m), (g * numpy_entropy(p)).sum(-1) + divergence, rtol=1e-10)


def test_experts_that_act_alike_do_not_disagree():
    logits = torch.randn(BATCH, 1, N_ACTIONS).expand(-1, K, -1)
    mixture = CategoricalMixture(torch.softmax(torch.randn(BATCH, K), -1), logits)
    torch.testing.assert_close(mixture.disagreement(), torch.zeros(BATCH), rtol=0, atol=1e-6)


def test_categorical_posterior_entropy_by_hand():
    # g = (1/2, 1/2), p_1 = (1, 0), p_2 = (1/2, 1/2): m = (3/4, 1/4), r(.|a_1) = (2/3, 1/3), r(.|a_2) = (0, 1)
    tiny = 1e-12
    p = torch.tensor([[[1 - tiny, tiny], [0.5, 0.5]]], dtype=torch.float64)
    mixture = CategoricalMixture(torch.tensor([[0.5, 0.5]], dtype=torch.float64), torch.log(p))
    by_hand = 0.75 * (2 / 3 * math.log(3 / 2) + 1 / 3 * math.log(3))
    for action in (0, 1):  # the action plays no part: it is summed out
        assert mixture.posterior_entropy(torch.tensor([action])).item() == pytest.approx(by_hand, abs=1e-9)


def test_posterior_entropy_is_the_gates_less_what_actions_tell():
    _, _, mixture = categorical()
    g, p = probabilities(mixture)
    m = np.einsum("bk,bka->ba", g, p)
    told = np.einsum("bk,bka->b", g, p * np.log(p / m[:, None]))  # I(K; A | s)
    actual = mixture.posterior_entropy(torch.zeros(BATCH)).numpy()
    np.testing.assert_allclose(actual, numpy_entropy(g) - told, rtol=1e-10)


def test_gaussian_posterior_entropy_is_that_of_the_responsibilities():
    _, _, _, mixture = gaussian()
    r = mixture.responsibilities(torch.zeros(BATCH, DIM, dtype=torch.float64)).numpy()
    actual = mixture.posterior_entropy(torch.zeros(BATCH, DIM, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(actual, -np.sum(r * np.log(r), -1), rtol=1e-9)


def test_gaussian_posterior_entropy_has_the_gradient_of_its_expectation():
    """Two experts at -1 and 1 in one dimension, against E_a H(r) integrated over a grid of actions."""
    scores = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64, requires_grad=True)

    def mixture(n):
        return GaussianMixture(scores.softmax(-1).expand(n, 2), means.expand(n, 2, 1), torch.zeros(2, 1).double())

    grid = torch.linspace(-9, 9, 4_001, dtype=torch.float64).unsqueeze(1)
    r = (mixture(4_001).log_weights + mixture(4_001).expert_log_prob(grid)).softmax(-1)
    integral = (mixture(4_001).log_prob(grid).exp() * -(r * r.log()).sum(-1)).sum() * 18 / 4_000
    expected = torch.autograd.grad(integral, [scores, means])
    n = 400_000
    drawn = mixture(n).posterior_entropy(mixture(n).sample(torch.Generator().manual_seed(0))).mean()
    assert drawn.item() == pytest.approx(integral.item(), abs=0.002)
    for found, right in zip(torch.autograd.grad(drawn, [scores, means]), expected, strict=True):
        assert right.abs().max() > 0.02
        torch.testing.assert_close(found, right, rtol=0, atol=0.004)


@pytest.mark.parametrize("make", [categorical, gaussian])
def test_responsibilities_are_bayes_rule(make):
    *_, mixture = make()
    actions = torch.tensor([0, 4, 2, 3, 1, 0]) if make is categorical else torch.ones(BATCH, DIM, dtype=torch.float64)
    r = mixture.responsibilities(actions)
    joint = mixture.weights * mixture.expert_log_prob(actions).exp()
    torch.testing.assert_close(r.sum(-1), torch.ones(BATCH, dtype=torch.float64))
    torch.testing.assert_close(r, joint / joint.sum(-1, keepdim=True))
    torch.testing.assert_close(mixture.log_prob(actions), joint.sum(-1).log())


@pytest.mark.parametrize("make", [categorical, gaussian])
def test_gradient_of_log_density_is_responsibility_weighted(make):
    *parameters, mixture = make(requires_grad=True)
    actions = torch.tensor([0, 4, 2, 3, 1, 0]) if make is categorical else torch.ones(BATCH, DIM, dtype=torch.float64)
    r = mixture.responsibilities(actions).detach()
    direct = torch.autograd.grad(mixture.log_prob(actions).sum(), parameters, retain_graph=True)
    surrogate = (r * (torch.log(mixture.weights) + mixture.expert_log_prob(actions))).sum()
    weighted = torch.autograd.grad(surrogate, parameters)
    for one, other in zip(direct, weighted, strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_permuting_experts_leaves_the_categorical_mixture_as_it_was():
    _, logits, mixture = categorical()
    order = torch.tensor([2, 0, 3, 1])
    permuted = CategoricalMixture(mixture.weights[:, order], logits[:, order])
    actions = torch.tensor([0, 4, 2, 3, 1, 0])
    torch.testing.assert_close(permuted.log_prob(actions), mixture.log_prob(actions))
    torch.testing.assert_close(permuted.entropy(), mixture.entropy())
    torch.testing.assert_close(permuted.disagreement(), mixture.disagreement())
    torch.testing.assert_close(permuted.posterior_entropy(actions), mixture.posterior_entropy(actions))
    assert torch.equal(permuted.mode(), mixture.mode())
    torch.testing.assert_close(permuted.responsibilities(actions), mixture.responsibilities(actions)[:, order])
    assert torch.equal(permuted.expert_modes(), mixture.expert_modes()[:, order])


def test_permuting_experts_leaves_the_gaussian_mixture_as_it_was():
    _, means, log_std, mixture = gaussian()
    order = torch.tensor([2, 0, 3, 1])
    permuted = GaussianMixture(mixture.weights[:, order], means[:, order], log_std[order])
    actions = torch.randn(BATCH, DIM, dtype=torch.float64)
    torch.testing.assert_close(permuted.log_prob(actions), mixture.log_prob(actions))
    torch.testing.assert_close(permuted.mode(), mixture.mode())
    torch.testing.assert_close(permuted.responsibilities(actions), mixture.responsibilities(actions)[:, order])


def test_categorical_modes():
    _, _, mixture = categorical()
    g, p = probabilities(mixture)
    m = np.einsum("bk,bka->ba", g, p)
    np.testing.assert_array_equal(mixture.mode().numpy(), m.argmax(-1))
    np.testing.assert_array_equal(mixture.expert_modes().numpy(), p.argmax(-1))
    assert (mixture.expert_modes() != mixture.mode().unsqueeze(1)).any()  # not a batch where all agree


def test_gaussian_mode_is_the_mean_of_highest_density_and_not_of_highest_weight():
    # expert 1 has the larger weight and a wide density, expert 2 is narrow: 0.6 / 10 < 0.4 / 0.1
    weights = torch.tensor([[0.6, 0.4]])
    mixture = GaussianMixture(weights, torch.tensor([[[-5.0], [5.0]]]), torch.log(torch.tensor([[10.0], [0.1]])))
    assert mixture.mode().tolist() == [[5.0]]
    assert mixture.expert_modes().tolist() == [[[-5.0], [5.0]]]


def test_categorical_samples_follow_the_mixture():
    torch.manual_seed(0)
    n = 40_000
    _, logits, mixture = categorical()
    many = CategoricalMixture(mixture.weights[:1].expand(n, -1), logits[:1].expand(n, -1, -1))
    share = torch.bincount(many.sample(), minlength=N_ACTIONS).double() / n
    expected = mixture.log_probs[0].exp()
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt()).all()


def quadrature(gate_logits, means, log_std, low=-14.0, high=14.0, n=8001):
    """Return points, their spacing and m at each, for a one-dimensional mixture, in torch so that it differentiates."""
    points = torch.linspace(low, high, n, dtype=torch.float64)
    std = log_std.exp().reshape(1, -1)
    z = (points.unsqueeze(1) - means.reshape(1, -1)) / std
    density = torch.exp(-0.5 * z**2) / (std * math.sqrt(2 * math.pi))
    return points, (high - low) / (n - 1), (torch.softmax(gate_logits.reshape(-1), -1) * density).sum(-1)


def one_state(n, requires_grad=False):
    """Return one state's one-dimensional mixture of three, the same in each of ``n`` rows."""
    gate_logits = torch.tensor([[0.3, -0.4, 0.9]], dtype=torch.float64, requires_grad=requires_grad)
    means = torch.tensor([[[-1.5], [0.2], [1.0]]], dtype=torch.float64, requires_grad=requires_grad)
    log_std = torch.tensor([[-0.3], [0.4], [-0.8]], dtype=torch.float64, requires_grad=requires_grad)
    weights = torch.softmax(gate_logits, -1).expand(n, -1)
    return (gate_logits, means, log_std), GaussianMixture(weights, means.expand(n, -1, -1), log_std)


def test_gaussian_density_integrates_to_one_and_is_the_weighted_sum():
    parameters, mixture = one_state(8001)
    points, step, expected = quadrature(*parameters)
    density = mixture.log_prob(points.unsqueeze(1)).exp()
    torch.testing.assert_close(density, expected)
    assert torch.trapezoid(density, dx=step).item() == pytest.approx(1.0, abs=1e-9)


def test_gaussian_samples_follow_the_mixture():
    torch.manual_seed(0)
    n = 40_000
    parameters, mixture = one_state(n)
    points, step, density = quadrature(*parameters)
    below = torch.cumsum(density, 0) * step
    draws = mixture.sample().squeeze(1)
    for at in (2500, 3600, 4000, 4300):
        share, expected = (draws <= points[at]).double().mean().item(), below[at].item()
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n) + 1e-3


def test_gaussian_entropy_estimate_is_unbiased():
    torch.manual_seed(0)
    n = 100_000
    parameters, mixture = one_state(n)
    _, step, m = quadrature(*parameters)
    entropy = -torch.trapezoid(torch.xlogy(m, m), dx=step).item()
    own = (
        (torch.softmax(parameters[0][0], -1) * (parameters[2][:, 0] + 0.5 * math.log(2 * math.pi * math.e)))
        .sum()
        .item()
    )
    for name, draws, expected in (
        ("entropy", mixture.entropy(), entropy),
        ("disagreement", mixture.disagreement(), entropy - own),
    ):
        error = draws.std().item() / math.sqrt(n)
        assert error < 0.01 * abs(expected), name
        assert abs(draws.mean().item() - expected) < 4 * error, name


def test_gaussian_entropy_gradient_is_unbiased():
    torch.manual_seed(0)
    parameters, _ = one_state(1, requires_grad=True)
    _, step, m = quadrature(*parameters)
    exact = torch.autograd.grad(-torch.trapezoid(torch.xlogy(m, m), dx=step), parameters)
    exact = torch.cat([gradient.flatten() for gradient in exact])
    estimates = []
    for _ in range(60):
        parameters, mixture = one_state(3000, requires_grad=True)
        gradients = torch.autograd.grad(mixture.entropy().mean(), parameters)
        estimates.append(torch.cat([gradient.flatten() for gradient in gradients]))
    estimates = torch.stack(estimates)
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert exact.abs().max() > 0.1
    assert (error < 0.01).all()
    assert ((estimates.mean(0) - exact).abs() < 4.5 * error + 1e-9).all(), (estimates.mean(0), exact, error)


def test_one_gaussian_expert_equals_the_closed_form_and_stable_baselines3():
    _, means, log_std, mixture = gaussian(n_experts=1)
    theirs = DiagGaussianDistribution(DIM).proba_distribution(means[:, 0], log_std[0])
    actions = torch.randn(BATCH, DIM, dtype=torch.float64)
    exact = dict(rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(mixture.log_prob(actions), theirs.log_prob(actions), **exact)
    torch.testing.assert_close(mixture.entropy(), theirs.entropy(), **exact)
    by_hand = (log_std[0] + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(BATCH)
    torch.testing.assert_close(mixture.entropy(), by_hand, **exact)
    assert torch.equal(mixture.mode(), theirs.mode())
    assert torch.equal(mixture.disagreement(), torch.zeros(BATCH, dtype=torch.float64))
    assert torch.equal(mixture.responsibilities(actions), torch.ones(BATCH, 1, dtype=torch.float64))


def test_one_gaussian_expert_draws_as_stable_baselines3_does():
    _, means, log_std, mixture = gaussian(n_experts=1)
    torch.manual_seed(5)
    mixture.entropy()  # needs no noise with one expert
    ours = mixture.sample()
    torch.manual_seed(5)
    theirs = DiagGaussianDistribution(DIM).proba_distribution(means[:, 0], log_std[0]).sample()
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


def test_one_categorical_expert_is_that_expert():
    _, logits, mixture = categorical(n_experts=1)
    theirs = torch.distributions.Categorical(logits=logits[:, 0])
    actions = torch.tensor([0, 4, 2, 3, 1, 0])
    torch.testing.assert_close(mixture.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(mixture.entropy(), theirs.entropy())
    assert torch.equal(mixture.posterior_entropy(actions), torch.zeros(BATCH, dtype=torch.float64))


def test_metrics_by_hand():
    # two states: (0.7, 0.2, 0.1) and (0.1, 0.8, 0.1); experts act alike
    weights = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    metrics = mixture_metrics(CategoricalMixture(weights, torch.zeros(2, 3, 4)), ["a", "b", "c"])
    importance = np.array([0.4, 0.5, 0.1])
    expected = {
        "importance/a": 0.4,
        "importance/b": 0.5,
        "importance/c": 0.1,
        "load/a": 0.5,
        "load/b": 0.5,
        "load/c": 0.0,
        "mixture/gate_entropy": numpy_entropy(weights.numpy()).mean(),
        "mixture/effective_experts": np.exp(numpy_entropy(importance)),
        "mixture/disagreement": 0.0,
    }
    assert metrics == pytest.approx(expected, abs=1e-6)


def test_metrics_of_a_gaussian_mixture_leave_the_generator_alone():
    _, _, _, mixture = gaussian()
    before = torch.get_rng_state()
    metrics = mixture_metrics(mixture, ["a", "b", "c", "d"])
    assert torch.equal(torch.get_rng_state(), before)
    assert metrics["mixture/disagreement"] > 0
