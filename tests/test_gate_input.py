"""The gate's own part of an observation: what it holds, who reads it, and that nobody else does."""

from __future__ import annotations

import dataclasses
import functools
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from composed import settings_of
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from moe_trader.agent import MoEAgent
from moe_trader.env import MarketError
from moe_trader.env.task import PreparedTask
from moe_trader.evaluation.walk import walk
from moe_trader.gate_input import NEWEST_BAR, GateInput, ObservationLayout
from moe_trader.gating import GateBatch
from moe_trader.gating.losses.switching import Switching
from moe_trader.option import ConfigError

INPUTS = [GateInput(rows=7), GateInput(rows=2, of="causal_regime"), GateInput(rows=1, of="true_regime")]


class Whole(VecEnvWrapper):
    """Hides that the environment within could name bars: observations stay whole."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


PLAIN = SimpleNamespace(gate_input=lambda: NEWEST_BAR)


@functools.cache
def gating(name, *overrides):
    return settings_of("env=synthetic", f"gating={name}", *overrides).gating


def scatter(agent, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return agent


def parameters(agent):
    return {name: value.detach().clone() for name, value in agent.model.state_dict().items()}


def walked(task, n=60, split="test"):
    """Bars and whole observations of a split's first decisions, one instrument."""
    lanes = task.walk(split, 1)
    lanes.reset(0, np.random.default_rng(0))
    bars, seen = [], []
    for _ in range(n):
        bars.append(int(lanes.bars[0]))
        seen.append(lanes.observe()[0].copy())
        lanes.move(np.zeros(lanes.n))
    return np.array(bars), np.array(seen)


# --- what it holds ----------------------------------------------------------------------------------------------------


def test_the_rows_are_the_true_rows_before(settings, prepared):
    task = settings.env.prepare(gate_input=GateInput(rows=7))
    bars, seen = walked(task)
    table = task.tape.features[:, list(prepared.rules.gate_columns)]
    n_own = prepared.env("test").observation_space.shape[0]
    assert seen.shape == (60, n_own + 7 * table.shape[1])
    for bar, observation in zip(bars, seen, strict=True):
        np.testing.assert_array_equal(observation[n_own:].reshape(7, -1), table[bar - 6 : bar + 1])
        np.testing.assert_array_equal(observation[: n_own - 2], task.tape.features[bar])


def test_every_row_of_the_first_bar_is_of_its_own_series_and_past_its_warm_ups(make_settings, make_market):
    settings = make_settings("env=csv", "env.path=none.csv", small=False)
    market = make_market(100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 900))))
    plain, far = (PreparedTask(settings.env, market, None, GateInput(rows=rows)) for rows in (1, 100))
    assert far.env("train").reset(seed=0)[0].shape[0] == plain.env("train").observation_space.shape[0] + 100 * 10
    first = {name: one.walk("train", 1)._stretches[0].first for name, one in (("plain", plain), ("far", far))}
    warmup = max(feature.warmup() for feature in settings.env.features.values())
    assert first == {"plain": warmup, "far": warmup + 99}


@pytest.mark.parametrize("of", ["causal_regime", "true_regime"])
def test_a_regime_is_one_column_of_all(of, settings):
    task = settings.env.prepare(gate_input=GateInput(rows=2, of=of))
    bars, seen = walked(task, 400)
    labeller = settings.env.gate_labels if of == "causal_regime" else settings.env.regimes
    segments = task.task.split.segments(task.market)["train"]
    labels = labeller.label(task.market, segments)
    index, n = np.concatenate(labels.index), len(labels.names)
    assert (task.env("test").observation_space.low[-2 * n :] == 0).all()
    assert (task.env("test").observation_space.high[-2 * n :] == 1).all()
    one_hot = np.eye(n, dtype=np.float32)
    np.testing.assert_array_equal(seen[:, -2 * n : -n], one_hot[index[bars - 1]])
    np.testing.assert_array_equal(seen[:, -n:], one_hot[index[bars]])
    assert len(np.unique(index[bars])) > 1


