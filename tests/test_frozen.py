"""Frozen experts stand still to the last bit, and the rest learns as if their weights were constants."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from composed import settings_of

from moe_trader.agent import MoEAgent
from moe_trader.gating.fixed import Uniform
from moe_trader.mixture.actor_critics import ModuleBank
from moe_trader.mixture.model import MixtureModel
from moe_trader.mixture.stacked import StackedBank
from moe_trader.option import ConfigError
from moe_trader.trainer.collapse import COLLAPSED_AFTER, CollapseWatch

LOSSES = settings_of("env=synthetic", "gating/losses=[standard,diversity]").gating
A2C = settings_of("env=synthetic", "expert=a2c").expert
FREEZABLE = [["expert_2"], ["expert_1", "expert_2", "expert_3"]]


@pytest.fixture(scope="module")
def make(prepared, small_experts):
    """``make("a2c", env, kernels, frozen)``: a fresh agent of three small experts, whose losses train experts too."""

    def made(family, env, kernels="auto", frozen=(), seed=0, bank=StackedBank, **changes):
        n_steps = 128 // env.num_envs
        if family == "ppo":
            expert = small_experts(n_steps=n_steps, **changes)
        else:
            expert = dataclasses.replace(A2C, count=3, net_arch=[16, 16], n_steps=n_steps, **changes)
        if bank is ModuleBank:
            expert = one_by_one(expert, frozen)
            frozen = ()
        return MoEAgent(env, expert, LOSSES, seed=seed, kernels=kernels, frozen=frozen)

    return made


def one_by_one(settings, frozen):
    """Return a family whose experts are modules for autograd, and whose frozen ones are constants to it."""

    class OneByOne(type(settings)):
        def model(self, *args):
            made = super().model(*args)
            experts = list(made.experts)
            for name, one in zip(self.names(), experts, strict=True):
                one.requires_grad_(name not in frozen)
            made.experts = ModuleBank([copy.deepcopy(one) for one in experts])
            assert isinstance(made, MixtureModel)
            return made

    return OneByOne(**vars(settings))


def state(agent):
    return {name: one.clone() for name, one in agent.model.state_dict().items()}


def moved(before, after):
    """Return the parts of an agent of which a tensor changed."""
    changed = [name for name, one in before.items() if not torch.equal(one, after[name])]
    return {".".join(name.split(".")[:2]) if name.startswith("experts") else "gate" for name in changed}


@pytest.mark.parametrize("frozen", FREEZABLE, ids=["one", "all"])
@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("market", ["discrete", "box"])
@pytest.mark.parametrize("family", ["ppo", "a2c"])
def test_frozen_experts_stand_still_to_the_bit_and_the_rest_learns(
    family, market, kernels, frozen, make, prepared, pendulum
):
    env = prepared.training_env(4, 0) if market == "discrete" else pendulum(0)
    agent = make(family, env, kernels, frozen)
    assert type(agent.model.experts) is StackedBank
    assert agent.frozen == frozen
    before = state(agent)
    agent.learn(384)
    still = {f"experts.{agent.expert_names.index(name)}" for name in frozen}
    assert moved(before, state(agent)) == {"experts.0", "experts.1", "experts.2", "gate"} - still
    norms = {name: agent.algorithm.logger.name_to_value[f"gradient_norm/{name}"] for name in agent.expert_names}
    assert [name for name, norm in norms.items() if norm == 0] == frozen
    assert agent.algorithm.logger.name_to_value["gradient_norm/gate"] > 0


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("market", ["discrete", "box"])
@pytest.mark.parametrize("family", ["ppo", "a2c"])
def test_the_rest_learns_as_if_frozen_weights_were_constants(family, market, kernels, make, prepared, pendulum):
    """Clipping scales every gradient by the joint norm, which must not count a frozen expert.

    Steps are SGD's, in proportion to the gradient: Adam's would blow up a difference in rounding where it is near zero.
    """
    changes = {"max_grad_norm": 0.05, "learning_rate": 0.5, "final_learning_rate": 0.5}
    changes |= {"target_kl": None} if family == "ppo" else {}
    found = []
    for bank, by in ((StackedBank, kernels), (ModuleBank, "off")):
        env = prepared.training_env(4, 0) if market == "discrete" else pendulum(0)
        agent = make(family, env, by, ["expert_2"], bank=bank, **changes)
        assert type(agent.model.experts) is bank
        policy = agent.algorithm.policy
        kept = "params", "owners", "blocks", "lr_scale"
        groups = [{key: group[key] for key in kept if key in group} for group in policy.optimizer.param_groups]
        policy.optimizer = torch.optim.SGD(groups, lr=0.5)
        found.append((state(agent), state(agent.learn(128)), agent.algorithm.logger.name_to_value))
    (start, stacked, log), (other_start, constants, other_log) = found
    assert moved(start, other_start) == set()
    torch.testing.assert_close(stacked, constants, rtol=1e-4, atol=2e-5)
    for name in ("gradient_norm/expert_1", "gradient_norm/expert_3", "gradient_norm/gate"):
        assert log[name] == pytest.approx(other_log[name], rel=1e-3)
    assert max(float((stacked[name] - start[name]).abs().max()) for name in start) > 5e-3  # it learned


@pytest.mark.parametrize("family", ["ppo", "a2c"])
def test_an_expert_that_learned_before_stands_still_once_frozen_and_learns_once_thawed(family, make, prepared):
    """Adam would move it on by the averages that it has of it."""
    agent = make(family, prepared.training_env(4, 0)).learn(256)
    agent.freeze(["expert_1"])
    before = state(agent)
    agent.learn(256)
    assert moved(before, after := state(agent)) == {"experts.1", "experts.2", "gate"}
    agent.freeze([])
    assert moved(after, state(agent.learn(128))) == {"experts.0", "experts.1", "experts.2", "gate"}


def test_requires_grad_of_a_stacked_expert_counts(make, prepared):
    """Of all its parameters, or of some."""
    agent = make("ppo", prepared.training_env(4, 0))
    agent.model.experts[0].requires_grad_(False)
    agent.model.experts[2].action_net.requires_grad_(False)
    assert agent.frozen == ["expert_1"]
    before, after = state(agent), state(agent.learn(256))
    still = {name for name in before if name.startswith("experts.") and torch.equal(before[name], after[name])}
    own = {f"experts.2.action_net.{name}" for name in ("weight", "bias")}
    assert still == {name for name in before if name.startswith("experts.0.")} | own


def test_a_run_without_frozen_experts_does_nothing_for_them(make, prepared):
    assert make("ppo", prepared.training_env(4, 0)).model.experts.frozen_parts() == []


def test_neighbouring_parts_of_a_stack_are_joined(make, prepared):
    bank = make("ppo", prepared.training_env(4, 0), frozen=FREEZABLE[1]).model.experts
    ((weights, part),) = bank.frozen_parts()
    assert weights is bank.weights
    assert (part.start, part.stop) == (0, weights.numel())


def test_a_bundle_and_a_copy_keep_who_is_frozen(make, prepared, tmp_path, caplog):
    agent = make("ppo", prepared.training_env(4, 0), frozen=["expert_3"]).learn(128)
    agent.save(tmp_path / "agent")
    caplog.set_level("INFO", logger="moe_trader")
    for other in (MoEAgent.load(tmp_path / "agent", env=prepared.training_env(4, 0)), copy.deepcopy(agent)):
        assert other.frozen == ["expert_3"]
        before = state(other)
        caplog.clear()
        assert moved(before, state(other.learn(128))) == {"experts.0", "experts.1", "gate"}
        assert "Frozen, so that they do not learn: expert_3" in caplog.text
    other = MoEAgent.load(tmp_path / "agent", env=prepared.training_env(4, 0))
    other.freeze([])
    before = state(other)
    assert "experts.2" in moved(before, state(other.learn(128)))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["expert_9"], "frozen: no expert is called 'expert_9'; the experts are expert_1, expert_2, expert_3"),
        ("expert_1", "frozen: expected a list of experts' names, got 'expert_1'"),
        (7, "frozen: expected a list of experts' names, got 7"),
    ],
)
def test_names_of_no_expert_are_refused(names, message, make, prepared):
    agent = make("ppo", prepared.training_env(4, 0), frozen=["expert_2"])
    with pytest.raises(ConfigError) as refused:
        agent.freeze(names)
    assert str(refused.value) == message
    assert agent.frozen == ["expert_2"]


def test_an_agent_in_which_nothing_learns_is_refused(make_agent, small_experts, prepared):
    way_out = (
        ": training would change nothing. Leave out an expert, or use several experts and a gate that learns "
        "(gating=softmax, expert.gate_lr_scale above 0)"
    )
    fixed = make_agent(gating=Uniform(losses={}))
    with pytest.raises(ConfigError) as refused:
        fixed.freeze(fixed.expert_names)
    assert str(refused.value) == "frozen: every expert is frozen, and the gate (Uniform) has nothing to learn" + way_out
    assert fixed.frozen == []  # as it was
    with pytest.raises(ConfigError, match=r"the gate \(Softmax\) has nothing to learn"):
        make_agent(gate_lr_scale=0.0).freeze(fixed.expert_names)
    single = make_agent(count=1)
    with pytest.raises(ConfigError) as refused:
        single.freeze(["expert_1"])
    assert str(refused.value) == (
        "frozen: every expert is frozen, and the gate (Softmax) has a single expert to choose from, expert_1" + way_out
    )
    for one in fixed.model.experts:
        one.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"^frozen: every expert is frozen"):
        fixed.learn(128)


# --- the watch over collapses -----------------------------------------------------------------------------------------


def reported(frozen, importance, gate_entropy=0.5, disagreement=0.1, progress=0.2, updates=COLLAPSED_AFTER):
    names = ["a", "b", "c", "d"]
    watch = CollapseWatch(names, {"_target_": "moe_trader.gating.softmax.Softmax", "floor": 0.02, "losses": {}}, frozen)
    metrics = {f"importance/{name}": value for name, value in zip(names, importance, strict=True)}
    metrics |= {"mixture/gate_entropy": gate_entropy, "mixture/disagreement": disagreement}
    return [line for _ in range(updates) for line in watch.look(metrics, progress)]


def test_a_frozen_expert_is_not_called_dead():
    frozen, dying = reported(["c"], [0.5, 0.49, 0.005, 0.005])
    assert frozen == (
        "the gate hardly uses c: its importance was below 0.02 for 5 updates; it is frozen, so it loses nothing, and "
        "the gate can come back to it"
    )
    assert dying.startswith("d is dead: ")


def test_a_collapse_onto_one_of_frozen_experts_says_so():
    (line,) = reported(["a", "b", "c", "d"], [0.985, 0.005, 0.005, 0.005])
    assert "updates, and the others, which are frozen, are not used (" in line
    (line,) = reported(["b", "c"], [0.985, 0.005, 0.005, 0.005])
    assert "updates, and the others learn nothing (" in line


def test_frozen_experts_that_are_alike_get_no_advice_to_train_them():
    alike = {"importance": [0.25] * 4, "gate_entropy": 1.386, "disagreement": 0.001, "progress": 0.6, "updates": 40}
    (line,) = reported(["a", "b", "c", "d"], **alike)
    assert line == (
        "all experts act the same: beyond 50% of training the gate gives them nearly equal weights. All of them are "
        "frozen (trainer.frozen), so this lasts; start from other experts "
        "(trainer.init_from), or let some learn (trainer.frozen=[])"
    )
    (line,) = reported(["a"], **alike)
    assert "a lower expert.ent_coef" in line
