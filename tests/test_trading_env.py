"""TradingEnv and TradingVecEnv: honest in time, equal to each other, and good citizens of Gymnasium and SB3."""

import dataclasses
import math
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from moe_trader.env import Feature, MarketError, MarketSource
from moe_trader.env.ledger import FILLS
from moe_trader.env.positions import Discrete
from moe_trader.env.task import PreparedTask

OWN_BARS = ("env=csv", "env.market.path=none.csv")


@pytest.fixture(scope="module")
def walk_task(make_settings):
    """The task of a user's own bars, with overnight gaps: its market is handed to PreparedTask by the test."""
    return make_settings(*OWN_BARS, small=False).env


def discrete(fractions):
    return Discrete(fractions=fractions, minimum_trade=0.0)


def random_market(make_market, bars=900, seed=1):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    opening = np.concatenate([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.004, bars))
    return make_market(close, open=opening)


def altered_after(market, bar):
    """The same market with every price after ``bar`` another one."""
    rng = np.random.default_rng(99)
    (one,) = market.instruments
    after = np.arange(len(one)) > bar
    factor = np.where(after, np.exp(rng.normal(0.1, 0.3, len(one))), 1.0)
    columns = {name: getattr(one, name) * factor for name in ("open", "high", "low", "close")}
    return dataclasses.replace(market, instruments=(dataclasses.replace(one, **columns),))


def walk(prepared, split, actions):
    """Trade the split from its first bar; yields (bar of the observation, observation, reward, account)."""
    lanes = prepared.walk(split, 1)
    lanes.reset(0, np.random.default_rng(0))
    seen = [(int(lanes.bars[0]), lanes.observe()[0].copy(), 0.0, lanes.account(0))]
    for action in actions:
        if lanes.finished[0] or lanes.bankrupt[0]:
            break
        lanes.step(np.array([action]))
        seen.append((int(lanes.bars[0]), lanes.observe()[0].copy(), float(lanes.rewards[0]), lanes.account(0)))
    return seen


def changed(task, **changes):
    """The task with other settings."""
    return dataclasses.replace(task, **changes)


# Time


@pytest.mark.parametrize("fill", FILLS)
def test_no_observation_fill_or_reward_depends_on_a_later_bar(fill, walk_task, make_market):
    market = random_market(make_market)
    task = changed(walk_task, fill=fill, window=3)
    now = 800  # within the test split: the scaler and the tercile edges come from the training bars
    actions = np.random.default_rng(0).integers(len(task.positions.fractions), size=900)
    true = walk(PreparedTask(task, market, None), "test", actions)
    other = walk(PreparedTask(task, altered_after(market, now), None), "test", actions)
    upto = [place for place, (bar, *_) in enumerate(true) if bar <= now]
    assert len(upto) > 50
    for place in upto:
        assert true[place][0] == other[place][0]
        np.testing.assert_array_equal(true[place][1], other[place][1])
        assert true[place][2:] == other[place][2:]
    after = upto[-1] + 1  # the first altered bar does change what follows: the comparison can fail
    assert not np.array_equal(true[after][1], other[after][1])


def test_training_sees_nothing_from_the_validation_start_on(walk_task, make_market):
    """Observations, rewards and their unit are the same whatever happens after the training split."""
    market = random_market(make_market)
    stop = walk_task.split.segments(market)["train"][0].stop
    trained = []
    for version in (market, altered_after(market, stop - 1), altered_after(market, stop - 2)):
        env = PreparedTask(walk_task, version, None).training_env(4, seed=3)
        rng = np.random.default_rng(0)
        rows = [env.reset()]
        for _ in range(600):
            observations, rewards, dones, _ = env.step(rng.integers(3, size=4))
            rows.append(np.column_stack([observations, rewards, dones]))
        trained.append(rows)
    for true, other in zip(trained[0], trained[1], strict=True):
        np.testing.assert_array_equal(true, other)
    assert any(not np.array_equal(a, b) for a, b in zip(trained[0], trained[2], strict=True))


