"""Ensembles: several agents as one, by the mean of their targets or by the exact mixture of all their experts."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from commands import call, only_run, sha256
from composed import settings_of

from moe_trader.agent import MoEAgent
from moe_trader.bundle import BundleError
from moe_trader.evaluation.backtest import Backtest
from moe_trader.evaluation.ensembles import ensembles_table
from moe_trader.evaluation.evaluate import evaluate
from moe_trader.expert.ensemble import EnsembleExperts
from moe_trader.fast.gates import route
from moe_trader.gating import GatingNetwork
from moe_trader.gating.ensemble import Ensemble
from moe_trader.option import ConfigError, build_option, describe
from moe_trader.trainer.ensemble import ensemble_of
from moe_trader.trainer.joining import joined, joining_refused

SPLITS = ("validation", "test")
GATES = ("softmax", "annealed", "entmax", "top_k", "sticky", "gru", "rule", "oracle", "uniform", "random")


def scattered(agent, seed):
    """Give gate and experts something to say, without training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return agent


@pytest.fixture(scope="module")
def tasks(make_settings):
    """``tasks("orders", "softmax")``: settings and the prepared task of a kind of positions and a gate."""
    made = {}

    def task(positions, gating="softmax"):
        if (positions, gating) not in made:
            count = 3 if gating == "rule" else 2
            settings = make_settings(
                f"env/positions={positions}", f"gating={gating}", f"expert.count={count}", "expert.net_arch=[8]"
            )
            made[positions, gating] = settings, settings.env.prepare(gate_input=settings.gating.gate_input())
        return made[positions, gating]

    return task


@pytest.fixture(scope="module")
def members_of(tasks):
    """``members_of("discrete", n=2)``: untrained agents that act differently, by name."""

    def members(positions, gating="softmax", n=2):
        settings, task = tasks(positions, gating)
        env = task.training_env(2, 0)
        small = dataclasses.replace(settings.expert, n_steps=32, batch_size=64)
        return {
            f"seed_{seed}": scattered(MoEAgent(env, small, settings.gating, seed=seed), seed)
            for seed in range(1, n + 1)
        }

    return members


def observations_of(task, n=64):
    """Observations of the test split, each with another account."""
    env, space = task.vec_env("test", n, seed=0), task.task.positions.action_space()
    env.reset()
    space.seed(0)
    for _ in range(5):
        found = env.step(np.array([space.sample() for _ in range(n)]))[0]
    return np.asarray(found)


def saved(members, task, folder):
    """Save members as runs do; return their run directories."""
    for name, agent in members.items():
        agent.save(folder / name / "bundle", task=task.summary())
    return [folder / name for name in members]


@pytest.mark.parametrize("positions", ["discrete", "continuous"])
def test_the_density_is_the_exact_mixture_of_all_experts(positions, members_of, tasks):
    members, (_, task) = members_of(positions, n=3), tasks(positions)
    agent, seen = joined(members, "density"), torch.from_numpy(observations_of(task))
    with torch.no_grad():
        choice = agent.model.choice(seen)
        actions = choice.sample()
        parts = [member.model.choice(seen) for member in members.values()]
        joint = [
            torch.log(part.weights.double() / 3) + part.expert_log_prob(actions).double() for part in parts
        ]  # log(g / M) + log p, of every expert of every member
        expected = torch.logsumexp(torch.cat(joint, dim=1), dim=1)
        torch.testing.assert_close(choice.log_prob(actions).double(), expected, atol=1e-5, rtol=1e-5)
        mean_density = torch.stack([part.log_prob(actions).double().exp() for part in parts]).mean(0)
        torch.testing.assert_close(choice.log_prob(actions).double().exp(), mean_density, atol=1e-5, rtol=1e-5)
    own = np.concatenate([member.gate_weights(seen.numpy()) for member in members.values()], axis=1)
    np.testing.assert_allclose(agent.gate_weights(seen.numpy()), own / 3, atol=1e-7)
    alone = np.concatenate([member.expert_actions(seen.numpy()) for member in members.values()], axis=1)
    np.testing.assert_array_equal(agent.expert_actions(seen.numpy()), alone)


def test_the_density_of_discrete_actions_takes_the_most_likely_one(members_of, tasks):
    members, (_, task) = members_of("discrete", n=3), tasks("discrete")
    seen = observations_of(task)
    chances = np.mean(
        [member.model.choice(torch.from_numpy(seen)).log_probs.detach().exp() for member in members.values()], axis=0
    )
    np.testing.assert_array_equal(joined(members, "density").predict(seen)[0], chances.argmax(1))