def test_a_bar_without_a_regime_yet_has_no_column(settings, prepared):
    from moe_trader.env.gate_table import label_rows

    segments = prepared.task.split.segments(prepared.market)["train"]
    rows = label_rows(settings.env.gate_labels, prepared.market, segments)
    warmup = settings.env.gate_labels.warmup()
    assert not rows[:warmup].any()
    assert (rows[warmup : warmup + 50].sum(1) == 1).all()


def test_observations_wait_for_the_labeller(make_settings):
    made = make_settings("env.gate_labels.trend_bars=300").env
    late, early = made.prepare(gate_input=GateInput(of="causal_regime")), made.prepare()
    assert walked(late, 1)[0] - walked(early, 1)[0] == 300 - max(f.warmup() for f in made.features.values())
    _, seen = walked(late, 300)
    assert (seen[:, -9:].sum(1) == 1).all()


def test_a_gate_of_one_bar_changes_nothing(settings, prepared):
    assert gating("softmax").gate_input() == NEWEST_BAR
    task = settings.env.prepare(gate_input=gating("softmax").gate_input())
    assert task.tape.gate is None
    env, other = task.training_env(4, 0), prepared.training_env(4, 0)
    assert env.observation_space == other.observation_space
    np.testing.assert_array_equal(env.reset(), other.reset())


@pytest.mark.parametrize("gate_input", INPUTS, ids=str)
def test_both_environments_show_the_same(gate_input, settings, prepared):
    task = settings.env.prepare(gate_input=gate_input)
    many, one = task.vec_env("train", 2, seed=5), task.env("train")
    (seen, _), together = one.reset(seed=5), many.reset()
    for _ in range(20):
        np.testing.assert_array_equal(seen, together[0])
        assert one.observation_space.contains(seen)
        (seen, *_), (together, *_) = one.step(1), many.step(np.array([1, 2]))
    assert one.gate_input == many.gate_input == gate_input
    n_own = prepared.env("train").observation_space.shape[0]
    assert one.gate_tail == many.gate_tail == many.observation_space.shape[0] - n_own


# --- who reads it -----------------------------------------------------------------------------------------------------


def gates():
    return {
        "sticky": gating("sticky", "gating.rows=5"),
        "gru": gating("gru", "gating.rows=5"),
        "rule": gating("rule", "gating/losses=switching"),
        "oracle": gating("oracle"),
        "softmax": gating("softmax", "gating/losses=switching"),
    }


@pytest.mark.parametrize("name", gates())
def test_what_stands_for_an_observation_is_read_back_to_the_bit(name, prepared_for, make_agent):
    gate = gates()[name]
    policy = make_agent(count=4, gating=gate).algorithm.policy
    whole, named = prepared_for(gate).training_env(4, 7), prepared_for(gate).training_env(4, 7).with_bar_indices()
    seen, read = whole.reset(), named.reset()
    ends = 0
    for chosen in np.random.default_rng(0).integers(3, size=(300, 4)):
        assert read.shape == (4, 3)
        np.testing.assert_array_equal(policy.whole_observations(torch.from_numpy(read)).numpy(), seen)
        (seen, *_, infos), (read, _, done, same_infos) = whole.step(chosen), named.step(chosen)
        for lane in np.flatnonzero(done):
            ends += 1
            last, _ = policy.obs_to_tensor(same_infos[lane]["terminal_observation"])  # as SB3 asks for it
            np.testing.assert_array_equal(policy.whole_observations(last)[0], infos[lane]["terminal_observation"])
    assert ends >= 4


@pytest.mark.parametrize("name", gates())
def test_training_does_not_notice_that_bars_are_named(name, prepared_for, small_experts):
    trained = []
    for wrapper in (lambda env: env, Whole):
        gate = gates()[name]
        agent = MoEAgent(wrapper(prepared_for(gate).training_env(4, 0)), small_experts(count=4), gate, seed=0)
        trained.append(parameters(agent.learn(256)))
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])