@pytest.mark.parametrize("fill", FILLS)
def test_training_survives_prices_that_do_not_exist_after_its_split(fill, walk_task, make_market):
    """A price read at or after the validation start would turn rewards or observations into NaN."""
    market = random_market(make_market)
    stop = walk_task.split.segments(market)["train"][0].stop
    prepared = PreparedTask(changed(walk_task, fill=fill), market, None)
    for column in (*prepared.tape.prices, prepared.tape.features):
        column[stop:] = np.nan
    env = prepared.training_env(8, seed=0)
    observations = env.reset()
    rng, newest = np.random.default_rng(0), 0
    for _ in range(800):
        assert np.isfinite(observations).all()
        observations, rewards, dones, infos = env.step(rng.integers(3, size=8))
        assert np.isfinite(rewards).all()
        newest = max(newest, int(env.unwrapped.lanes.bars.max()))
        assert all(np.isfinite(infos[lane]["terminal_observation"]).all() for lane in np.flatnonzero(dones))
    assert stop - 10 < newest < stop, "episodes should come close to the end of the split, and never beyond it"


def test_the_first_reward_of_a_split_belongs_to_its_first_bar(walk_task, make_market):
    market = random_market(make_market)
    prepared = PreparedTask(walk_task, market, None)
    for split in ("validation", "test"):
        start = walk_task.split.segments(market)[split][0].start
        seen = walk(prepared, split, [walk_task.positions.fractions.index(1.0)])
        (one,) = market.instruments
        assert [bar for bar, *_ in seen] == [start - 1, start]
        paid = math.log(one.close[start] / one.open[start] * (1 - prepared.rules.costs.rate))
        assert seen[1][2] == pytest.approx(paid, abs=1e-12)


def test_a_walk_goes_to_the_last_bar_of_its_split(walk_task, make_market):
    market = random_market(make_market)
    prepared = PreparedTask(walk_task, market, None)
    for split, (segment,) in walk_task.split.segments(market).items():
        seen = walk(prepared, split, [0] * len(market.instruments[0]))
        assert seen[-1][0] == segment.stop - 1
        (row,) = prepared.evaluated(split)
        assert len(row) == len(seen) - 1
        np.testing.assert_array_equal(row.close, market.instruments[0].close[[bar for bar, *_ in seen]])
        np.testing.assert_array_equal(row.time, market.instruments[0].time[[bar for bar, *_ in seen[:-1]]])


def test_an_order_at_the_next_open_needs_a_market_with_opens(walk_task, make_market):
    market = dataclasses.replace(random_market(make_market), opens_are_real=False)

    class Given(MarketSource):
        def load(self):
            return market

    with pytest.raises(MarketError, match=r"no true opens: set env\.fill=next_close"):
        changed(walk_task, market=Given()).prepare()
    assert changed(walk_task, market=Given(), fill="next_close").prepare().env("train")


class Normalised(Feature):
    """A user's feature that works on the bars it is handed instead of a copy."""

    def columns(self):
        return ["normalised"]

    def warmup(self):
        return 0

    def compute(self, instrument):
        close = instrument.close
        close /= close[0]
        return close[:, None]


def test_a_feature_that_changes_the_bars_is_refused_by_name(prepared):
    features = {"mine": Normalised(), **prepared.task.features}
    with pytest.raises(
        MarketError,
        match=r"^env\.features\.mine: Normalised\.compute changes the bars of train_0, which are traded too \(.*read-"
        r"only.*\); change a copy, as in close = instrument\.close\.copy\(\)$",
    ):
        PreparedTask(changed(prepared.task, features=features), prepared.market, None)


# Episodes


def test_an_episode_begins_with_a_reset(prepared):
    for env, action in ((prepared.env("train"), 0), (prepared.vec_env("train", 2, 0), np.zeros(2))):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"^expected reset\(\) before the first step\(\)$"):
            env.step(action)
        env.reset()
        env.step(action)


@pytest.mark.parametrize("make", [lambda task: task.env, lambda task: lambda split: task.vec_env(split, 2, 0)])
def test_a_split_that_does_not_exist_is_refused_with_those_that_do(make, prepared):
    with pytest.raises(ValueError, match=r"^expected a split among train, validation, test, got 'tset'$"):
        make(prepared)("tset")


def test_rewards_of_an_episode_sum_to_the_log_profit(prepared):
    env = prepared.env("train")
    rng = np.random.default_rng(0)
    for episode in range(5):
        _, info = env.reset(seed=episode)
        first, total, done = info["equity"], 0.0, False
        while not done:
            _, reward, terminated, truncated, info = env.step(rng.integers(3))
            total, done = total + reward, terminated or truncated
        assert truncated
        assert total == pytest.approx(math.log(info["equity"] / first), abs=1e-9)


