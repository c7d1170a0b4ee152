"""Filtered regime probabilities: the exact filter, an honest fit, and a model that travels with the agent."""

import dataclasses
import itertools
import json
import logging

import numpy as np
import pytest

from moe_trader.bundle import BundleError
from moe_trader.env import Feature, Market, MarketError, Segment
from moe_trader.env.features import fitted
from moe_trader.env.features import markov_switching as ms
from moe_trader.env.features.markov_switching import MarkovSwitching, fit, maximise
from moe_trader.env.lookahead import LookAhead
from moe_trader.evaluate import saved_features, saved_scaler
from moe_trader.option import ConfigError, build, describe

TRUE = MarkovSwitching(
    intercept=[5e-4, -1e-3, 0.0],
    ar1=[0.1, -0.5, 0.3],
    volatility=[0.004, 0.009, 0.02],
    transition=[[0.98, 0.01, 0.01], [0.02, 0.97, 0.01], [0.02, 0.02, 0.96]],
)
ADDED = ["env/features=[multi_horizon,regime_probabilities]"]


def drawn(model, n, seed=0):
    """Log returns and regimes of a model."""
    rng, transition = np.random.default_rng(seed), np.array(model.transition)
    z, last, returns, regimes = 0, 0.0, [], []
    for _ in range(n):
        z = rng.choice(len(transition), p=transition[z])
        last = model.intercept[z] + model.ar1[z] * last + model.volatility[z] * rng.standard_normal()
        returns.append(last)
        regimes.append(z)
    return np.array(returns), np.array(regimes)


def density(model, z, value, before):
    score = (value - model.intercept[z] - model.ar1[z] * before) / model.volatility[z]
    return np.exp(-0.5 * score**2) / (np.sqrt(2 * np.pi) * model.volatility[z])


def joint(model, returns, previous):
    """p(path, returns) of every path of regimes."""
    k = len(model.volatility)
    found = {}
    for path in itertools.product(range(k), repeat=len(returns)):
        chance = 1 / k
        for t, z in enumerate(path):
            chance *= model.transition[path[t - 1]][z] if t else 1.0
            chance *= density(model, z, returns[t], previous[t])
        found[path] = chance
    return found


def sample_of(series):
    return ms._sample(series, 2)


@pytest.fixture(scope="module")
def feature(settings, make_settings):
    return make_settings(*ADDED).env.features["regime_probabilities"]


@pytest.fixture(scope="module")
def task(make_settings):
    return make_settings(*ADDED).env


@pytest.fixture(scope="module")
def fitted_task(task):
    return task.prepare()


def model_of(prepared):
    return prepared.task.features["regime_probabilities"].model


# --- the filter -------------------------------------------------------------------------------------------------------


def test_the_filter_is_the_sum_over_all_paths_of_regimes():
    returns, _ = drawn(TRUE, 7)
    previous = np.append(0.003, returns[:-1])
    filtered, likelihood = TRUE.filter(returns, previous)
    for t in range(7):
        paths = joint(TRUE, returns[: t + 1], previous[: t + 1])
        expected = np.zeros(3)
        for path, chance in paths.items():
            expected[path[-1]] += chance
        np.testing.assert_allclose(filtered[t], expected / expected.sum(), rtol=1e-9)
    assert likelihood == pytest.approx(np.log(sum(paths.values())), rel=1e-12)


def test_the_smoother_is_the_sum_over_all_paths_of_regimes():
    """Over two series, neither of which knows of the other."""
    returns, previous = drawn(TRUE, 9)[0], drawn(TRUE, 9, seed=1)[0]
    first = np.isin(np.arange(9), [0, 5])
    transition = np.array(TRUE.transition)
    filtered, predicted, likelihood = ms._forward(TRUE._log_density(returns, previous), transition, first)
    smoothed, moves = ms._backward(filtered, predicted, transition, first)
    expected_moves, total = np.zeros((3, 3)), 0.0
    for part in (slice(0, 5), slice(5, 9)):
        paths = joint(TRUE, returns[part], previous[part])
        whole, expected = sum(paths.values()), np.zeros((part.stop - part.start, 3))
        for path, chance in paths.items():
            expected[np.arange(len(path)), path] += chance / whole
            for one, after in itertools.pairwise(path):
                expected_moves[one, after] += chance / whole
        np.testing.assert_allclose(smoothed[part], expected, rtol=1e-9)
        total += np.log(whole)
    np.testing.assert_allclose(moves, expected_moves, rtol=1e-9)
    assert likelihood == pytest.approx(total, rel=1e-12)


