"""The synthetic market draws what it says, and its Bayes-filter trader knows no more than it may."""

import dataclasses
import itertools

import numpy as np
import pytest

from moe_trader.env.synthetic import Regime
from moe_trader.env.task import PreparedTask
from moe_trader.option import ConfigError

ONE_EACH = {"train": 1, "validation": 1, "test": 1}


@pytest.fixture(scope="module")
def source(settings):
    """The market of conf/env/synthetic.yaml, 700 bars."""
    return settings.env.market


@pytest.fixture(scope="module")
def long_series(source):
    """100,000 bars of one series."""
    return dataclasses.replace(source, bars=100_000, series=ONE_EACH).load().instruments[0]


def returns_of(instrument):
    return np.diff(np.log(instrument.close), prepend=np.log(instrument.close[0]))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_rows_of_the_transition_matrix_sum_to_one(n, source):
    few = dataclasses.replace(source, regimes=dict(list(source.regimes.items())[:n]))
    matrix = few.transition()
    assert matrix.shape == (n, n)
    assert (matrix > 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.diag(matrix), 1.0 if n == 1 else source.persistence)


def test_regimes_follow_the_transition_matrix(source, long_series):
    n = len(source.regimes)
    counts = np.zeros((n, n))
    np.add.at(counts, (long_series.regime[:-1], long_series.regime[1:]), 1)
    assert counts.min() > 0
    empirical, true = counts / counts.sum(axis=1, keepdims=True), source.transition()
    error = np.sqrt(true * (1 - true) / counts.sum(axis=1, keepdims=True))
    assert (np.abs(empirical - true) < 4 * error).all()


def test_returns_within_a_regime_have_its_mean_autoregression_and_volatility(source, long_series):
    strong = {
        "up": Regime(mean_bp=40.0, ar1=0.5, volatility_bp=50.0),
        "down": Regime(mean_bp=-40.0, ar1=-0.5, volatility_bp=90.0),
    }
    stronger = dataclasses.replace(source, regimes=strong, bars=40_000, series=ONE_EACH).load().instruments[0]
    for regimes, series in ((source.regimes, long_series), (strong, stronger)):
        returns = returns_of(series)
        for index, (name, regime) in enumerate(regimes.items()):
            bars = np.flatnonzero(series.regime == index)
            bars = bars[bars > 0]
            assert len(bars) > 15_000
            design = np.column_stack([np.ones(len(bars)), returns[bars - 1]])
            (constant, slope), *_ = np.linalg.lstsq(design, returns[bars], rcond=None)
            spread = (returns[bars] - design @ [constant, slope]).std()
            error = spread / np.sqrt(len(bars)) * 1e4
            assert slope == pytest.approx(regime.ar1, abs=0.03), name
            assert spread * 1e4 == pytest.approx(regime.volatility_bp, rel=0.02), name
            assert constant * 1e4 == pytest.approx(regime.mean_bp * (1 - regime.ar1), abs=4 * error), name


def test_bars_are_consistent_and_open_where_the_last_one_closed(source):
    for one in source.load().instruments:
        np.testing.assert_array_equal(one.open[1:], one.close[:-1])
        np.testing.assert_array_equal(one.high, np.maximum(one.open, one.close))
        np.testing.assert_array_equal(one.low, np.minimum(one.open, one.close))
        assert (np.diff(one.time) > np.timedelta64(0)).all()
        assert (one.low > 0).all()
        assert len(one) == 700


def test_stamps_are_business_days(source):
    market = source.load()
    assert np.is_busday(market.instruments[0].time.astype("datetime64[D]")).all()
    assert 250 <= market.instruments[0].bars_per_year <= 262


def test_every_series_is_drawn_by_itself(source):
    market = source.load()
    assert [one.symbol for one in market.instruments] == ["train_0", "train_1", "validation_0", "test_0"]
    for one, other in itertools.combinations(market.instruments, 2):
        assert abs(np.corrcoef(returns_of(one), returns_of(other))[0, 1]) < 0.2
        assert not np.array_equal(one.regime, other.regime)


def test_same_seed_same_prices_and_another_seed_others(source):
    assert source.load().sha256() == source.load().sha256()
    assert source.load().sha256() != dataclasses.replace(source, seed=1).load().sha256()


def test_asking_for_more_series_leaves_the_others_as_they_are(source):
    more = dataclasses.replace(source, series={"train": 3, "validation": 2, "test": 2}).load()
    by_symbol = {one.symbol: one for one in more.instruments}
    for one in source.load().instruments:
        np.testing.assert_array_equal(by_symbol[one.symbol].close, one.close)


def test_prices_do_not_depend_on_the_seed_of_the_run(make_settings):
    assert make_settings("seed=1").env.market.load().sha256() == make_settings("seed=2").env.market.load().sha256()


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_regimes_make_a_market_one_can_train_on(n, settings):
    regimes = dict(list(settings.env.market.regimes.items())[:n])
    task = dataclasses.replace(settings.env, market=dataclasses.replace(settings.env.market, regimes=regimes))
    prepared = task.prepare()
    assert prepared.labels.names == tuple(regimes)
    assert {*np.concatenate(prepared.labels.index).tolist()} == set(range(n))
    env = prepared.training_env(2, seed=0)
    env.reset()
    assert np.isfinite(env.step(np.array([0, 2]))[1]).all()
    targets = prepared.evaluated("test")[0].references["bayes_filter"]
    assert set(targets) <= {-1.0, 0.0, 1.0}
    assert len(targets) == len(prepared.evaluated("test")[0])


# The Bayes-filter trader


