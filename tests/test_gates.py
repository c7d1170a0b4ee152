"""What every gate of conf/gating must keep, and each one's own formula."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import settings_of

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.gating.entmax import entmax15, sparsemax
from moe_trader.gating.rule import assignment
from moe_trader.gating.sticky import _Filter
from moe_trader.option import ConfigError

GATES = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "gating").glob("*.yaml"))
FIXED = {"uniform", "random", "rule", "oracle"}
BY_REGIME = {"rule", "oracle"}


def gate(name, **changes):
    return dataclasses.replace(settings_of(f"gating={name}").gating, **changes)


def features_for(name, n, scale=3.0):
    """What a gate may read: bars of five features, or which of five regimes it is; of the first row none is known."""
    if name in BY_REGIME:
        regimes = torch.nn.functional.one_hot(torch.randint(5, (n,)), 5).float()
        regimes[0] = 0.0
        return regimes
    return scale * torch.randn(n, 5 * gate(name).reads().rows)


def network(name, n_features=5, n_experts=4, std=1.5, **changes):
    torch.manual_seed(1)
    made = gate(name, **changes).network(n_features, n_experts)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=std)
    return made


def whole_batch(agent):
    algorithm = agent.algorithm
    _, callback = algorithm._setup_learn(10**6, None)
    assert algorithm.collect_rollouts(algorithm.env, callback, algorithm.rollout_buffer, algorithm.n_steps)
    return next(algorithm.rollout_buffer.get(None))


def test_every_gate_is_tested():
    assert {"softmax", "annealed", "entmax", "sparsemax", "top_k", "sticky", "gru"} <= set(GATES)
    assert set(GATES) >= FIXED


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("n_experts", [1, 2, 4])
def test_rows_are_weights_and_do_not_see_each_other(name, n_experts):
    made = network(name, n_experts=n_experts)
    features = features_for(name, 64)
    weights = made(features)
    assert weights.shape == (64, n_experts)
    torch.testing.assert_close(weights.sum(-1), torch.ones(64))
    assert (weights >= 0).all()
    torch.testing.assert_close(torch.cat([made(row[None]) for row in features]), weights, rtol=1e-4, atol=1e-6)
    assert torch.equal(made(features), weights)  # nothing is drawn


@pytest.mark.parametrize("name", GATES)
def test_the_ratio_is_one_before_the_first_update_of_every_rollout(name, make_agent):
    agent = make_agent(count=4, gating=gate(name))
    for _ in range(3):
        batch = whole_batch(agent)
        _, log_prob, _ = agent.algorithm.policy.evaluate_actions(batch.observations, batch.actions)
        assert (log_prob - batch.old_log_prob).abs().max() <= 1e-6
        agent.algorithm.train()
        agent.algorithm._current_progress_remaining -= 0.3


@pytest.mark.parametrize("name", GATES)
def test_gate_and_experts_are_all_trained(name, make_agent):
    agent = make_agent(count=4, gating=gate(name))
    before = {name: value.clone() for name, value in agent.model.state_dict().items()}
    agent.learn(512)
    after = agent.model.state_dict()
    unmoved = {key for key in before if before[key].is_floating_point() and torch.equal(before[key], after[key])}
    assert unmoved == ({"gate.projection"} if name in FIXED else set())
    assert len([key for key in before if key.startswith("gate.")]) > 0
    norm = agent.algorithm.logger.name_to_value["gradient_norm/gate"]
    assert (norm == 0) == (name in FIXED)


@pytest.mark.parametrize("name", GATES)
def test_a_saved_gate_is_the_same_gate(name, make_agent, tmp_path):
    agent = make_agent(count=3, gating=gate(name)).learn(256)
    size = agent.model.observation_space.shape[0]
    observations = np.random.default_rng(0).normal(size=(50, size)).astype(np.float32)
    agent.save(tmp_path / "agent")
    loaded = MoEAgent.load(tmp_path / "agent")
    assert loaded.gating == agent.gating
    np.testing.assert_array_equal(loaded.gate_weights(observations), agent.gate_weights(observations))


@pytest.mark.parametrize("name", sorted(set(GATES) - FIXED))
def test_no_expert_falls_below_the_floor(name):
    weights = network(name, floor=0.1, std=30.0)(features_for(name, 500, scale=100.0))
    assert weights.min().item() == pytest.approx(0.1 / 4, abs=1e-6)
    assert weights.max().item() <= 0.9 + 0.1 / 4 + 1e-6


def reads_rows(name, other):
    """Whether a gate's weights hear of each of its bars, by changing one at a time."""
    made = network(name, std=0.5)
    features = features_for(name, 8, scale=1.0).unflatten(-1, (-1, 5))
    before = made(features.flatten(1))
    heard = []
    for row in range(features.shape[1]):
        changed = features.clone()
        changed[:, row] = other
        heard.append(not torch.equal(made(changed.flatten(1)), before))
    return heard