@pytest.mark.parametrize("name", gates())
def test_a_single_observation_gets_a_single_row(name, prepared_for, make_agent):
    """Also one whose bars are as many as a bar's columns."""
    n_features = len(prepared_for(PLAIN).rules.gate_columns)
    for gate in (gates()[name], *([gating(name, f"gating.rows={n_features}")] if name in ("sticky", "gru") else [])):
        agent = scatter(make_agent(count=4, gating=gate))
        observations = walked(prepared_for(gate), 40)[1]
        alone = np.stack([agent.gate_weights(one) for one in observations])
        assert alone.shape == (40, 4)
        np.testing.assert_allclose(alone, agent.gate_weights(observations), atol=1e-6)


@pytest.mark.parametrize("name", gates())
def test_experts_never_see_the_gates_part(name, make_agent, prepared, prepared_for, tmp_path):
    agent = scatter(make_agent(count=4, gating=gates()[name]))
    observations = walked(prepared_for(gates()[name]), 400)[1][::10]
    n_own, seen = agent.layout.single_width, list(agent.layout.experts)
    assert n_own == prepared.env("train").observation_space.shape[0] < observations.shape[1]
    assert set(agent.gate_columns) == set(range(n_own, observations.shape[1]))
    changed = observations.copy()
    changed[:, n_own:] = np.random.default_rng(0).permuted(observations[:, n_own:], axis=0)
    weights = np.full((40, 4), 0.25)
    for one, other in zip(agent.decide(observations, weights), agent.decide(changed, weights), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(agent.gate_weights(observations), agent.gate_weights(changed))
    moved = observations + np.r_[np.ones(n_own), np.zeros(observations.shape[1] - n_own)].astype(np.float32)
    np.testing.assert_array_equal(agent.gate_weights(moved), agent.gate_weights(observations))
    agent.save(tmp_path / "agent")
    alone = PPO.load(tmp_path / "agent" / "experts" / "02_expert_2.zip")
    assert alone.observation_space.shape == (len(seen),)
    np.testing.assert_array_equal(
        alone.predict(observations[:, seen], deterministic=True)[0], agent.expert_actions(observations)[:, 1]
    )


@pytest.mark.parametrize("name", gates())
def test_a_saved_agent_reads_as_before(name, prepared_for, make_agent, tmp_path):
    agent = scatter(make_agent(count=4, gating=gates()[name]))
    agent.save(tmp_path / "agent")
    loaded = MoEAgent.load(tmp_path / "agent", env=prepared_for(gates()[name]).training_env(4, 0))
    assert loaded.layout == agent.layout
    observations = prepared_for(gates()[name]).training_env(4, 3).reset()
    np.testing.assert_array_equal(loaded.gate_weights(observations), agent.gate_weights(observations))
    np.testing.assert_array_equal(loaded.predict(observations)[0], agent.predict(observations)[0])
    one, _ = agent.predict(observations[0])
    assert one == agent.predict(observations)[0][0]
    loaded.learn(128)


def test_an_environment_that_shows_the_gate_something_else_is_refused(make_settings, make_agent, tmp_path):
    task = {
        name: make_settings("env/features=[volatility,trend]", f"env.gate_features=[{seen}]").env
        for name, seen in (("trained", "volatility"), ("other", "trend"), ("both", "trend,volatility"))
    }
    env = {name: one.prepare().training_env(4, 0) for name, one in task.items()}
    make_agent(env=env["trained"]).save(tmp_path / "agent")
    MoEAgent.load(tmp_path / "agent", env=env["trained"]).learn(128)
    expected = r"^env: expected one that shows the gate columns 0 to 2 as 1 bar, the experts columns 0 to 8, as in tr"
    for name, columns in (("other", "3 to 6"), ("both", "0 to 6")):
        with pytest.raises(ValueError, match=rf"{expected}.*, got .* columns {columns} as 1 bar.*env\.gate_features"):
            MoEAgent.load(tmp_path / "agent", env=env[name])


def test_a_gate_without_need_of_it_reads_the_newest_bar_as_ever(prepared, prepared_for, small_experts):
    """So does the single policy, beside a mixture whose gate needs more."""
    env = prepared_for(gates()["sticky"]).training_env(4, 0)
    agent = MoEAgent(env, small_experts(count=1), gating("uniform"), seed=0)
    assert agent.layout == ObservationLayout(
        env.gate_columns, 1, tuple(range(env.observation_space.shape[0] - env.gate_tail))
    )
    assert max(agent.gate_columns) < agent.layout.single_width == prepared.env("train").observation_space.shape[0]


def test_mixture_and_single_policy_are_evaluated_on_the_same_observations(prepared_for, small_experts):
    gate = gates()["sticky"]
    task = prepared_for(gate)
    env = task.training_env(4, 0)
    agent = scatter(MoEAgent(env, small_experts(count=4), gate, seed=0))
    single = MoEAgent(env, small_experts(count=1), gating("uniform"), seed=0)
    trace = walk(task, "test", agent, single, seed=0)
    _, seen = walked(task, 50)
    np.testing.assert_allclose(trace.gate[:50, 0], agent.gate_weights(seen), rtol=1e-4, atol=1e-6)
    flat_account = seen[:1].copy()
    flat_account[:, agent.layout.single_width - 2 : agent.layout.single_width] = 0
    positions = task.task.positions
    for who, name in ((agent, "mixture"), (single, "single_policy")):
        first = positions.targets(who.predict(flat_account)[0], np.zeros(1))[0]
        assert trace.position[0, trace.index(name), 0] == first[0]


def test_the_rule_does_not_hear_of_later_bars(settings, prepared_for):
    gate = gating("rule")
    task = prepared_for(gate)
    (place,) = [k for k, one in enumerate(task.market.instruments) if one.symbol == "test_0"]
    one, now = task.market.instruments[place], 400
    jumps = np.where(np.arange(len(one)) > now, np.random.default_rng(0).uniform(0.7, 1.4, len(one)), 1.0)
    altered = dataclasses.replace(
        one, **{name: getattr(one, name) * jumps for name in ("open", "high", "low", "close")}
    )
    instruments = tuple(altered if k == place else other for k, other in enumerate(task.market.instruments))
    other = PreparedTask(task.task, dataclasses.replace(task.market, instruments=instruments), None, gate.gate_input())
    network = gate.network(9, 4)
    found = []
    for each in (task, other):
        bars, seen = walked(each, 500)
        found.append(network(torch.from_numpy(seen[:, -9:])).numpy())
    known = bars - bars[0] + walked(task, 1)[0][0] - task._offsets[place] <= now
    np.testing.assert_array_equal(found[0][known], found[1][known])
    assert known.sum() > 100
    assert not np.array_equal(found[0][~known], found[1][~known])


# --- what the gate alone sees -----------------------------------------------------------------------------------------


def hidden_and_shown(task):
    """Return the columns of the regime probabilities in an observation of a window of two bars, and all others."""
    names = 2 * task.feature_names + ["position", "profit"]
    hidden = [at for at, name in enumerate(names) if name.startswith("regime_")]
    return hidden, [at for at in range(len(names)) if at not in hidden]


@pytest.fixture(scope="module")
def two_bars(make_settings):
    return make_settings("env.window=2").env.prepare()


def test_regime_probabilities_are_for_the_gate_and_a_single_policy_sees_everything(two_bars, make_agent):
    hidden, shown = hidden_and_shown(two_bars)
    env = two_bars.training_env(4, 0)
    agent, single = make_agent(env=env), make_agent(env=env, count=1)
    assert len(hidden) == 8
    assert list(agent.layout.experts) == shown
    assert set(hidden) & set(agent.gate_columns) == set(hidden[4:])  # of the newest bar
    assert list(single.layout.experts) == sorted(hidden + shown)
    assert agent.layout.single_width == single.layout.single_width == len(hidden + shown)


def test_experts_do_not_hear_of_what_the_gate_alone_sees(two_bars, make_agent, tmp_path):
    hidden, _ = hidden_and_shown(two_bars)
    env = two_bars.training_env(4, 0)
    agent = scatter(make_agent(env=env))
    seen = env.reset()
    other = seen.copy()
    other[:, hidden] += 1.0
    own, changed = (agent.decide(one, agent.gate_weights(seen))[1] for one in (seen, other))
    np.testing.assert_array_equal(own, changed)
    assert not np.allclose(agent.gate_weights(seen), agent.gate_weights(other))
    agent.learn(256).save(tmp_path / "agent")
    loaded = MoEAgent.load(tmp_path / "agent", env=env)
    assert loaded.layout == agent.layout
    np.testing.assert_array_equal(loaded.predict(other)[0], agent.predict(other)[0])
    exported = PPO.load(next((tmp_path / "agent" / "experts").glob("*.zip")))
    assert exported.observation_space.shape == (seen.shape[1] - len(hidden),)


def test_everyone_sees_everything_if_asked(make_settings, make_agent):
    env = make_settings("env.gate_only=[]").env.prepare().training_env(4, 0)
    assert make_agent(env=env).layout.experts == tuple(range(env.observation_space.shape[0]))


def test_more_can_be_the_gates_alone(make_settings):
    task = make_settings("env/features=[volatility,trend,returns]", "env.gate_only=[trend]").env.prepare()
    names = [task.feature_names[at] for at in task.rules.gate_only]
    assert names == task.task.features["trend"].columns()


@pytest.mark.parametrize("name", ["rule", "oracle"])
def test_where_the_gate_reads_no_features_experts_see_all_of_them(name, prepared, prepared_for, make_agent):
    agent = make_agent(gating=gating(name))
    assert agent.layout.experts == tuple(range(prepared.env("train").observation_space.shape[0]))


def test_sb3s_own_vectorised_environments_keep_who_sees_what(two_bars, make_agent):
    ours, theirs = two_bars.training_env(4, 0), DummyVecEnv([lambda: two_bars.env("train")] * 4)
    assert make_agent(env=theirs).layout == make_agent(env=ours).layout


def test_where_there_is_nothing_else_experts_see_it_too(make_settings):
    made = make_settings("env/features=regime_probabilities").env
    assert made.seen_by_gate_alone == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["env.gate_only=[returns]"],
            r"^env: gate_only: the gate does not see 'returns'; name some of what it sees \(trend, volatility, "
            r"autocorrelation, regime_probabilities\), or add it to env\.gate_features$",
        ),
        (
            ["env.gate_only=[mood]"],
            r"^env: gate_only: 'mood' is none of env\.features \(returns, trend, volatility, autocorrelation, "
            r"regime_probabilities\); name some of what the gate sees \(trend, volatility, autocorrelation, regime_pro",
        ),
        (
            ["env/features=[trend]", "env.gate_only=[trend]"],
            r"^env: gate_only: leaves no feature for the experts; take one away, or add one to env\.features$",
        ),
    ],
)
def test_what_cannot_be_hidden_is_refused(changes, message, make_settings):
    with pytest.raises(ConfigError, match=message):
        make_settings(*changes)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_task_that_was_not_prepared_for_the_gate_is_refused(prepared, prepared_for, small_experts):
    with pytest.raises(
        ConfigError,
        match=r"^gating: Sticky reads 64 bars of the gate's features, and this environment shows it 1 bar of the "
        r"gate's features; prepare the task for the gate: "
        r"settings\.env\.prepare\(gate_input=settings\.gating\.gate_input\(\)\)$",
    ):
        MoEAgent(prepared.training_env(4, 0), small_experts(), gating("sticky"), seed=0)
    with pytest.raises(ConfigError, match=r"Oracle reads 1 bar of the true regime, and .* that trailing bars"):
        MoEAgent(prepared_for(gating("rule")).training_env(4, 0), small_experts(), gating("oracle"), seed=0)