def test_the_bayes_filter_decides_without_later_prices(source):
    market = source.load()
    (true,) = (targets[3] for targets in source.reference_targets(market, 2e-4).values())
    assert {-1.0, 1.0} <= set(true)
    for now in (100, 350, 698):
        after = np.arange(700) > now
        one = market.instruments[3]
        factor = np.where(after, 1.02 ** np.arange(700), 1.0)
        prices = {name: getattr(one, name) * factor for name in ("open", "high", "low", "close")}
        jump = dataclasses.replace(one, **prices)
        other = dataclasses.replace(market, instruments=(*market.instruments[:3], jump))
        targets = source.reference_targets(other, 2e-4)["bayes_filter"][3]
        np.testing.assert_array_equal(targets[: now + 1], true[: now + 1])


def test_the_bayes_filter_does_not_read_the_true_regimes(source):
    market = source.load()
    blind = tuple(dataclasses.replace(one, regime=None) for one in market.instruments)
    other = source.reference_targets(dataclasses.replace(market, instruments=blind), 2e-4)["bayes_filter"]
    np.testing.assert_array_equal(other, source.reference_targets(market, 2e-4)["bayes_filter"])


def test_the_bayes_filter_is_the_exact_posterior(source, make_market):
    """Checked against a sum over all 2^9 paths of regimes, at no cost of trading."""
    regimes = {
        "rising": Regime(mean_bp=60.0, ar1=0.2, volatility_bp=100.0),
        "falling": Regime(mean_bp=-50.0, ar1=-0.3, volatility_bp=150.0),
    }
    two = dataclasses.replace(source, regimes=regimes, persistence=0.8)
    seen = set()
    for seed in range(10):
        returns = np.random.default_rng(seed).normal(0, 0.012, 8)
        close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
        (targets,) = two.reference_targets(make_market(close), 0.0)["bayes_filter"]
        for bar in range(1, 9):
            first, second = moments_by_enumeration(np.append(0.0, returns)[: bar + 1], regimes, two.transition())
            gains = {w: w * (first + second / 2) - w * w * second / 2 for w in (-1.0, 0.0, 1.0)}
            assert targets[bar] == max(gains, key=gains.get)
            seen.add(targets[bar])
    assert seen == {-1.0, 0.0, 1.0}


def moments_by_enumeration(returns, regimes, transition):
    """First two moments of the next log return given these, summed over every path of regimes."""
    dynamics = [(one.mean_bp / 1e4, one.ar1, one.volatility_bp / 1e4) for one in regimes.values()]
    total = first = second = 0.0
    for path in itertools.product(range(len(dynamics)), repeat=len(returns) + 1):
        chance = 1.0  # equally likely at the first bar, which has no return; the last regime is the next bar's
        for bar in range(1, len(path)):
            mean, ar1, volatility = dynamics[path[bar]]
            centre = mean + ar1 * (returns[bar - 1] - mean)
            chance *= transition[path[bar - 1], path[bar]]
            if bar < len(returns):
                chance *= np.exp(-0.5 * ((returns[bar] - centre) / volatility) ** 2) / volatility
        total += chance
        first += chance * centre
        second += chance * (centre**2 + volatility**2)
    return first / total, second / total


def test_a_cost_makes_the_bayes_filter_trade_less(source):
    market = source.load()
    turnover = [
        sum(np.abs(np.diff(targets)).sum() for targets in source.reference_targets(market, cost)["bayes_filter"])
        for cost in (0.0, 2e-4, 1e-2, 1.0)
    ]
    assert turnover[0] > turnover[1] > turnover[2] >= turnover[3] == 0


def test_on_unseen_series_the_bayes_filter_earns_and_random_actions_lose(settings):
    """Through the ledger, at the fills and costs of the config."""
    market = dataclasses.replace(settings.env.market, bars=3000, series={"train": 1, "validation": 1, "test": 6})
    prepared = PreparedTask(dataclasses.replace(settings.env, market=market), market.load(), None)
    targets = np.stack([row.references["bayes_filter"] for row in prepared.evaluated("test")], 1)
    informed = np.searchsorted(prepared.task.positions.fractions, targets)
    random = np.random.default_rng(0).integers(3, size=informed.shape)
    rewards = {}
    for name, actions in (("informed", informed), ("random", random)):
        lanes = prepared.walk("test", 1)
        for lane in range(lanes.n):
            lanes.reset(lane, np.random.default_rng(0))
        rewards[name] = np.empty(actions.shape)
        for bar, action in enumerate(actions):
            lanes.step(action)
            rewards[name][bar] = lanes.rewards
        assert lanes.finished.all()
    error = {name: values.std() / np.sqrt(values.size) for name, values in rewards.items()}
    assert rewards["informed"].mean() > 5 * error["informed"]
    assert (rewards["informed"].mean(axis=0) > 0).all()
    assert rewards["random"].mean() < -2 * error["random"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.market.persistence=1.0", r"env\.market\.persistence: .*less than 1"),
        ("env.market.bars=500", r"env\.market\.bars: .*greater than 500"),
        ("+env.market.series.tset=1", r"env\.market: series: expected a number for each of train, validation, test"),
        ("env.market.series.test=0", r"env\.market\.series\.test: .*greater than 0"),
        ("env.market.regimes.noise.ar1=1.0", r"env\.market\.regimes\.noise\.ar1: .*less than 1"),
    ],
)
def test_settings_of_the_market_are_checked(override, message, make_settings):
    with pytest.raises(ConfigError, match=message):
        make_settings(override)


def test_a_regime_without_noise_is_refused_at_once_or_works(make_settings):
    """What the config accepts must not fail later, when a run is evaluated."""
    try:
        task = make_settings("env.market.regimes.noise.volatility_bp=0.0").env
    except ConfigError:
        return
    assert np.isfinite(task.prepare().evaluated("test")[0].references["bayes_filter"]).all()
