"""Settings that work against each other are told before training, by their paths, and only where it is true."""

from __future__ import annotations

import logging

import pytest
from composed import settings_of

from moe_trader.gating.contradictions import contradictions


def found(*overrides):
    settings = settings_of(*overrides)
    gate, expert = settings.gating, settings.expert
    learns = expert.gate_lr_scale > 0 and any(True for _ in gate.network(5, expert.count).parameters())
    return contradictions(
        gate, n_experts=expert.count, gate_learns=learns, ent_coef=expert.ent_coef, batch_size=expert.batch_size
    )


@pytest.mark.parametrize("gate", ["softmax", "annealed", "entmax", "sparsemax", "top_k", "uniform", "random"])
def test_the_gates_as_they_come_contradict_nothing(gate):
    assert found(f"gating={gate}") == []


@pytest.mark.parametrize("losses", ["none", "standard", "balanced", "diverse", "transport", "[balanced,transport]"])
def test_the_presets_contradict_nothing(losses):
    assert found(f"gating/losses={losses}") == []


def test_one_expert_has_nothing_to_contradict():
    assert found("expert.count=1", "expert.ent_coef=1", "expert.batch_size=64") == []


def test_entropy_against_information():
    assert found("expert.ent_coef=0.05") == [
        "expert.ent_coef (0.05) and gating.losses.information.weight (0.05 at the end) pull against each other: "
        "entropy rewards soft gates and noisy experts, information sharp gates and experts that differ; "
        "keep expert.ent_coef well below it, as 0.005"
    ]
    assert found("expert.ent_coef=0.04") == []
    assert found("expert.ent_coef=0.05", "gating.losses.information.weight=0") == []
    assert found("expert.ent_coef=0.05", "gating/losses=balanced", "~gating.losses.information") == []


def test_a_minibatch_too_small_for_the_information_term():
    assert found("expert.batch_size=64") == [
        "expert.batch_size (64) is small for gating.losses.information, which balances the experts within every "
        "minibatch, and misleads where one misses a regime; set expert.batch_size=256 or more, or "
        "gating.losses.information.weight=0"
    ]
    assert found("expert.batch_size=256") == []
    assert found("expert.batch_size=64", "gating.losses.information.weight=0") == []


def test_two_losses_that_balance():
    lasting = "gating.losses.importance.final_weight=null"
    assert found("gating/losses=[standard,importance]", lasting) == [
        "gating.losses.importance and gating.losses.minimum_importance balance the use of experts more than once, "
        "to the very end: keep one of them, or let gating.losses.importance fade "
        "(gating.losses.importance.final_weight=0)"
    ]
    assert found("gating/losses=[router_z,importance]", lasting) == []
    (line,) = found("gating=top_k", "gating/losses=[router_z,importance]", lasting)
    assert line.startswith("gating.losses.importance and gating.balance_rate balance the use of experts more than")
    assert found("gating=top_k", "gating.balance_rate=0", "gating/losses=[router_z,load_balance]") == []


def test_a_minimum_that_the_floor_gives_anyway():
    assert found("gating.floor=0.6") == [
        "gating.losses.minimum_importance.share (0.6) is no more than gating.floor (0.6), which gives every expert "
        "that much anyway: the loss is always 0; raise gating.losses.minimum_importance.share, or lower gating.floor"
    ]
    assert found("gating.floor=0.49") == []


def test_top_k_without_balance_cannot_be_revived_by_a_loss():
    assert found("gating=top_k", "gating.balance_rate=0") == [
        "gating.losses.minimum_importance cannot revive an expert that is nowhere among the best gating.k = 2: no "
        "gradient reaches its score, and gating.balance_rate is 0; set gating.balance_rate=0.01"
    ]
    assert found("gating=top_k", "gating.balance_rate=0", "gating.k=4") == []


def test_top_k_indeed_sends_no_gradient_to_an_expert_it_never_chooses():
    import torch

    made = settings_of("gating=top_k").gating
    network = made.network(5, 4)
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 8, requires_grad=True)
    importance = network.weights(scores).mean(0)
    torch.relu(0.125 - importance).square().sum().backward()
    assert not scores.grad[:, 2:].any()


def test_more_disagreement_than_there_can_be():
    assert found("gating/losses=diverse", "gating.losses.diversity.delta=1.5") == [
        "gating.losses.diversity.delta (1.5 nats) is more than 4 experts (expert.count) can disagree, log 4 = 1.39: "
        "the loss never rests; lower gating.losses.diversity.delta"
    ]
    assert found("gating/losses=diverse", "gating.losses.diversity.delta=1.5", "expert.count=5") == []


def test_losses_of_a_gate_that_learns_nothing():
    tail = (
        " can do nothing: the gate (gating, {}) learns nothing, having no parameters or expert.gate_lr_scale=0; "
        "set gating/losses=none, or choose a gate that learns"
    )
    names = "gating.losses.router_z and gating.losses.minimum_importance"
    assert found("gating=uniform", "gating/losses=standard") == [names + tail.format("Uniform")]
    assert found("expert.gate_lr_scale=0") == [names + tail.format("Softmax")]
    assert found("gating=uniform", "gating/losses=[information,diversity]") == []  # these train the experts
    assert found("gating=random", "gating/losses=router_z") == ["gating.losses.router_z" + tail.format("Random")]
    assert found("gating=random", "gating/losses=router_z", "gating.losses.router_z.weight=0") == []


def test_training_begins_with_them(make_agent, caplog):
    with caplog.at_level(logging.WARNING, logger="moe_trader"):
        agent = make_agent(ent_coef=0.1, batch_size=64)
        assert not caplog.records
        agent.learn(128)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(" ")[0] for message in messages] == ["expert.ent_coef", "expert.batch_size"]