def test_a_foreign_environment_shows_a_memory_one_bar_and_knows_no_regimes(make_agent, pendulum):
    for name in ("sticky", "gru"):
        agent = make_agent(env=pendulum(0), gating=gating(name))
        assert agent.layout == ObservationLayout((0, 1, 2), 1, (0, 1, 2))
        assert agent.learn(64).gate_weights(np.zeros((2, 3))).shape == (2, 3)
    for name, wants in (
        ("rule", "Rule reads 1 bar of the regime that trailing bars tell"),
        ("oracle", "Oracle reads 1 b"),
    ):
        with pytest.raises(
            ConfigError, match=rf"^gating: {wants}.*, and this environment shows it one bar of features; ch"
        ):
            make_agent(env=pendulum(0), gating=gating(name))
    with pytest.raises(
        ConfigError,
        match=r"^gating: Softmax compares neighbouring bars \(gating\.losses\), and this env.*; take the "
        r"loss away, '~gating\.losses\.switching', or use moe_trader's own environment$",
    ):
        make_agent(env=pendulum(0), gating=gating("softmax", "gating/losses=switching"))


def test_an_oracle_needs_a_market_that_knows(make_settings, make_market):
    task = make_settings("env=csv", "env.path=none.csv", small=False).env
    market = make_market(100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 900))))
    with pytest.raises(
        MarketError,
        match=r"^by_hand does not know its true regimes, which the gate reads: .*env=synthetic, .*gating=rule$",
    ):
        task.prepare(market=market, gate_input=gating("oracle").gate_input())