def test_no_crash_is_too_unlikely_for_every_regime():
    returns = np.array([0.001, -3.0, 0.001, 5.0, 0.0])
    filtered, likelihood = TRUE.filter(returns, np.append(0.0, returns[:-1]))
    np.testing.assert_allclose(filtered.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(likelihood)
    assert filtered[1].argmax() == 2


# --- the fit ----------------------------------------------------------------------------------------------------------


def test_known_parameters_are_recovered():
    model = fit([drawn(TRUE, 10_000, seed)[0] for seed in range(4)], states=3, order=1, starts=3)
    np.testing.assert_allclose(model.intercept, TRUE.intercept, atol=4e-4)
    np.testing.assert_allclose(model.ar1, TRUE.ar1, atol=0.03)
    np.testing.assert_allclose(model.volatility, TRUE.volatility, rtol=0.03)
    np.testing.assert_allclose(model.transition, TRUE.transition, atol=0.005)


def test_a_gaussian_hidden_markov_model_is_recovered_without_autoregression():
    plain = dataclasses.replace(TRUE, ar1=[0.0, 0.0, 0.0], intercept=[1e-3, 0.0, -2e-3])
    model = fit([drawn(plain, 10_000, seed)[0] for seed in range(4)], states=3, order=0, starts=3)
    assert model.ar1 == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(model.intercept, plain.intercept, atol=4e-4)
    np.testing.assert_allclose(model.volatility, plain.volatility, rtol=0.03)
    np.testing.assert_allclose(model.transition, plain.transition, atol=0.005)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_likelihood_never_falls(order, seed):
    """On returns that have no regimes, too: half of these are noise, some of it unmoved prices."""
    rng = np.random.default_rng(seed)
    noise = np.where(rng.random(800) < 0.3, 0.0, rng.standard_t(3, 800) * 0.01)
    sample, _ = sample_of([drawn(TRUE, 800, seed)[0], noise])
    _, path, expected = maximise(sample, ms._starting_point(sample, 3, order, rng), order, 200)
    assert len(path) > 5
    assert min(np.diff(path)) > -1e-9 * abs(path[-1])
    assert path[-1] > path[0] + 10
    assert expected.sum() == pytest.approx(len(sample.returns))


def test_the_likelihood_of_several_series_is_the_sum_of_theirs():
    series = [drawn(TRUE, 300, 0)[0], drawn(TRUE, 200, 1)[0]]
    sample, scale = sample_of(series)
    point = ms._starting_point(sample, 3, 1, np.random.default_rng(0))
    _, (likelihood, *_), _ = maximise(sample, point, 1, 1)
    assert likelihood == pytest.approx(sum(point.filter(one[1:] / scale, one[:-1] / scale)[1] for one in series))
    joined, _ = sample_of([np.concatenate(series)])
    assert maximise(joined, point, 1, 1)[1][0] != pytest.approx(likelihood)


def test_regimes_are_numbered_from_the_calmest_to_the_wildest(fitted_task):
    model = model_of(fitted_task)
    assert model.volatility == sorted(model.volatility)
    names = [name for name in fitted_task.feature_names if name.startswith("regime")]
    assert names == [f"regime_{number}_probability" for number in (1, 2, 3, 4)]
    swapped = dataclasses.replace(model, intercept=[4.0, 3.0, 2.0, 1.0], volatility=[2.0, 1.0, 1.0, 0.5])
    assert ms._sorted(swapped, 1.0).intercept == [1.0, 2.0, 3.0, 4.0]


def test_the_scale_of_the_returns_changes_nothing_but_the_models():
    returns, _ = drawn(TRUE, 3000)
    here, there = (fit([returns * factor], states=3, order=1, starts=2) for factor in (1.0, 2.0**-10))
    np.testing.assert_array_equal(np.array(there.volatility) * 2.0**10, here.volatility)
    assert there.transition == here.transition


def test_the_same_bars_give_the_same_model(task, fitted_task):
    assert model_of(task.prepare()) == model_of(fitted_task)


@pytest.mark.parametrize(
    ("returns", "states", "message"),
    [
        (
            [np.zeros(900)],
            2,
            r"^every training return is the same \(0: the price never moves\), and shows no regimes$",
        ),
        (
            [np.ones(150), np.ones(200)],
            4,
            r"^expected at least 400 training returns for 4 regimes, got 348; train on more bars, set fewer states, ",
        ),
        ([], 2, r"^expected at least 200 training returns for 2 regimes, got 0"),
        (
            [np.where(np.arange(900) == 500, -0.5, drawn(TRUE, 900)[0] / 10)],
            2,
            r"^a regime died: from each of 2 starting points, one of 2 regimes is left with fewer than 20 of the 899 "
            r"training returns; leave it out$",
        ),
        (
            [np.where(np.arange(900) == 500, -0.5, drawn(TRUE, 900)[0] / 10)],
            3,
            r"; use fewer, env.features.regime_probabilities.states=2$",
        ),
    ],
)
def test_returns_that_have_no_such_regimes_are_refused(returns, states, message):
    with pytest.raises(MarketError, match=message):
        fit(returns, states, order=1, starts=2)


def test_a_model_that_did_not_settle_is_told(caplog, monkeypatch):
    monkeypatch.setattr(ms, "_FIRST_ROUNDS", 1)
    monkeypatch.setattr(ms, "_ROUNDS", 3)
    with caplog.at_level(logging.WARNING, logger="moe_trader"):
        fit([drawn(TRUE, 3000)[0]], states=3, order=1, starts=1)
    assert "The regimes have not settled after 3 iterations; used as they are." in caplog.text


# --- the feature ------------------------------------------------------------------------------------------------------


def test_the_feature_says_where_it_cannot_be_fitted_and_the_way_out(task, make_instrument):
    still = Market("still", tuple(make_instrument(np.full(700, 9.0), symbol=f"train_{n}") for n in (0, 1)), True)
    with pytest.raises(
        MarketError,
        match=r"^env\.features\.regime_probabilities: every training return is the same \(0: the price never "
        r"moves\), and shows no regimes \(to leave it out: '~env\.features\.regime_probabilities'\)$",
    ):
        fitted(task.features, still, [Segment(0, 0, 700), Segment(1, 0, 700)])


def test_an_unfitted_feature_is_not_computed(feature, make_instrument):
    with pytest.raises(MarketError, match=r"^the regimes are not fitted yet; prepare the task, or call fit with the "):
        feature.compute(make_instrument(np.arange(1.0, 9.0)))


def test_it_is_causal_once_it_is_fitted(fitted_task):
    assert LookAhead(cuts=6, seed=0).leaks(fitted_task.task.features, fitted_task.market) == []


def test_only_training_bars_are_fitted(task, fitted_task):
    """Other validation and test prices fit the same model; another training bar does not."""
    scrambled = np.random.default_rng(0)

    def with_other(split):
        return dataclasses.replace(
            fitted_task.market,
            instruments=tuple(
                dataclasses.replace(
                    one, **dict.fromkeys(("open", "high", "low", "close"), np.exp(scrambled.normal(0, 0.1, len(one))))
                )
                if one.symbol.startswith(split)
                else one
                for one in fitted_task.market.instruments
            ),
        )

    for split in ("validation", "test"):
        assert model_of(task.prepare(market=with_other(split))) == model_of(fitted_task)
    assert model_of(task.prepare(market=with_other("train_0"))) != model_of(fitted_task)


def test_bars_after_the_training_split_of_one_instrument_are_not_fitted(make_settings, make_market):
    task = make_settings("env=csv", "env.market.path=none.csv", *ADDED, small=False).env
    moves = drawn(TRUE, 1200)[0]
    market = make_market(100 * np.exp(np.cumsum(moves)))
    (train,) = task.split.segments(market)["train"]
    later = np.where(np.arange(1200) >= train.stop, moves[::-1] * 2, moves)
    altered = make_market(100 * np.exp(np.cumsum(later)))
    assert model_of(task.prepare(market=altered)) == model_of(task.prepare(market=market))
    first = make_market(100 * np.exp(np.cumsum(np.where(np.arange(1200) == train.stop - 1, 0.05, moves))))
    assert model_of(task.prepare(market=first)) != model_of(task.prepare(market=market))


def test_the_filter_has_forgotten_how_it_began_after_its_warm_up(fitted_task):
    feature, one = fitted_task.task.features["regime_probabilities"], fitted_task.market.instruments[0]
    names = ("time", "open", "high", "low", "close", "volume")
    late = dataclasses.replace(one, **{name: getattr(one, name)[300:] for name in names}, regime=None)
    gap = np.abs(feature.compute(late) - feature.compute(one)[300:])[feature.warmup() :]
    assert gap.max() < 0.05


def test_a_model_of_the_users_own_is_used_as_it_is(make_settings, feature):
    given = ["env.features.regime_probabilities.states=3"]
    given += [f"env.features.regime_probabilities.model={json.dumps(describe(TRUE)).replace(chr(34), '')}"]
    assert model_of(make_settings(*ADDED, *given).env.prepare()) == TRUE
    with pytest.raises(ConfigError, match=r"^env\.features\.regime_probabilities: model: expected 4 regimes, as "):
        make_settings(*ADDED, given[1])


@pytest.mark.parametrize("changes", [{"ar1": [0.0]}, {"transition": [[1.0]]}, {"transition": [[0.5, 0.4, 0.0]] * 3}])
def test_a_model_that_is_none_is_refused(changes):
    with pytest.raises(ConfigError, match=r"^model: expected 3 intercepts, ar1 and rows of 3 chances that sum to 1"):
        build(describe(TRUE) | changes, "model")


class Learner(Feature):
    """A feature of a user's own that learns something, and does it wrong."""

    def __init__(self, learn):
        self.learn = learn

    def fit(self, series):
        return self.learn(self, series)

    def columns(self):
        return ["mine"]

    def warmup(self):
        return 0

    def compute(self, instrument):
        return np.zeros((len(instrument), 1))


@pytest.mark.parametrize("learn", [lambda self, series: None, lambda self, series: self])
def test_what_fit_returns_must_be_able_to_travel(learn, fitted_task):
    with pytest.raises(
        MarketError,
        match=r"^env\.features\.own: expected Learner\.fit\(\) to return an option that holds what was fitted, and "
        r"that returns itself when it is fitted again, got (NoneType|Learner); mend Learner\.fit$",
    ):
        fitted({"own": Learner(learn)}, fitted_task.market, [Segment(0, 0, 500)])


def test_a_fit_gets_copies_of_the_training_bars_without_true_regimes(fitted_task):
    seen = []
    with pytest.raises(MarketError, match=r"Learner"):
        fitted({"own": Learner(lambda self, series: seen.extend(series))}, fitted_task.market, [Segment(1, 20, 500)])
    (one,) = seen
    assert (one.symbol, len(one), one.regime) == ("train_1", 480, None)
    np.testing.assert_array_equal(one.close, fitted_task.market.instruments[1].close[20:500])
    assert one.close.base is not fitted_task.market.instruments[1].close


# --- the bundle -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(fitted_task, make_agent, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "bundle"
    make_agent(env=fitted_task.training_env(4, 0)).save(path, task=fitted_task.summary())
    return path


def test_what_was_fitted_comes_back_to_the_bit_and_is_not_fitted_to_other_prices(task, fitted_task, saved):
    found = saved_features(saved, task.features)
    assert found["regime_probabilities"] == fitted_task.task.features["regime_probabilities"]
    assert found["trend"] is task.features["trend"]
    again = dataclasses.replace(task, features=found)
    same = again.prepare(saved_scaler(saved))
    np.testing.assert_array_equal(same.tape.features, fitted_task.tape.features)
    assert same.summary() == fitted_task.summary()
    other = dataclasses.replace(task.market, seed=9).load()
    assert model_of(again.prepare(saved_scaler(saved), other)) == model_of(fitted_task)
    assert model_of(task.prepare(market=other)) != model_of(fitted_task)


def test_with_a_saved_scaler_nothing_is_fitted(task, saved):
    with pytest.raises(MarketError, match=r"^the regimes are not fitted yet"):
        task.prepare(saved_scaler(saved))


def edited(saved, tmp_path, change):
    manifest = json.loads((saved / "manifest.json").read_text())
    change(manifest["task"])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda task: task.pop("fitted"),
        lambda task: task["fitted"].pop("regime_probabilities"),
        lambda task: task["fitted"].update(regime_probabilities=3),
        lambda task: task["fitted"]["regime_probabilities"].update(_target_="os.system"),
        lambda task: task["fitted"]["regime_probabilities"]["model"].update(volatility=[0.1]),
    ],
)
def test_a_manifest_without_what_was_fitted_is_refused(change, task, saved, tmp_path):
    with pytest.raises(BundleError, match=r"manifest\.json: its `task` holds no usable fitted regime_probabilities \("):
        saved_features(edited(saved, tmp_path, change), task.features)


def test_a_config_that_sets_it_otherwise_is_refused(make_settings, saved):
    other = make_settings(*ADDED, "env.features.regime_probabilities.order=0").env
    with pytest.raises(
        ConfigError,
        match=r"^env\.features\.regime_probabilities\.order: the config of the run says 0, and the agent was trained "
        r"with 1; restore the config of the run, or train again$",
    ):
        saved_features(saved, other.features)