@pytest.mark.parametrize("positions", ["discrete", "continuous", "orders"])
def test_the_mean_is_that_of_the_members_targets(positions, members_of, tasks):
    members, (_, task) = members_of(positions, n=3), tasks(positions)
    agent, seen = joined(members, "mean"), observations_of(task)
    agent.positions = rules = task.task.positions
    held = np.linspace(-1, 1, len(seen))
    own = [rules.targets(member.predict(seen)[0], held)[0] for member in members.values()]
    np.testing.assert_allclose(agent.target(seen, held), np.mean(own, axis=0), atol=1e-7)
    assert np.std(own, axis=0).max() > 0.1
    assert agent.target(seen[0], held[0]).shape == ()


def test_a_mean_of_equal_targets_is_that_target_to_the_bit(members_of, tasks):
    """Rounding would be traded at every bar."""
    members, (_, task) = members_of("discrete", n=3), tasks("discrete")
    agent, seen = joined(members, "mean"), observations_of(task, 256)
    agent.positions = task.task.positions
    thirds = agent.target(seen) * 3
    np.testing.assert_array_equal(thirds, np.round(thirds))
    assert len(np.unique(thirds)) > 3


@pytest.mark.parametrize("positions", ["discrete", "continuous", "orders"])
def test_predict_of_a_mean_takes_the_nearest_action(positions, members_of, tasks):
    members, (_, task) = members_of(positions, n=2), tasks(positions)
    agent, seen = joined(members, "mean"), observations_of(task)
    agent.positions = rules = task.task.positions
    actions, state = agent.predict(seen)
    assert state is None
    held = seen[:, -2].astype(np.float64)  # the exposure
    wanted, got = agent.target(seen), rules.targets(actions, held)[0]
    if positions == "continuous":
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    else:
        every = np.stack([rules.targets(np.full(len(seen), a), held)[0] for a in range(rules.action_space().n)])
        np.testing.assert_allclose(np.abs(got - wanted), np.abs(every - wanted).min(0), atol=1e-12)
    assert actions.dtype == rules.action_space().dtype
    assert rules.action_space().contains(agent.predict(seen[0])[0])
    torch.manual_seed(0)
    drawn = agent.predict(seen, deterministic=False)[0]
    torch.manual_seed(0)
    np.testing.assert_array_equal(agent.predict(seen, deterministic=False)[0], drawn)
    assert (drawn != actions).any()


def test_of_actions_equally_near_the_smaller_position_is_taken(settings):
    discrete = settings.env.positions
    found = discrete.nearest(np.array([-0.5, 0.5, 0.6, -0.2]), np.zeros(4))
    assert [discrete.fractions[action] for action in found] == [0, 0, 1, 0]
    orders = settings_of("env/positions=orders").env.positions
    assert list(orders.nearest(np.array([0.5, 0.9, -0.9, 0.0]), np.array([0.5, 0.0, 0.0, 1.0]))) == [4, 0, 1, 2]


@pytest.mark.parametrize("positions", ["discrete", "continuous", "orders"])
@pytest.mark.parametrize("rule", ["mean", "density"])
def test_an_ensemble_of_one_is_its_member(rule, positions, members_of, tasks):
    members, (_, task) = members_of(positions, n=1), tasks(positions)
    (member,) = members.values()
    agent, seen = joined(members, rule), observations_of(task)
    agent.positions = member.positions = task.task.positions
    for verb in ("gate_weights", "expert_actions", "target"):
        np.testing.assert_array_equal(getattr(agent, verb)(seen), getattr(member, verb)(seen))
    np.testing.assert_array_equal(agent.predict(seen)[0], member.predict(seen)[0])
    for split in SPLITS:
        assert Backtest(task, split, 0).run(agent) == pytest.approx(Backtest(task, split, 0).run(member), nan_ok=True)


