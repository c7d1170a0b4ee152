"""Dead experts, one expert for all, and experts that are all alike: told once, with the cause and what to try."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from composed import settings_of, trainer_of

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
        "all experts act the same: beyond 50% of training the gate gives them nearly equal weights; either the market "
        "has no conditions that the gate can see (env.gate_features), or the experts have not separated yet; try a "
        "higher gating.losses.information.weight (now 0.05), a lower expert.ent_coef or longer training (env.visits, "
        "trainer.total_timesteps)"
    ]


def test_a_missing_information_term_is_the_cause():
    (line,) = alike("gating.losses.information.weight=0")
    assert "(gating.losses.information.weight is 0); try gating.losses.information.weight=0.05, a lower" in line
    (line,) = alike("gating/losses=none")
    assert "(no loss rewards experts that differ); try gating/losses=standard, a lower" in line


def over_training(*updates):
    """Return what is reported when these are all updates of a run, as (update, line)."""
    made, found = watch(), []
    for number, update in enumerate(updates, start=1):
        found += [(number, line) for line in made.look(update, number / len(updates))]
    return found


@pytest.mark.parametrize(
    ("update", "at", "begin"),
    [
        (metrics([0.4, 0.3, 0.29, 0.01]), 5, "d is dead"),
        (metrics([0.985, 0.005, 0.005, 0.005]), 5, "the gate has collapsed"),
        (ALIKE, 15, "all experts act the same"),
    ],
    ids=["dead", "alone", "alike"],
)
def test_a_collapse_in_a_run_of_19_updates_is_reported(update, at, begin):
    """As many as PPO makes of NASDAQ's 77,750 steps."""
    ((number, line),) = over_training(*[update] * 19)
    assert number == at
    assert line.startswith(begin)
    late = over_training(*[metrics(EVEN)] * 14, *[update] * 5)  # the last five updates are enough
    assert [number for number, _ in late] == [19]


@pytest.mark.parametrize("begin", range(11))
def test_a_healthy_start_of_a_run_of_19_updates_is_not(begin):
    """On NASDAQ, experts under a gate that learns differ after 1 to 6 of 19 updates."""
    assert over_training(*[ALIKE] * begin, *[metrics([0.4, 0.3, 0.2, 0.1])] * (19 - begin)) == []


def test_ramps_and_temperatures_come_to_their_end_in_19_updates():
    ends = [number / 19 for number in range(1, 20)]  # a loss is weighed after the rollout of its update
    information = settings_of().gating.losses["information"]
    weights = [information.weight_at(progress) for progress in ends]
    assert weights[0] == 0 < weights[1] < weights[2] < weights[4] < weights[5]
    assert weights[5:] == [information.weight] * 14
    balance = settings_of("gating/losses=load_balance").gating.losses["load_balance"]
    assert balance.weight_at(ends[0]) > 0.9 * balance.weight
    assert balance.weight_at(ends[-1]) == 0
    annealed = settings_of("gating=annealed").gating.network(5, 4)
    found = []
    for progress in [0.0, *ends[:-1]]:  # a gate adapts before the rollout
        annealed.adapt(progress, None)
        found.append(float(annealed.temperature))
    assert found[0] == 2
    assert found == sorted(found, reverse=True)
    assert 0.5 < found[-1] < 0.54


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
        trainer_of(total_timesteps=8 * 128, n_envs=4).fit(agent, tmp_path)
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