@pytest.mark.parametrize("name", ["sticky", "gru"])
def test_a_gate_with_a_memory_hears_of_the_bars_before(name):
    heard = reads_rows(name, other=2.0)
    assert len(heard) == gate(name).rows > 1
    assert all(heard[-5:])


@pytest.mark.parametrize("name", ["sticky", "gru"])
def test_a_fresh_gate_with_a_memory_gives_every_expert_the_same_weight(name):
    weights = gate(name).network(5, 4)(features_for(name, 20))
    torch.testing.assert_close(weights, torch.full((20, 4), 0.25), rtol=0, atol=1e-6)


# --- annealed ---------------------------------------------------------------------------------------------------------


def test_the_temperature_falls_geometrically_between_rollouts_alone(make_agent):
    made = network("annealed", initial_temperature=4.0, final_temperature=0.25)
    found = []
    for progress in (0.0, 0.5, 1.0):
        made.adapt(progress, None)
        found.append(made.temperature.item())
    assert found == pytest.approx([4.0, 1.0, 0.25])
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    expected = 0.98 * math.exp(4) / (math.exp(4) + 3) + 0.02 / 4
    assert made.weights(logits)[0, 0].item() == pytest.approx(expected, rel=1e-5)
    agent = make_agent(gating=gate("annealed", initial_temperature=4.0, final_temperature=0.25))
    agent.learn(4 * 128)
    assert agent.model.gate.temperature.item() == pytest.approx(4 ** (1 - 2 * 0.75))  # before the last rollout


# --- entmax -----------------------------------------------------------------------------------------------------------


def test_sparsemax_by_hand():
    logits = torch.tensor([[0.5, 0.2, -1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.65, 0.35, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(sparsemax(logits), expected)


def test_entmax_solves_its_own_equation():
    """p = max(z / 2 - tau, 0)^2 for one tau a row: so sqrt(p) - z / 2 is the same number on the support."""
    logits = 3 * torch.randn(200, 6, dtype=torch.float64)
    p = entmax15(logits)
    torch.testing.assert_close(p.sum(-1), torch.ones(200, dtype=torch.float64))
    assert (p == 0).any(-1).float().mean() > 0.5
    for row, z in zip(p, logits, strict=True):
        minus_tau = (row.sqrt() - z / 2)[row > 0]
        assert minus_tau.max() - minus_tau.min() < 1e-9
        assert ((z / 2 + minus_tau[0])[row == 0] <= 1e-9).all()


@pytest.mark.parametrize("transform", [sparsemax, entmax15])
def test_the_gradient_of_sparse_weights_is_right(transform):
    logits = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform, logits, eps=1e-7, atol=1e-5)


def test_entmax_lies_between_softmax_and_sparsemax():
    logits = 2 * torch.randn(300, 5)
    zeros = [
        (weights == 0).float().mean().item() for weights in (logits.softmax(-1), entmax15(logits), sparsemax(logits))
    ]
    assert zeros[0] == 0
    assert 0 < zeros[1] < zeros[2]


# --- top-k ------------------------------------------------------------------------------------------------------------


def test_top_k_listens_to_k_experts():
    made = network("top_k", std=0.3, k=2, floor=0.04)
    features = torch.randn(200, 5)
    weights = made(features)
    assert ((weights > 0.011).sum(-1) == 2).all()
    logits = made.logits(features)
    best = logits.topk(2, dim=-1)
    chosen = weights.gather(-1, best.indices)
    torch.testing.assert_close(chosen, 0.96 * best.values.softmax(-1) + 0.01)


def test_the_bias_chooses_but_does_not_weigh():
    made = network("top_k", k=2, floor=0.0)
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0]])
    made.bias[3] = 5.0
    weights = made.weights(logits)[0]
    torch.testing.assert_close(weights, torch.tensor([math.e**2, 0, 0, 1.0]) / (math.e**2 + 1))