@pytest.mark.parametrize("gating", GATES)
def test_every_gate_can_be_joined(gating, members_of, tasks, tmp_path):
    """Gates with a state, gates that read several bars or regimes, and gates without parameters."""
    members, (settings, task) = members_of("discrete", gating), tasks("discrete", gating)
    for at, member in enumerate(members.values()):
        member.model.gate.adapt(0.3 + at / 2, None)
        if "bias" in dict(member.model.gate.named_buffers()):
            member.model.gate.bias += torch.tensor([0.3, -0.3]) * (at + 1)
    seen = observations_of(task)
    expected = np.concatenate([member.gate_weights(seen) for member in members.values()], axis=1) / 2
    for kernels in ("auto", "off"):
        agent = joined(members, "density", kernels=kernels)
        np.testing.assert_allclose(agent.gate_weights(seen), expected, atol=1e-6)
    agent.save(tmp_path / "bundle", task=task.summary())
    again = MoEAgent.load(tmp_path / "bundle")
    np.testing.assert_array_equal(again.gate_weights(seen), joined(members, "density").gate_weights(seen))
    assert (again.gating.caveat() is None) == (settings.gating.caveat() is None)


def test_the_compiled_gate_has_the_gradient_of_autograd(members_of, tasks):
    members, (_, task) = members_of("discrete", n=2), tasks("discrete")
    model = joined(members, "density").model
    seen = model.seen_by_gate(torch.from_numpy(observations_of(task)))
    d_logits, d_weights = (torch.randn(len(seen), 4, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    routing = route(model.gate, seen)
    routing.send_back(d_logits.T.contiguous().numpy(), d_weights.T.contiguous().numpy())
    compiled = [parameter.grad.clone() for parameter in model.gate.parameters()]
    model.zero_grad()
    logits = model.gate.logits(seen)
    torch.autograd.backward([logits, model.gate.weights(logits)], [d_logits, d_weights])
    for one, parameter in zip(compiled, model.gate.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-4)


def test_the_gate_of_an_ensemble_adapts_each_member(members_of):
    agent = joined(members_of("discrete", "annealed"), "density")
    gate = agent.model.gate
    assert isinstance(gate, GatingNetwork)
    gate.adapt(1.0, torch.full((8, 4), 0.25))
    assert [float(member.temperature) for member in gate.networks] == pytest.approx([0.5, 0.5])


@pytest.fixture(scope="module")
def joined_runs(members_of, tasks, tmp_path_factory):
    """Run directories of two seeds, the task, and the ensembles of them."""
    (_, task), folder = tasks("discrete"), tmp_path_factory.mktemp("runs")
    runs = saved(members_of("discrete"), task, folder)
    return runs, task, ensemble_of(runs, task)


def test_ensembles_are_backtested_as_their_bundles_would_be(joined_runs, tmp_path):
    _, task, made = joined_runs
    for name in made.agents:
        made.save(tmp_path / name, name)
        agent = MoEAgent.load(tmp_path / name)
        assert len(agent.expert_names) == 4
        for split in SPLITS:
            row, expected = Backtest(task, split, 0).run(agent), row_of(made.table, split, name)
            for metric in ("log_return", "sharpe", "sharpe_low", "log_return_high", "turnover", "cost"):
                assert row[metric] == expected[metric]


def row_of(table, split, strategy):
    (row,) = table[(table["split"] == split) & (table["strategy"] == strategy)].to_dict("records")
    return row


def test_the_table_compares_with_the_mean_of_the_members(joined_runs):
    _, task, made = joined_runs
    table = made.table
    order = ["ensemble_mean", "ensemble_density", "members_mean", "seed_1", "seed_2", "buy_and_hold"]
    assert list(table["strategy"]) == 2 * order
    assert set(table["members"]) == {2}
    for split in SPLITS:
        mean = row_of(table, split, "members_mean")
        for metric in ("log_return", "sharpe", "turnover"):
            own = [row_of(table, split, name)[metric] for name in ("seed_1", "seed_2")]
            assert mean[metric] == pytest.approx(np.mean(own))
        for name in order:
            row = row_of(table, split, name)
            for metric in ("log_return", "sharpe"):
                gap = f"{metric}_minus_members"
                assert row[gap] == pytest.approx(row[metric] - mean[metric], abs=1e-12)
                assert row[f"{gap}_low"] <= row[gap] + 1e-9
                assert row[f"{gap}_high"] >= row[gap] - 1e-9
        assert mean["sharpe_minus_members"] == mean["sharpe_minus_members_high"] == 0
        one, other = (row_of(table, split, name) for name in ("seed_1", "seed_2"))
        assert one["log_return_minus_members_low"] == pytest.approx(-other["log_return_minus_members_high"])
    member = Backtest(task, "test", 0).run(made.members["seed_1"])
    assert row_of(table, "test", "seed_1")["sharpe_low"] == pytest.approx(member["sharpe_low"])
    assert ensembles_table(task, made.members, made.agents, 0).equals(table)


@pytest.mark.parametrize(("select_by", "column"), [("sharpe", "sharpe"), ("lower_bound", "log_return_low")])
def test_the_better_by_validation_is_saved_with_the_reason(select_by, column, joined_runs, tmp_path):
    runs, task, made = joined_runs
    if select_by != "sharpe":  # the default
        made = ensemble_of(runs, task, select_by=select_by)
    values = {name: row_of(made.table, "validation", name)[column] for name in made.agents}
    assert made.better == max(values, key=values.get)
    made.save(tmp_path / "ensemble")
    manifest = json.loads((tmp_path / "ensemble/manifest.json").read_text())
    about = manifest["task"]["ensemble"]
    assert about["rule"] == made.better.removeprefix("ensemble_")
    assert about["validation"] == values
    assert about["why"] == made.why
    assert f"{made.better} has the higher validation {select_by}: " in made.why
    assert [one["name"] for one in about["members"]] == ["seed_1", "seed_2"]
    assert manifest["experts"] == [f"seed_{seed}_expert_{k}" for seed in (1, 2) for k in (1, 2)]
    assert (tmp_path / "ensemble/experts/04_seed_2_expert_2.zip").is_file()


ACT = """
import sys, numpy as np
from moe_trader.agent import MoEAgent
for name in ("mean", "density"):
    seen, agent = np.load("seen.npy"), MoEAgent.load(name)
    np.savez(name, actions=agent.predict(seen)[0], target=agent.target(seen), gate=agent.gate_weights(seen))
"""


def test_a_bundle_acts_the_same_in_another_process(members_of, tasks, tmp_path):
    (_, task), members = tasks("discrete"), members_of("discrete")
    agents, seen = {rule: joined(members, rule) for rule in ("mean", "density")}, observations_of(task)
    for rule, agent in agents.items():
        agent.save(tmp_path / rule, task=task.summary())
        agent.positions = task.task.positions
    np.save(tmp_path / "seen.npy", seen)
    done = call(sys.executable, "-c", ACT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for rule, agent in agents.items():
        with np.load(tmp_path / f"{rule}.npz") as found:
            np.testing.assert_array_equal(found["actions"], agent.predict(seen)[0])
            np.testing.assert_array_equal(found["target"], agent.target(seen))
            np.testing.assert_array_equal(found["gate"], agent.gate_weights(seen))


def test_exported_experts_are_the_members(members_of, tasks, tmp_path):
    from stable_baselines3 import PPO

    (_, task), members = tasks("discrete"), members_of("discrete")
    agent, seen = joined(members, "mean"), observations_of(task)
    agent.save(tmp_path / "bundle", task=task.summary())
    columns = json.loads((tmp_path / "bundle/manifest.json").read_text())["expert_columns"]
    alone = PPO.load(tmp_path / "bundle/experts/03_seed_2_expert_1.zip", device="cpu")
    found = alone.predict(seen[:, columns], deterministic=True)[0]
    np.testing.assert_array_equal(found, members["seed_2"].expert_actions(seen)[:, 0])


def test_an_ensemble_does_not_learn(joined_runs, tmp_path):
    _, task, made = joined_runs
    made.save(tmp_path / "ensemble")
    with pytest.raises(ConfigError, match=r"^expert: an ensemble acts and does not learn; load it without"):
        MoEAgent.load(tmp_path / "ensemble", env=task.training_env(2, 0))
    with pytest.raises(ValueError, match="loaded without an environment"):
        MoEAgent.load(tmp_path / "ensemble").learn(64)
    with pytest.raises(
        ConfigError, match=r"^expert: expected the experts of one agent, got an ensemble; join its members instead$"
    ):
        ensemble_of([tmp_path / "ensemble"], task)


def changed(runs, folder, change):
    """Return the runs with the manifest's task of the second one changed."""
    copies = [shutil.copytree(run, folder / run.name) for run in runs]
    file = copies[1] / "bundle/manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return copies


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda found: found["task"].update(window=7),
            r"^env\.window: 1 in .*seed_1/bundle, 7 in .*seed_2/bundle; an ",
        ),
        (
            lambda found: found["task"]["scaler"]["mean"].__setitem__(0, 9.0),
            r"^scaler: one in .*, another in .*seed_2/",
        ),
        (lambda found: found["task"].update(market="gold"), r"^env\.market: 'synthetic.*' in .*, 'gold' in "),
        (lambda found: found["task"].update(market_sha256="0"), r"^sha256 of the prices: .*, '0' in "),
        (
            lambda found: found["task"]["gate_sight"].update(rows=64),
            r"^gating: what the gate reads: .* train them with ",
        ),
        (lambda found: found.update(gate_columns=[0, 1, 2]), r"^gate_columns: \[.*\[0, 1, 2\] in "),
    ],
)
def test_agents_that_see_something_else_are_refused(change, said, joined_runs, tmp_path):
    runs, task, _ = joined_runs
    with pytest.raises(ConfigError, match=said):
        ensemble_of(changed(runs, tmp_path, change), task)