def test_an_episode_is_as_long_as_asked_within_one_series(prepared):
    bars = len(prepared.market.instruments[0])
    env = prepared.vec_env("train", 16, seed=0)
    env.reset()
    starts = set()
    for _ in range(3 * prepared.task.episode_bars):
        starts.update(env.lanes.starts.tolist())
        _, _, dones, infos = env.step(np.ones(16))
        for lane in np.flatnonzero(dones):
            assert infos[lane]["episode"]["l"] == prepared.task.episode_bars
        np.testing.assert_array_equal(env.lanes.starts // bars, env.lanes.ends // bars)
    assert {start // bars for start in starts} == {0, 1}, "both training series should be drawn"
    assert len(starts) > 20, "starts should be random"


def test_an_episode_ends_with_its_split_where_that_is_shorter(walk_task, make_market):
    """135 validation bars, of which every one pays, and 252 asked for."""
    prepared = PreparedTask(walk_task, random_market(make_market), None)
    env = prepared.env("validation")
    for _ in range(3):
        env.reset(seed=0)
        length, done = 0, False
        while not done:
            _, _, terminated, truncated, _ = env.step(1)
            length, done = length + 1, terminated or truncated
        assert (length, truncated) == (135, True)


def test_the_account_is_the_last_two_numbers_of_an_observation(walk_task, make_market):
    """Exposure, and ten times the log return since the last order (filled at the open, after costs)."""
    market = random_market(make_market)
    (one,), clip = market.instruments, walk_task.clip
    seen = walk(PreparedTask(walk_task, market, None), "test", [2] * 10 + [0] * 10)
    np.testing.assert_array_equal(seen[0][1][-2:], 0.0)
    entries = 0
    for bar, observation, _, info in seen[1:]:
        assert info["exposure"] == pytest.approx(info["units"] * one.close[bar] / info["equity"])
        assert observation[-2] == pytest.approx(np.clip(info["exposure"], -clip, clip), rel=1e-6)
        if info["traded"]:
            entries += 1
            entry = info["equity"] - info["units"] * (one.close[bar] - one.open[bar])
        assert observation[-1] == pytest.approx(10 * math.log(info["equity"] / entry), abs=1e-5)
    assert entries == 2


def test_a_window_is_feature_rows_oldest_first(walk_task, make_market):
    market = random_market(make_market)
    one = PreparedTask(walk_task, market, None)
    single = walk(one, "test", [1] * 5)
    windowed = walk(PreparedTask(changed(walk_task, window=3), market, one.scaler), "test", [1] * 5)
    rows = {bar: observation[:-2] for bar, observation, *_ in single}
    for bar, observation, *_ in windowed[2:]:
        np.testing.assert_array_equal(observation[:-2], np.concatenate([rows[bar - 2], rows[bar - 1], rows[bar]]))


def test_the_gate_sees_the_newest_rows_of_its_features_and_never_the_account(walk_task, make_market):
    task = changed(walk_task, window=3, gate_features=["volatility", "trend"])
    prepared = PreparedTask(task, random_market(make_market), None)
    names = prepared.feature_names
    assert prepared.env("train").observation_space.shape == (3 * len(names) + 2,)
    newest = 2 * len(names)
    seen = [names[column - newest] for column in prepared.rules.gate_columns]
    assert sorted(seen) == sorted(name for name in names if name.startswith(("trend_", "volatility_")))
    assert prepared.env("train").gate_columns == prepared.vec_env("train", 2, 0).gate_columns


def test_same_seed_same_trajectory_and_another_seed_another(prepared):
    def trajectory(seed):
        env, rng = prepared.env("train"), np.random.default_rng(0)
        rows = [env.reset(seed=seed)[0]]
        for step in range(600):
            observation, reward, terminated, truncated, _ = env.step(rng.integers(3))
            rows.append(np.append(observation, reward))
            if terminated or truncated:
                rows.append(env.reset()[0])
                assert step < 599
        return np.concatenate(rows)

    np.testing.assert_array_equal(trajectory(5), trajectory(5))
    assert not np.array_equal(trajectory(5), trajectory(6))


def test_all_observations_lie_in_the_space(prepared):
    task = changed(prepared.task, positions=discrete([-20.0, 0.0, 20.0]), margin=None)
    env = PreparedTask(task, prepared.market, None).env("train")
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(500):
        assert env.observation_space.contains(observation)
        observation, _, terminated, truncated, _ = env.step(rng.integers(3))
        if terminated or truncated:
            assert env.observation_space.contains(observation)
            observation, _ = env.reset()


# Checkers


@pytest.mark.parametrize("fill", FILLS)
def test_gymnasium_and_sb3_find_nothing_to_complain_about(fill, prepared):
    task = changed(prepared.task, fill=fill, window=2)
    env = PreparedTask(task, prepared.market, None).env("train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A render check makes the environment anew from its registered id; this one is not registered, nor drawn.
        gymnasium_check_env(env, skip_render_check=True)
        sb3_check_env(env)


def test_the_env_works_under_gymnasium_wrappers(prepared):
    env = gymnasium.wrappers.RecordEpisodeStatistics(prepared.env("train"))
    env.reset(seed=0)
    total, done = 0.0, False
    while not done:
        _, reward, terminated, truncated, info = env.step(2)
        total, done = total + reward, terminated or truncated
    assert info["episode"]["r"] == pytest.approx(total)
    assert info["episode"]["l"] == prepared.task.episode_bars


# Lanes


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        (11, {"fill": "next_open"}),
        (0, {"fill": "next_close", "window": 3, "positions": discrete([-25.0, 0.0, 0.5, 25.0]), "episode_bars": 60}),
        (2**31 - 20, {"fill": "this_close", "positions": discrete([-25.0, 0.0, 25.0]), "episode_bars": 60}),
    ],
)
def test_every_lane_is_bit_for_bit_the_single_environment_of_its_seed(seed, changes, prepared):
    """3 x 8 x 500 = 12,000 random steps, with leverage that also ends episodes by bankruptcy."""
    task = PreparedTask(changed(prepared.task, **changes, margin=None), prepared.market, None)
    lanes, rng = 8, np.random.default_rng(seed)
    many = task.vec_env("train", lanes, seed)
    singles = [task.env("train") for _ in range(lanes)]
    np.testing.assert_array_equal(
        many.reset(), [single.reset(seed=seed + lane)[0] for lane, single in enumerate(singles)]
    )
    ends = {"truncated": 0, "terminated": 0}
    for _ in range(500):
        actions = rng.integers(len(task.task.positions.fractions), size=lanes)
        observations, rewards, dones, infos = many.step(actions)
        for lane, single in enumerate(singles):
            observation, reward, terminated, truncated, info = single.step(actions[lane])
            assert rewards[lane] == np.float32(reward)
            assert dones[lane] == (terminated or truncated)
            if dones[lane]:
                ends["terminated" if terminated else "truncated"] += 1
                np.testing.assert_array_equal(infos[lane]["terminal_observation"], observation)
                assert infos[lane]["TimeLimit.truncated"] == truncated
                assert infos[lane]["episode"]["r"] == math.log(info["equity"] / task.task.initial_equity)
                observation, _ = single.reset()
            np.testing.assert_array_equal(observations[lane], observation)
    assert ends["truncated"] > 0
    assert ends["terminated"] > 0 or max(task.task.positions.fractions) == 1.0


def test_a_finished_lane_speaks_the_dialect_of_sb3(prepared):
    task = PreparedTask(changed(prepared.task, episode_bars=20), prepared.market, None)
    env = task.vec_env("train", 3, seed=4)
    env.reset()
    sums, before = np.zeros(3), env.lanes.starts.copy()
    for step in range(1, 21):
        observations, rewards, dones, infos = env.step(np.array([0, 1, 2]))
        sums += rewards
        assert dones.tolist() == [step == 20] * 3
        assert all((set(info) == {"log_return"}) == (step < 20) for info in infos)
    assert rewards.dtype == np.float32
    for lane, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        assert info["episode"]["l"] == 20
        assert info["episode"]["r"] == pytest.approx(sums[lane], abs=1e-6)
        row = before[lane] + 20  # the terminal observation is the finished episode's, not the next one's
        np.testing.assert_array_equal(info["terminal_observation"][:-2], task.tape.features[row])
        np.testing.assert_array_equal(observations[lane][:-2], task.tape.features[env.lanes.starts[lane]])
        np.testing.assert_array_equal(observations[lane][-2:], 0.0)  # all cash again
    assert infos[0]["terminal_observation"][-2] < 0 < infos[2]["terminal_observation"][-2]


def test_a_bankrupt_lane_is_not_reported_as_truncated(prepared):
    task = changed(prepared.task, positions=discrete([-80.0, 0.0, 80.0]), margin=None)
    task = PreparedTask(task, prepared.market, None)
    env = task.vec_env("train", 4, seed=0)
    env.reset()
    for _ in range(252):
        _, rewards, dones, infos = env.step(np.zeros(4))
        assert np.isfinite(rewards).all()
        if dones.any():
            break
    info = infos[int(np.flatnonzero(dones)[0])]
    assert info["TimeLimit.truncated"] is False
    assert info["episode"]["r"] == pytest.approx(math.log(1e-6), abs=1e-9)
    assert info["episode"]["l"] < 252


def test_results_of_a_step_stay_as_they_are_when_the_next_is_taken(prepared):
    """SB3 keeps references to the arrays it is given, over the end of episodes too."""
    env = PreparedTask(changed(prepared.task, episode_bars=3), prepared.market, None).vec_env("train", 2, seed=0)
    given = [env.reset()]
    copies = [given[0].copy()]
    for step in range(7):
        observations, rewards, dones, infos = env.step(np.array([step % 3, 2]))
        fresh = [observations, rewards, dones, *(info["terminal_observation"] for info in infos if len(info) > 1)]
        given.extend(fresh)
        copies.extend(one.copy() for one in fresh)
    for one, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(one, copy)


def test_seeding_a_vec_env_later_is_as_good_as_at_once(prepared):
    at_once, later = prepared.vec_env("train", 4, seed=7), prepared.vec_env("train", 4, seed=None)
    later.seed(7)
    np.testing.assert_array_equal(at_once.reset(), later.reset())
    np.testing.assert_array_equal(at_once.reset(), later.reset())
    assert not np.array_equal(prepared.vec_env("train", 4, seed=8).reset(), prepared.vec_env("train", 4, 7).reset())


def test_unit_rewards_scale_what_the_learner_sees_and_nothing_else(prepared):
    plain = PreparedTask(changed(prepared.task, unit_rewards=False), prepared.market, None)
    raw, scaled = plain.training_env(4, seed=2), prepared.training_env(4, seed=2)
    assert type(raw).__name__ == "TradingVecEnv"
    train = [np.log(one.close[160:]) for one in prepared.market.instruments if one.symbol.startswith("train")]
    unit = np.concatenate([np.diff(one) for one in train]).std()
    np.testing.assert_array_equal(raw.reset(), scaled.reset())
    rng, everything = np.random.default_rng(0), []
    for _ in range(300):
        actions = rng.integers(3, size=4)
        observations, rewards, dones, infos = raw.step(actions)
        observations_scaled, rewards_scaled, dones_scaled, infos_scaled = scaled.step(actions)
        np.testing.assert_array_equal(observations, observations_scaled)
        np.testing.assert_array_equal(dones, dones_scaled)
        assert [info.get("episode") for info in infos] == [info.get("episode") for info in infos_scaled]
        np.testing.assert_allclose(rewards_scaled, rewards / unit, rtol=1e-5)
        assert rewards_scaled.dtype == np.float32
        everything.append(rewards_scaled)
    assert 0.3 < np.std(everything) < 3.0, "in units of a bar's volatility"


def test_nothing_is_drawn_and_the_refusal_names_what_is(prepared):
    for env in (prepared.env("test"), prepared.vec_env("test", 2, 0)):
        message = (
            r"^trading environments draw nothing \(render_modes is empty\); report\.html and figures/ of a run show"
        )
        with pytest.raises(NotImplementedError, match=message):
            env.render()


def test_the_lanes_of_a_vec_env_share_their_settings(prepared):
    env = prepared.vec_env("train", 3, seed=0)
    assert env.get_attr("gate_columns") == [prepared.rules.gate_columns] * 3
    assert env.get_attr("gate_columns", [1]) == [prepared.rules.gate_columns]
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False] * 3
    with pytest.raises(NotImplementedError, match="share their settings"):
        env.set_attr("gate_columns", ())
    with pytest.raises(NotImplementedError, match="no environment for each lane"):
        env.env_method("reset")


@pytest.mark.parametrize(
    "actions", [None, "x", [0], [0, 1, 2], {}, [0.0, np.nan], [0.0, np.inf], [[0], [0, 1]], [True, False]]
)
def test_what_is_no_action_for_each_lane_is_refused(actions, prepared):
    env = prepared.vec_env("train", 2, 0)
    env.reset()
    with pytest.raises(ValueError, match=r"^expected 2 numbers as an action of Discrete\(3\), got "):
        env.step(actions)
    with pytest.raises(ValueError, match=r"^expected an action from 0 to 2, got \[0, 1\.5\]$"):
        env.step([0, 1.5])


@pytest.mark.parametrize("actions", [[1, 2], (1.0, 2.0), np.array([[1], [2]]), np.array([1, 2], np.uint8)])
def test_actions_of_every_type_are_read(actions, prepared):
    env, same = (prepared.vec_env("train", 2, 0) for _ in range(2))
    env.reset()
    same.reset()
    np.testing.assert_array_equal(env.step(actions)[0], same.step(np.array([1, 2]))[0])