def test_the_bias_raises_who_is_chosen_too_rarely():
    made = network("top_k", k=2, floor=0.02, balance_rate=0.5)
    weights = 0.98 * torch.tensor([[0.6, 0.4, 0.0, 0.0], [0.7, 0.0, 0.3, 0.0]]) + 0.005
    made.adapt(0.5, weights)
    # chosen in 1, 1/2, 1/2 and 0 of the states; k / K is 1/2
    torch.testing.assert_close(made.bias, torch.tensor([-0.5, 0.0, 0.0, 0.5]))
    made.adapt(0.0, None)
    torch.testing.assert_close(made.bias, torch.tensor([-0.5, 0.0, 0.0, 0.5]))


def test_a_lopsided_choice_is_balanced_by_training(make_agent):
    agent = make_agent(count=4, gating=gate("top_k", balance_rate=0.3, losses={}), learning_rate=1e-5)
    with torch.no_grad():
        agent.model.gate.net[-1].bias += torch.tensor([3.0, 2.0, 0.0, 0.0])  # 1 and 2 are chosen everywhere
    agent.learn(20 * 128)
    bias = agent.model.gate.bias
    assert bias[2:].min() > bias[:2].max() + 1.0
    assert bias.abs().max() < 6.0  # it stops once all are chosen: 20 steps of 0.3 would reach it


def test_more_experts_at_a_time_than_there_are_is_refused(make_agent):
    with pytest.raises(ConfigError, match=r"^gating\.k: 4 experts at a time, but expert\.count is 3; lower gating\.k$"):
        make_agent(count=3, gating=gate("top_k", k=4))


def test_an_alpha_between_is_refused():
    with pytest.raises(ConfigError, match=r"gating.*alpha: expected 1\.5 or 2 \(sparsemax\), got 1\.7"):
        run_settings(compose(["gating=entmax", "gating.alpha=1.7"]))


def test_one_expert_at_a_time_is_refused():
    with pytest.raises(ConfigError, match=r"gating\.k"):
        run_settings(compose(["gating=top_k", "gating.k=1"]))


# --- sticky -----------------------------------------------------------------------------------------------------------


def hmm_filter(scores, rho):
    """Rabiner's forward algorithm, normalised each bar: scores (T, K) -> P(state | bars up to T)."""
    n = scores.shape[1]
    others = rho * (np.ones((n, n)) - np.eye(n)) / max(n - 1, 1)
    transition = (1 - rho) * np.eye(n) + others
    alpha = np.full(n, 1 / n)
    for score in scores:
        alpha = np.exp(score) * (transition.T @ alpha)
        alpha /= alpha.sum()
    return alpha


@pytest.mark.parametrize(("n_experts", "dwell"), [(2, 50.0), (4, 5.0), (5, 1.1)])
def test_sticky_is_the_filter_of_a_hidden_markov_model(n_experts, dwell):
    made = gate("sticky", rows=30, dwell=dwell, floor=0.1).network(5, n_experts).double()
    assert torch.sigmoid(made.leaving).item() == pytest.approx(1 / dwell)
    with torch.no_grad():
        made.net[-1].weight.normal_(std=2.0)
    features = torch.randn(7, 30 * 5, dtype=torch.float64)
    weights = made(features).detach().numpy()
    for row, seen in zip(weights, features, strict=True):
        scores = made.net(seen.view(30, 5)).detach().numpy()
        rho = torch.sigmoid(made.leaving).item()
        np.testing.assert_allclose(row, 0.9 * hmm_filter(scores, rho) + 0.1 / n_experts, rtol=1e-9)


@pytest.mark.parametrize("n_experts", [1, 2, 4])
def test_the_filters_gradient_by_hand_is_right(n_experts):
    scores = torch.randn(6, n_experts, 5, dtype=torch.float64, requires_grad=True)
    rho = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(_Filter.apply, (scores, rho))