def test_a_task_that_shows_something_else_is_refused(joined_runs, tasks):
    runs, _, _ = joined_runs
    said = r"^env\.positions: .* in the task; prepare the task with the settings of the runs"
    with pytest.raises(ConfigError, match=said):
        ensemble_of(runs, tasks("orders")[1])


def test_other_mistakes_are_refused(joined_runs, members_of, tasks, tmp_path):
    runs, task, made = joined_runs
    with pytest.raises(
        ValueError, match=r"^runs: .*seed_1/bundle is given twice; a member of an ensemble counts once$"
    ):
        ensemble_of([runs[0], runs[1], runs[0] / "bundle"], task)
    for nothing in ([], str(runs[0])):
        with pytest.raises(ValueError, match=r"^runs: expected a list of run directories or bundles, one or more"):
            ensemble_of(nothing, task)
    with pytest.raises(BundleError, match="no bundle here"):
        ensemble_of([tmp_path], task)
    with pytest.raises(ValueError, match=r"^select_by: expected sharpe, log_return, lower_bound, got 'calmar'$"):
        ensemble_of(runs, task, select_by="calmar")
    with pytest.raises(ValueError, match=r"^name: expected ensemble_mean or ensemble_density, got 'best'$"):
        made.save(tmp_path / "new", "best")
    other = dataclasses.replace(made.members["seed_2"].expert, gamma=0.5)
    agent = MoEAgent(task.training_env(2, 0), other, made.members["seed_2"].gating, seed=2)
    with pytest.raises(ConfigError, match=r"^expert\.gamma: 0\.95 in .*, 0\.5 in .*; an ensemble keeps one set of"):
        ensemble_of([runs[0], *saved({"other": agent}, task, tmp_path)], task)


