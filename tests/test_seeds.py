"""Seeds trained side by side: each is what it is alone, and a failure of one is told once."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from composed import settings_of

from moe_trader.expert.mixture_policy import MixturePolicy
from moe_trader.expert.seeds import Seeds
from moe_trader.option import ConfigError

ALL_LOSSES = "gating/losses=[standard,diversity,switching,sinkhorn,importance,load_balance]"
STEPS = 384  # three updates of the small experts


def gating(name, *overrides):
    return settings_of(f"gating={name}", *overrides).gating


def learned(agent, seeds=None, steps=STEPS):
    if seeds is None:
        return agent.learn(steps)
    with seeds.beside(agent.algorithm):
        return agent.learn(steps)


def side_by_side(make, numbers, steps=STEPS, always=True):
    """As on a GPU, where no compiled code of ours could do the arithmetic."""
    seeds = Seeds(always)
    return seeds.run([lambda seed=seed: learned(make(seed), seeds, steps) for seed in numbers])


def largest_difference(one, other):
    one, other = one.policy.state_dict(), other.policy.state_dict()
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


GATES = {
    "softmax": ("softmax", ALL_LOSSES),
    "sticky": ("sticky", "gating.rows=5"),
    "annealed": ("annealed",),
    "top_k": ("top_k", "gating.k=2"),
    "sparsemax": ("sparsemax",),
    "random": ("random",),
    "rule": ("rule",),
}


@pytest.mark.parametrize("name", GATES)
def test_a_seed_beside_others_is_what_it_is_alone(name, make_agent, monkeypatch):
    def make(seed):
        return make_agent(seed, gating=gating(*GATES[name]), target_kl=None)

    asked = []
    monkeypatch.setattr(Seeds, "_answers", lambda *given, plain=Seeds._answers: asked.append(given) or plain(*given))
    together = side_by_side(make, [0, 1, 2])
    assert asked
    assert {len(requests) for _, requests in asked} == {3}  # nobody went alone
    for seed, beside in enumerate(together):
        alone = learned(make(seed))
        assert largest_difference(alone, make(seed)) > 1e-3
        assert largest_difference(alone, beside) < 3e-5
        entropy = "mixture/gate_entropy"
        assert beside.metrics[entropy] == pytest.approx(alone.metrics[entropy], abs=1e-4)
        assert beside.policy.beside is None


def test_a_gate_that_vmap_does_not_know_takes_turns(make_agent, warnings):
    def make(seed):
        return make_agent(seed, gating=gating("gru", "gating.rows=4"), target_kl=None)

    for seed, beside in enumerate(side_by_side(make, [0, 1])):
        assert largest_difference(learned(make(seed)), beside) < 3e-5
    told = "GruNetwork: the networks of several seeds take turns, as vmap cannot run them: Batching rule not"
    assert warnings().count(told) == 1


def test_one_that_ends_its_updates_early_waits_for_the_others(make_agent):
    """Updates that end at different minibatches: seeds ask for different things at the same time."""

    def make(seed):
        return make_agent(seed, target_kl=0.004, n_epochs=20, learning_rate=3e-3)

    together = side_by_side(make, [0, 1, 2])
    assert len({one.algorithm._n_updates for one in together}) > 1
    for seed, beside in enumerate(together):
        alone = learned(make(seed))
        assert alone.algorithm._n_updates == beside.algorithm._n_updates
        assert largest_difference(alone, beside) < 1e-3  # Adam enlarges what rounding does


def test_experts_of_box_actions_train_side_by_side(make_agent, pendulum):
    """One update; after that the estimate of the entropy has taken other draws than alone."""

    def make(seed):
        return make_agent(seed, env=pendulum(seed), n_steps=64, ent_coef=0.0, target_kl=None)

    for seed, beside in enumerate(side_by_side(make, [0, 1], steps=128)):
        alone = learned(make(seed), steps=128)
        assert largest_difference(alone, make(seed)) > 5e-4
        assert largest_difference(alone, beside) < 3e-5


def test_compiled_code_has_no_need_of_company(make_agent):
    """On a CPU a seed is what it is alone, to the last bit."""
    for seed, beside in enumerate(side_by_side(make_agent, [0, 1], always=False)):
        assert largest_difference(learned(make_agent(seed)), beside) == 0.0


def test_where_one_fails_the_others_go_on(make_agent):
    def job(seed):
        if seed == 1:
            raise ValueError("the second one fails")
        trained[seed] = learned(make_agent(seed), seeds)

    seeds, trained = Seeds(always=True), {}
    with pytest.raises(ValueError, match="the second one fails"):
        seeds.run([lambda seed=seed: job(seed) for seed in range(3)])
    assert {seed: largest_difference(learned(make_agent(seed)), one) < 3e-5 for seed, one in trained.items()} == {
        0: True,
        2: True,
    }


def test_a_setting_that_none_can_use_ends_all(make_agent):
    begun = []

    def job(seed):
        begun.append(seed)
        raise ConfigError("gating.k: too many")

    with pytest.raises(ConfigError, match=r"gating\.k"):
        Seeds().run([lambda seed=seed: job(seed) for seed in range(3)])
    assert begun == [0]


def interrupted(monkeypatch, make_agent, n, then):
    """Interrupt so many seeds in their first update; ``then(seed)`` is what each does about it."""

    def job(seed):
        try:
            learned(make_agent(seed), seeds)
        except KeyboardInterrupt:
            then(seed)
            raise

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Seeds, "_differentiated", interrupt)
    seeds = Seeds(always=True)
    with pytest.raises(KeyboardInterrupt):
        seeds.run([lambda seed=seed: job(seed) for seed in range(n)])


def test_an_interrupt_reaches_every_seed_so_that_each_can_save(make_agent, monkeypatch):
    stopped = []
    interrupted(monkeypatch, make_agent, 3, stopped.append)
    assert stopped == [0, 1, 2]


def test_a_seed_that_cannot_be_saved_when_all_are_stopped_is_told(make_agent, monkeypatch, caplog):
    def full(_):
        raise OSError("No space left on device")

    interrupted(monkeypatch, make_agent, 2, full)
    assert caplog.text.count("A seed could not be ended in order, and may not have been saved") == 2
    assert "No space left on device" in caplog.text


def test_too_many_for_the_memory_are_told_how_many_to_try(make_agent, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it")

    monkeypatch.setattr(MixturePolicy, "evaluate", full)
    with pytest.raises(ConfigError) as refused:
        side_by_side(make_agent, range(4))
    assert str(refused.value) == (
        "trainer.parallel_seeds: 4 seeds need more memory than the device has "
        "(CUDA out of memory. Tried to allocate 2.00 GiB.); try 2"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("name", ["softmax", "sticky"])
def test_torch_compile_takes_the_same_steps(name, make_agent):
    """Alone and beside others; each costs some ten seconds of compiling."""

    def make(seed, compiles=True):
        chosen = gating(*GATES[name]) if name == "sticky" else None
        agent = make_agent(seed, gating=chosen, target_kl=None)
        if compiles:
            agent.algorithm.compile_updates()
        return agent

    plain = learned(make(0, compiles=False))
    assert largest_difference(plain, learned(make(0))) < 3e-5
    assert largest_difference(plain, side_by_side(make, [0, 1], always=False)[0]) < 3e-5


def test_a_gate_with_nothing_to_learn_gets_no_gradient(make_agent):
    fixed = dataclasses.replace(gating("uniform"), losses={})
    agents = side_by_side(lambda seed: make_agent(seed, gating=fixed, count=1), [0, 1])
    assert largest_difference(*agents) > 0