def test_labels_that_nobody_could_know_are_refused(make_settings):
    with pytest.raises(
        ConfigError, match=r"^env: gate_labels: TrueRegimes knows what nobody can .* let gating=oracle see"
    ):
        make_settings("env/regimes@env.gate_labels=true_regimes")


# --- the switching loss -----------------------------------------------------------------------------------------------


def test_switching_is_the_mean_total_variation():
    before = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], requires_grad=True)
    now = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.3, 0.4, 0.3]], requires_grad=True)
    loss = Switching(weight=0.5, ramp_start=0.0, ramp_end=0.0, final_weight=None)
    batch = GateBatch(now, SimpleNamespace(weights=now), torch.zeros(3), None, before)
    value = loss(batch)
    assert value.item() == pytest.approx((0 + 1 + 0.2) / 3)
    value.backward()
    torch.testing.assert_close(now.grad[1], torch.tensor([-0.5, 0.5, 0.0]) / 3)
    torch.testing.assert_close(before.grad, -now.grad)
    assert loss.weight_at(0.0) == loss.weight_at(1.0) == 0.5
    with pytest.raises(ValueError, match="weights at the bar before each"):
        loss(dataclasses.replace(batch, previous_weights=None))


@pytest.mark.parametrize("name", ["softmax", "rule", "sticky"])
def test_the_weights_before_are_those_of_the_bar_before(name, make_agent, prepared_for):
    gate = gating(name, "gating/losses=switching", *(["gating.rows=5"] if name == "sticky" else []))
    agent = scatter(make_agent(count=4, gating=gate))
    _, seen = walked(prepared_for(gate), 80)
    with torch.no_grad():
        output = agent.model.evaluate(torch.from_numpy(seen), compare=True)
    torch.testing.assert_close(output.previous_weights[1:], output.mixture.weights[:-1], rtol=1e-5, atol=1e-6)
    assert (output.previous_weights - output.mixture.weights).abs().max() > 1e-3
    assert agent.model.evaluate(torch.from_numpy(seen)).previous_weights is None