def test_one_odd_bar_does_not_move_a_sticky_gate_as_it_moves_softmax():
    made = gate("sticky", rows=20, dwell=50.0, hidden_sizes=[], floor=0.0).network(2, 2)
    with torch.no_grad():
        made.net[-1].weight.copy_(torch.eye(2))
    calm = torch.tensor([1.0, 0.0]).repeat(20, 1)
    odd = calm.clone()
    odd[-1] = torch.tensor([0.0, 2.0])
    before, after = (made(seen.flatten()[None])[0, 0].item() for seen in (calm, odd))
    assert before > 0.97
    assert after > 0.7  # softmax of (0, 2) alone: 0.12


def test_certain_scores_and_any_dwell_leave_the_gradient_finite():
    made = gate("sticky").network(5, 4)
    for leaving in (-100.0, 100.0):
        with torch.no_grad():
            made.leaving.fill_(leaving)
            made.net[-1].weight.normal_(std=1000.0)
        weights = made(features_for("sticky", 20))
        weights[:, 0].sum().backward()
        assert weights.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


# --- GRU --------------------------------------------------------------------------------------------------------------


def test_gru_goes_over_the_bars_from_the_oldest_to_the_newest():
    made = network("gru", std=0.7)
    cell = torch.nn.GRUCell(5, gate("gru").hidden_size)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in made.gru.state_dict().items()})
    features = features_for("gru", 9)
    state = torch.zeros(9, gate("gru").hidden_size)
    for bar in features.unflatten(-1, (-1, 5)).unbind(1):
        state = cell(bar, state)
    expected = 0.98 * torch.softmax(made.net(state), -1) + 0.02 / 4
    torch.testing.assert_close(made(features), expected, rtol=1e-4, atol=1e-6)


# --- regimes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BY_REGIME))
def test_a_regime_has_its_expert(name):
    made = gate(name, experts=[2, 1, 1, 4, 2], floor=0.04).network(5, 4)
    expected = torch.full((5, 4), 0.01)
    for regime, expert in enumerate([1, 0, 0, 3, 1]):
        expected[regime, expert] = 0.97
    torch.testing.assert_close(made(torch.eye(5)), expected)
    torch.testing.assert_close(made(torch.zeros(1, 5)), torch.full((1, 4), 0.25))  # not known yet


@pytest.mark.parametrize(
    ("n_regimes", "n_experts", "expected"),
    [(9, 4, [0, 0, 0, 1, 1, 2, 2, 3, 3]), (9, 3, [0, 0, 0, 1, 1, 1, 2, 2, 2]), (4, 4, [0, 1, 2, 3]), (3, 1, [0, 0, 0])],
)
def test_neighbouring_regimes_share_an_expert(n_regimes, n_experts, expected):
    assert assignment(None, n_regimes, n_experts) == expected


def test_regimes_and_experts_that_do_not_fit_are_refused():
    with pytest.raises(
        ConfigError,
        match=r"^gating\.experts: expected 3 numbers from 1 to 2, an expert for each regime, got \[1, 2\]; "
        r"gating\.experts=null divides",
    ):
        assignment([1, 2], 3, 2)
    with pytest.raises(ConfigError, match=r"numbers from 1 to 2, .*got \[1, 2, 3\]"):
        assignment([1, 2, 3], 3, 2)
    with pytest.raises(ConfigError, match=r"^expert\.count: 4 experts for 2 regimes .*use expert\.count=2$"):
        assignment(None, 2, 4)
    with pytest.raises(ConfigError, match=r"gating\.experts\.0: Input should be greater than 0, got 0"):
        run_settings(compose(["gating=rule", "gating.experts=[0, 1]"]))


# --- gates that learn nothing -----------------------------------------------------------------------------------------


def test_uniform_is_an_ensemble():
    torch.testing.assert_close(network("uniform")(torch.randn(9, 5)), torch.full((9, 4), 0.25))


def test_random_divides_the_market_among_all():
    made = network("random", sharpness=6.0)
    weights = made(torch.randn(4_000, 5))
    load = torch.bincount(weights.argmax(-1), minlength=4) / 4_000
    assert load.min() > 0.05
    assert weights.max(-1).values.mean() > 0.7
    softer = network("random", sharpness=0.1)(torch.randn(4_000, 5))
    assert softer.max(-1).values.mean() < 0.35
