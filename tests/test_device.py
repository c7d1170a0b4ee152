"""Nothing of an update or a rollout is left on another device, as far as that can be shown without one.

PyTorch's meta device computes no numbers, but most of its steps refuse a tensor of the CPU, as a GPU's do.
"""

from __future__ import annotations

import pytest
import torch
from composed import settings_of

from moe_trader.mixture.output import MixtureOutput

ALL_LOSSES = "gating/losses=[standard,diversity,switching,sinkhorn,importance,load_balance]"
GATES = ["softmax", "annealed", "entmax", "sparsemax", "top_k", "sticky", "gru", "rule", "uniform", "random"]


def on_meta(agent):
    """Return the algorithm with everything of its policy on the meta device, and a minibatch of a rollout there."""
    algorithm = agent.algorithm
    _, callback = algorithm._setup_learn(10**6, None)
    assert algorithm.collect_rollouts(algorithm.env, callback, algorithm.rollout_buffer, algorithm.n_steps)
    batch = next(algorithm.rollout_buffer.get(32))
    algorithm.policy.to("meta")
    algorithm.device = torch.device("meta")
    return algorithm, type(batch)(*(part.to("meta") for part in batch))


@pytest.fixture
def moved(make_agent, monkeypatch):
    """``moved("softmax", ...)``: an agent under this gate with all losses, on the meta device."""

    monkeypatch.setattr(MixtureOutput, "checked", lambda output: output)  # no numbers that could be finite

    def make(gate, *overrides, env=None):
        gating = settings_of(f"gating={gate}", *overrides).gating
        return on_meta(make_agent(gating=gating, env=env))

    return make


def gradients(algorithm):
    return [p.grad for p in (algorithm.model.experts.weights, *algorithm.model.gate.parameters())]


@pytest.mark.parametrize("gate", GATES)
def test_an_update_stays_where_the_policy_is(gate, moved):
    algorithm, batch = moved(gate, ALL_LOSSES)
    whole = batch._replace(observations=algorithm.policy.whole_observations(batch.observations))
    terms = algorithm.differentiate(whole, 0.2)
    assert {one.device.type for one in (*terms.values(), *gradients(algorithm))} == {"meta"}


@pytest.mark.parametrize("gate", GATES)
def test_a_rollout_stays_where_the_policy_is(gate, moved):
    algorithm, batch = moved(gate)
    with torch.no_grad():
        for shown in (algorithm.policy(batch.observations), algorithm.policy.evaluate_actions(*batch[:2])):
            assert {one.device.type for one in shown} == {"meta"}
        assert algorithm.policy.predict_values(batch.observations).device.type == "meta"


def test_box_experts_stay_there_too(moved, pendulum):
    algorithm, batch = moved("softmax", env=pendulum())
    assert {one.device.type for one in algorithm.differentiate(batch, 0.2).values()} == {"meta"}
    with torch.no_grad():
        assert algorithm.policy(batch.observations)[0].device.type == "meta"