def test_runs_of_one_seed_are_numbered(joined_runs, tmp_path):
    runs, task, _ = joined_runs
    made = ensemble_of([runs[0], shutil.copytree(runs[0], tmp_path / "again")], task)
    assert list(made.members) == ["member_1", "member_2"]


def test_settings_of_an_ensemble_are_checked(settings):
    of = dataclasses.replace(settings.expert, count=600)
    with pytest.raises(ValueError, match="members: 1,200 experts in all; the greatest number is 1,024"):
        EnsembleExperts(of=of, members=["a", "b"], rule="mean")
    assert "2 members have 1,200 experts" in joining_refused(of, 2)
    with pytest.raises(ValueError, match="members: expected names that make different experts, got a, a"):
        EnsembleExperts(of=settings.expert, members=["a", "a"], rule="mean")
    with pytest.raises(ValueError, match=r"members: expected gates that read the same, got 1 bar of .* and 64 bars"):
        Ensemble(members=[settings.gating, settings_of("gating=sticky").gating])
    with pytest.raises(ConfigError, match=r"^gating\.members: 2 gates do not divide 3 experts evenly"):
        Ensemble(members=[settings.gating, settings.gating]).network(4, 3)
    ensemble = Ensemble(members=[settings.gating, settings.gating])
    assert build_option(describe(ensemble), "gating", Ensemble) == ensemble


