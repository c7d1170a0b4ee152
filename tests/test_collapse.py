"""Dead experts, one expert for all, and experts that are all alike: told once, with the cause and what to try."""

from __future__ import annotations

import dataclasses
import logging
import math

import pytest
import torch
from composed import settings_of

from moe_trader.gating import GateBatch
from moe_trader.option import describe
from moe_trader.trainer.collapse import ALIKE_AFTER, COLLAPSED_AFTER, DEAD_BELOW, CollapseWatch

NAMES = ["a", "b", "c", "d"]
EVEN = [0.25] * 4


def watch(*overrides, names=NAMES):
    return CollapseWatch(names, describe(settings_of(*overrides).gating))


def metrics(importance, gate_entropy=0.5, disagreement=0.1, names=NAMES):
    return {
        **{f"importance/{name}": value for name, value in zip(names, importance, strict=True)},
        "mixture/gate_entropy": gate_entropy,
        "mixture/disagreement": disagreement,
    }


def told(watch, *updates, progress=0.2):
    return [line for update in updates for line in watch.look(update, progress)]


# --- dead -------------------------------------------------------------------------------------------------------------


def test_a_dead_expert_is_told_once_with_the_way_out():
    assert (DEAD_BELOW, COLLAPSED_AFTER) == (0.02, 5)
    dead = metrics([0.4, 0.3, 0.281, 0.019])
    assert told(watch(), metrics(EVEN), *[dead] * 12) == [
        "d is dead: its importance was below 0.02 for 5 updates; try a higher gating.losses.minimum_importance.weight "
        "(now 0.3), a higher gating.floor (now 0.02) or fewer experts (expert.count)"
    ]


def test_an_expert_is_dead_at_the_fifth_starved_update_and_not_before():
    dead = metrics([0.4, 0.3, 0.29, 0.01])
    assert told(watch(), *[dead] * 4) == []
    assert len(told(watch(), *[dead] * 5)) == 1
    assert told(watch(), *[dead] * 4, metrics(EVEN), *[dead] * 4) == []
    assert told(watch(), *[metrics([0.4, 0.3, 0.28, 0.02])] * 12) == []


def test_many_experts_with_equal_shares_are_not_dead():
    names = [f"expert_{k}" for k in range(64)]
    assert told(watch(names=names), *[metrics([1 / 64] * 64, names=names)] * 9) == []


@pytest.mark.parametrize(
    ("overrides", "causes", "remedies"),
    [
        (
            ["gating.floor=0", "gating.losses.minimum_importance.weight=0"],
            "gating.losses.minimum_importance.weight is 0 and gating.floor is 0",
            "gating.losses.minimum_importance.weight=0.1, gating.floor=0.02",
        ),
        (
            ["gating/losses=none"],
            "no loss keeps experts alive",
            "gating/losses=standard, a higher gating.floor (now 0.02)",
        ),
        (
            ["gating=top_k", "gating.balance_rate=0"],
            "gating.balance_rate is 0",
            "gating.balance_rate=0.01, a higher gating.losses.minimum_importance.weight (now 0.3), "
            "a higher gating.floor (now 0.02)",
        ),
        (
            ["gating=entmax"],
            "no gradient reaches a score whose weight is zero",
            "gating=softmax, a higher gating.losses.minimum_importance.weight (now 0.3), "
            "a higher gating.floor (now 0.02)",
        ),
    ],
)
def test_what_lets_experts_die_is_named(overrides, causes, remedies):
    (line,) = told(watch(*overrides), *[metrics([0.4, 0.3, 0.3, 0.0])] * 5)
    assert line == (
        f"d is dead: its importance was below 0.02 for 5 updates ({causes}); try {remedies} or fewer experts "
        "(expert.count)"
    )


def test_entmax_indeed_sends_no_gradient_to_a_score_whose_weight_is_zero():
    network = settings_of("gating=entmax").gating.network(5, 4)
    scores = torch.tensor([[5.0, 4.0, 0.0, 0.0]] * 8, requires_grad=True)
    torch.relu(0.125 - network.weights(scores).mean(0)).square().sum().backward()
    assert not scores.grad[:, 2:].any()


def test_the_bias_of_top_k_revives():
    (line,) = told(watch("gating=top_k"), *[metrics([0.4, 0.3, 0.3, 0.0])] * 5)
    assert "updates; try a higher gating.balance_rate (now 0.01), a higher " in line


def test_another_loss_that_balances_keeps_experts_alive_too():
    (line,) = told(watch("gating/losses=importance"), *[metrics([0.4, 0.3, 0.3, 0.0])] * 5)
    assert "try a higher gating.losses.importance.weight (now 0.05), " in line


# --- alone ------------------------------------------------------------------------------------------------------------