def test_it_is_off_by_default_and_calms_a_gate_when_on(make_agent, prepared_for):
    assert not any(gating(name).compares_bars() for name in ("softmax", "sticky", "gru", "rule", "oracle", "top_k"))
    variation = {}
    for weight in (0.0, 50.0):
        gate = gating("softmax", "gating/losses=switching", f"gating.losses.switching.weight={weight}")
        agent = scatter(make_agent(count=3, gating=gate, learning_rate=3e-3, n_epochs=10))
        _, seen = walked(prepared_for(gate), 300)
        weights = agent.learn(1024).gate_weights(seen)
        variation[weight] = 0.5 * np.abs(np.diff(weights, axis=0)).sum(1).mean()
        assert f"{agent.algorithm.logger.name_to_value['gate_loss/switching']:.6f}" != "0.000000"
    assert variation[50.0] < 0.5 * variation[0.0]


def test_every_combination_trains(prepared_for, small_experts):
    for name, losses in product(("sticky", "gru", "rule", "oracle"), ("none", "switching")):
        gate = gating(name, f"gating/losses={losses}")
        env = prepared_for(gate).training_env(4, 0)
        agent = MoEAgent(env, small_experts(count=4), gate, seed=0)
        assert np.isfinite(agent.learn(128).gate_weights(env.reset())).all()