def test_a_bundle_that_does_not_say_what_actions_mean_is_refused_in_words(joined_runs, tmp_path):
    _, task, made = joined_runs
    seen = observations_of(task)
    made.agents["ensemble_mean"].save(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"^positions: this agent does not know which position an action means; set "):
        MoEAgent.load(tmp_path / "bare").predict(seen)
    wrong = task.summary() | {"positions": describe(settings_of("env/positions=orders").env.positions)}
    made.agents["ensemble_mean"].save(tmp_path / "wrong", task=wrong)
    with pytest.raises(
        BundleError, match=r"manifest\.json: task\.positions: expected positions of Discrete\(3\); copy"
    ):
        MoEAgent.load(tmp_path / "wrong").predict(seen)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rule: mean", "rule: vote", r"config\.yaml: expert\.rule: Input should be 'mean' or 'density', got 'vote'"),
        ("- seed_2", "- seed_3", r"manifest\.json: experts: expected those of config\.yaml, seed_1_expert_1, "),
        ("- seed_2", "- ../x", r"config\.yaml: expert\.members\.1: String should match pattern"),
        (
            "count: 2",
            "count: 600",
            r"config\.yaml: expert: members: 1,200 experts in all; the greatest number is 1,024",
        ),
        (
            "net_arch:\n    - 8",
            "net_arch:\n    - 9",
            r"parameters of experts, and .* are there\); copy the bundle again",
        ),
        ("temperature: 1.0", "temperature: 0", r"config\.yaml: gating\.members\[0\]\.temperature: "),
    ],
)
def test_a_malformed_bundle_is_refused_in_words(old, new, said, joined_runs, tmp_path):
    _, _, made = joined_runs
    made.save(tmp_path / "bundle", "ensemble_mean")
    config, manifest = tmp_path / "bundle/config.yaml", tmp_path / "bundle/manifest.json"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    content = json.loads(manifest.read_text())
    content["files"]["config.yaml"] = sha256(config)
    manifest.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=said):
        MoEAgent.load(tmp_path / "bundle")


def test_every_table_of_an_ensemble_by_the_mean_can_be_made(joined_runs):
    """The mixture's row is that of the ensemble, and a single expert acts the same under either rule."""
    _, task, made = joined_runs
    found = {
        name: evaluate(task, agent, None, seed=0, splits=("test",)).experts.set_index("strategy")
        for name, agent in made.agents.items()
    }
    for name, table in found.items():
        mixture = table[(table["instrument"] == "all") & (table["kind"] == "mixture")].loc["mixture"]
        assert mixture["log_return"] == row_of(made.table, "test", name)["log_return"]
    alone = [table[table["kind"] == "expert"]["log_return"] for table in found.values()]
    pd.testing.assert_series_equal(*alone)


def test_a_run_does_not_start_from_an_ensemble(joined_runs, make_agent, tasks, tmp_path):
    _, task, made = joined_runs
    made.save(tmp_path / "ensemble")
    settings, _ = tasks("discrete")
    agent = make_agent(env=task.training_env(2, 0), count=2, gating=settings.gating)
    with pytest.raises(
        ConfigError, match=r"ensemble: an ensemble, which does not learn on; start from one of its members, "
    ):
        agent.load_parts(tmp_path / "ensemble", task=task.summary())


def test_a_run_of_seeds_leaves_the_better_ensemble(run_of_seeds, run_of_seeds_printed):
    table = pd.read_csv(run_of_seeds / "ensembles.csv")
    assert set(table["strategy"]) >= {"ensemble_mean", "ensemble_density", "members_mean", "seed_1", "seed_2"}
    agent = MoEAgent.load(run_of_seeds / "ensemble")
    assert agent.expert_names == [f"seed_{seed}_expert_{k}" for seed in (1, 2) for k in (1, 2)]
    of_seed = pd.read_csv(run_of_seeds / "seed_1/evaluation/experts.csv")
    mixture = of_seed[(of_seed["strategy"] == "mixture") & (of_seed["instrument"] == "all")].set_index("split")
    for split in SPLITS:
        assert row_of(table, split, "seed_1")["log_return"] == pytest.approx(mixture["log_return"][split], abs=1e-9)
    assert "Ensembles of 2 seeds, test split" in run_of_seeds_printed
    assert "ensemble mean: Sharpe on test " in run_of_seeds_printed
    page = (run_of_seeds / "report.html").read_text()
    assert page.count("<h3>Ensembles</h3>") == 2
    assert "<td>members mean</td>" in page


def test_a_run_of_one_seed_has_no_ensemble(finished_run_folder):
    assert not (only_run(finished_run_folder) / "ensemble").exists()