def test_one_expert_for_all_is_told_instead_of_three_dead_ones():
    assert told(watch(), *[metrics([0.985, 0.005, 0.005, 0.005])] * 12) == [
        "the gate has collapsed: a had nearly all the weight for 5 updates, and the others learn nothing; try a higher "
        "gating.losses.minimum_importance.weight (now 0.3), a higher gating.floor (now 0.02), 'gating/losses=balanced' "
        "or a slower gate (expert.gate_lr_scale=0.3)"
    ]


def test_a_floor_does_not_hide_the_collapse():
    at_the_floor = metrics([0.7 + 0.075, 0.075, 0.075, 0.075])
    (line,) = told(watch("gating.floor=0.3"), *[at_the_floor] * 5)
    assert line.startswith("the gate has collapsed: a had nearly all the weight")
    assert told(watch("gating.floor=0.02"), *[at_the_floor] * 9) == []


def test_the_cause_of_a_collapse_is_named():
    collapsed = metrics([1.0, 0.0, 0.0, 0.0])
    (line,) = told(watch("gating.floor=0", "gating/losses=none"), *[collapsed] * 5)
    assert (
        "(no loss keeps experts alive and gating.floor is 0); try gating/losses=standard, gating.floor=0.02, " in line
    )


def test_after_a_collapse_those_that_stay_dead_are_told():
    collapsed, recovering = metrics([0.98, 0.01, 0.005, 0.005]), metrics([0.7, 0.29, 0.005, 0.005])
    lines = told(watch(), *[collapsed] * 6, recovering)
    assert [line.split(" ")[0] for line in lines] == ["the", "c", "d"]


# --- alike ------------------------------------------------------------------------------------------------------------

ALIKE = metrics(EVEN, gate_entropy=math.log(4), disagreement=0.001)


def alike(*overrides, before=ALIKE_AFTER, progress=0.6, update=ALIKE):
    made = watch(*overrides)
    assert told(made, *[update] * before, progress=0.1) == []
    return told(made, *[update] * 12, progress=progress)


def test_experts_that_are_all_alike_late_in_training():
    assert alike() == [
        "the experts are all alike: beyond 50% of training the gate gives them nearly equal weights, and they act the "
        "same; either the market has no conditions that the gate can see (env.gate_features), or nothing has told the "
        "experts apart yet; try a higher gating.losses.information.weight (now 0.05), a lower expert.ent_coef or "
        "longer training (trainer.total_timesteps)"
    ]


def test_a_missing_information_term_is_the_cause():
    (line,) = alike("gating.losses.information.weight=0")
    assert "(gating.losses.information.weight is 0); try gating.losses.information.weight=0.05, a lower" in line
    (line,) = alike("gating/losses=none")
    assert "(no loss rewards experts that differ); try gating/losses=standard, a lower" in line


def test_a_short_training_or_an_early_moment_is_no_collapse():
    assert alike(before=0, progress=1.0) == []
    assert alike(progress=0.49) == []


def test_a_soft_gate_over_different_experts_is_no_collapse():
    assert alike(update=metrics(EVEN, gate_entropy=math.log(4), disagreement=0.1)) == []
    assert alike(update=metrics(EVEN, gate_entropy=0.9, disagreement=0.001)) == []


# --- a gate that has collapsed ----------------------------------------------------------------------------------------


def collapse(agent):
    with torch.no_grad():
        agent.model.gate.net[-1].bias[0] += 8.0
    return agent


def test_a_collapsed_gate_is_told_in_training(make_agent, settings, tmp_path, caplog):
    agent = collapse(make_agent(learning_rate=1e-6, batch_size=128))
    with caplog.at_level(logging.WARNING, logger="moe_trader"):
        dataclasses.replace(settings.trainer, total_timesteps=8 * 128, n_envs=4).fit(agent, tmp_path)
    (line,) = [line for record in caplog.records if "expert.batch_size" not in (line := record.getMessage())]
    assert line.startswith("the gate has collapsed: expert_1 had nearly all the weight for 5 updates")


def test_the_default_losses_pull_a_collapsed_gate_back(make_agent, settings):
    agent = collapse(make_agent())
    observations = torch.randn(256, agent.layout.single_width)
    output = agent.model.evaluate(observations)
    batch = GateBatch(output.gate_logits, output.mixture, torch.zeros(256), torch.zeros(256))
    loss = sum(loss.weight_at(1.0) * loss(batch) for loss in settings.gating.losses.values())
    (downhill,) = torch.autograd.grad(-loss, agent.model.gate.net[-1].bias)
    assert downhill[0] < 0 < downhill[1:].min()


@pytest.mark.parametrize("losses", ["standard", "none"])
def test_experts_recover_with_the_default_losses_and_not_without(make_agent, losses):
    gating = settings_of(f"gating/losses={losses}").gating
    agent = collapse(make_agent(gating=gating, learning_rate=3e-3, n_epochs=10))
    agent.learn(100 * 128)
    assert (agent.metrics["mixture/effective_experts"] > 2.5) == (losses == "standard")
