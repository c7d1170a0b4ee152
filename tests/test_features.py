"""What an agent sees of a market: causal, scale-free, and what its name says."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_trader.env import Feature, MarketError
from moe_trader.env.features import Scaler, check_columns, rows
from moe_trader.env.features.autocorrelation import Autocorrelation
from moe_trader.env.features.returns import Returns
from moe_trader.env.features.trend import Trend
from moe_trader.env.features.volatility import Volatility
from moe_trader.env.task import PreparedTask
from moe_trader.option import ConfigError

FEATURES = {
    "returns": Returns(horizons=[1, 2, 5], volatility_span=10),
    "trend": Trend(spans=[5, 20], volatility_span=10),
    "volatility": Volatility(spans=[5, 20]),
    "autocorrelation": Autocorrelation(spans=[5, 20]),
}
each_feature = pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES)


def returns_of(instrument):
    return np.diff(np.log(instrument.close), prepend=np.log(instrument.close[0]))


def instrument_of(make_instrument, returns):
    """Bars whose log returns are these, after a first bar that has none."""
    return make_instrument(100 * np.exp(np.concatenate([[0.0], np.cumsum(returns)])))


def exponential_mean(values, span):
    """pandas' ewm(span=span, adjust=False).mean(), as its documentation defines it."""
    means, weight = [values[0]], 2 / (span + 1)
    for value in values[1:]:
        means.append(weight * value + (1 - weight) * means[-1])
    return np.array(means)


def rescaled(instrument, factor):
    columns = {name: getattr(instrument, name) * factor for name in ("open", "high", "low", "close")}
    return dataclasses.replace(instrument, **columns)


@pytest.fixture(scope="module")
def noise(make_instrument):
    """White noise: 20,000 returns of 1 %."""
    return instrument_of(make_instrument, np.random.default_rng(3).normal(0, 0.01, 20_000))


def test_the_default_is_every_feature_that_is_tested_here(make_settings):
    assert {type(one) for one in make_settings("env=nasdaq", small=False).env.features.values()} == {
        type(one) for one in FEATURES.values()
    }


@each_feature
def test_a_row_depends_on_its_own_and_earlier_bars_alone(feature, make_instrument):
    rng = np.random.default_rng(0)
    instrument = instrument_of(make_instrument, rng.normal(0, 0.01, 199))
    rows = feature.compute(instrument)
    for now in (60, 61, 150, 198):
        factor = np.where(np.arange(200) > now, rng.uniform(0.5, 2.0, 200), 1.0)
        other = feature.compute(rescaled(instrument, factor))
        np.testing.assert_array_equal(other[: now + 1], rows[: now + 1])
        assert (other[now + 1] != rows[now + 1]).all(), "every column answers to its own bar at once"


@each_feature
def test_multiplying_all_prices_changes_nothing(feature, make_instrument):
    instrument = instrument_of(make_instrument, np.random.default_rng(0).normal(0, 0.01, 300))
    np.testing.assert_allclose(feature.compute(rescaled(instrument, 7.3)), feature.compute(instrument), atol=1e-9)


def test_multiplying_all_prices_changes_no_observation(make_settings, make_market):
    task = make_settings("env=csv", "env.market.path=none.csv", small=False).env
    market = make_market(100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 900))))
    dearer = dataclasses.replace(market, instruments=(rescaled(market.instruments[0], 7.3),))
    here, there = (PreparedTask(task, one, None) for one in (market, dearer))
    np.testing.assert_allclose(there.tape.features, here.tape.features, atol=1e-4)
    np.testing.assert_array_equal(there.labels.index, here.labels.index)
    for one in (here, there):
        lanes = one.walk("test", 1)
        lanes.reset(0, np.random.default_rng(0))
        for action in (2, 2, 0, 0, 1):
            lanes.step(np.array([action]))
        one.last = lanes.observe()[0].copy(), lanes.log_profit(0)
    np.testing.assert_allclose(there.last[0], here.last[0], atol=1e-4)
    assert there.last[1] == pytest.approx(here.last[1], abs=1e-12)


@each_feature
def test_columns_warmup_and_shape_agree(feature, make_instrument):
    instrument = instrument_of(make_instrument, np.random.default_rng(0).normal(0, 0.01, 99))
    names = feature.columns()
    assert len(set(names)) == len(names)
    assert feature.compute(instrument).shape == (100, len(names))
    assert feature.warmup() >= 10


@each_feature
@pytest.mark.parametrize("price", [1e-6, 1.0, 1e9])
def test_a_market_that_does_not_move_gives_finite_rows(feature, price, make_instrument):
    assert np.isfinite(feature.compute(make_instrument(np.full(100, price)))).all()


def test_column_names_of_a_task_are_unique_and_in_the_order_of_the_features(prepared):
    names = prepared.feature_names
    assert len(set(names)) == len(names)
    assert names[:5] == ["return_1", "return_2", "return_5", "return_10", "trend_10"]
    assert prepared.tape.features.shape == (sum(map(len, prepared.market.instruments)), len(names))


def test_returns_by_hand(make_instrument):
    moves = np.random.default_rng(0).normal(0, 0.02, 60)
    instrument = instrument_of(make_instrument, moves)
    rows = FEATURES["returns"].compute(instrument)
    volatility = np.sqrt(exponential_mean(returns_of(instrument) ** 2, 10))
    level = np.log(instrument.close)
    for column, horizon in enumerate([1, 2, 5]):
        expected = (level[horizon:] - level[:-horizon]) / (volatility[horizon:] * np.sqrt(horizon))
        np.testing.assert_allclose(rows[horizon:, column], expected, rtol=1e-9)


def test_trend_by_hand(make_instrument):
    instrument = instrument_of(make_instrument, np.random.default_rng(0).normal(0.001, 0.02, 60))
    returns = returns_of(instrument)
    volatility = np.sqrt(exponential_mean(returns**2, 10))[1:]  # the first bar has no return
    expected = [exponential_mean(returns, span)[1:] * np.sqrt(span) / volatility for span in (5, 20)]
    np.testing.assert_allclose(FEATURES["trend"].compute(instrument)[1:], np.stack(expected, 1), rtol=1e-6, atol=1e-9)


def test_volatility_is_the_log_of_the_size_of_the_moves(make_instrument):
    signs = np.random.default_rng(0).choice([-1, 1], 400)
    instrument = instrument_of(make_instrument, 0.013 * signs)
    np.testing.assert_allclose(FEATURES["volatility"].compute(instrument)[-1], np.log(0.013), atol=1e-6)


def test_under_white_noise_returns_and_trend_have_unit_variance(noise):
    """What their descriptions promise: units of the standard deviation, a t-statistic."""
    slow = Returns(horizons=[1, 5, 20], volatility_span=500), Trend(spans=[5, 20, 50], volatility_span=500)
    for feature in slow:
        rows = feature.compute(noise)[1000:]
        np.testing.assert_allclose(rows.std(axis=0), 1.0, atol=0.1)
        np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=0.2)


def test_autocorrelation_tells_momentum_from_reversal(make_instrument):
    one = Autocorrelation(spans=[20])
    alternating = instrument_of(make_instrument, 0.01 * (-1.0) ** np.arange(300))
    steady = instrument_of(make_instrument, np.full(300, 0.01))
    assert one.compute(alternating)[-1, 0] == pytest.approx(-1.0, abs=1e-6)
    assert one.compute(steady)[-1, 0] == pytest.approx(1.0, abs=1e-6)
    noise = np.random.default_rng(0).standard_normal(20_000) * 0.01
    for coefficient in (-0.5, 0.0, 0.5):
        returns = np.zeros(20_000)
        for bar in range(1, 20_000):
            returns[bar] = coefficient * returns[bar - 1] + noise[bar]
        columns = Autocorrelation(spans=[200]).compute(instrument_of(make_instrument, returns))
        assert columns[1000:].mean() == pytest.approx(coefficient, abs=0.03)


@settings(max_examples=50, deadline=None)
@given(moves=st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60), spans=st.lists(st.integers(1, 40), min_size=1))
def test_autocorrelation_never_leaves_its_bounds(moves, spans, make_instrument):
    rows = Autocorrelation(spans=spans).compute(instrument_of(make_instrument, moves))
    assert (np.abs(rows) <= 1 + 1e-9).all()


def test_the_scaler_standardises_what_it_was_fitted_on():
    rows = np.random.default_rng(0).normal([5.0, -3.0, 0.0], [2.0, 0.1, 1.0], (1000, 3))
    rows[:, 2] = 4.0
    scaled = Scaler.fit(rows).apply(rows, clip=100.0)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(axis=0), [1.0, 1.0, 0.0], atol=1e-9)


def test_the_scaler_clips():
    scaler = Scaler.fit(np.array([[-1.0], [1.0]]))
    np.testing.assert_array_equal(scaler.apply(np.array([[100.0], [-100.0], [0.5]]), clip=5.0), [[5.0], [-5.0], [0.5]])


def test_the_scaler_is_fitted_on_the_training_bars_alone(prepared):
    raw = [
        np.concatenate([feature.compute(one) for feature in prepared.task.features.values()], 1)[160:]
        for one in prepared.market.instruments
        if one.symbol.startswith("train_")
    ]
    np.testing.assert_allclose(prepared.scaler.mean, np.concatenate(raw).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(prepared.scaler.scale, np.concatenate(raw).std(axis=0), rtol=1e-9)


def test_a_saved_scaler_is_used_as_it_is(prepared):
    ones = len(prepared.feature_names)
    scaler = Scaler(mean=(0.0,) * ones, scale=(1.0,) * ones)
    again = prepared.task.prepare(scaler)
    assert again.scaler is scaler
    raw = np.concatenate([f.compute(again.market.instruments[0]) for f in again.task.features.values()], 1)
    np.testing.assert_allclose(again.tape.features[: len(raw)], raw.clip(-5, 5), rtol=1e-6)
    assert again.summary()["scaler"] == dataclasses.asdict(scaler)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.features.returns.horizons=[]", r"env\.features\.returns\.horizons.*at least 1 item"),
        ("env.features.returns.horizons=[0]", r"env\.features\.returns\.horizons\.0.*greater than or equal to 1"),
        ("env.features.trend.volatility_span=1", r"env\.features\.trend\.volatility_span.*greater than or equal to 2"),
        ("env.gate_features=[trned]", r"env: gate_features: 'trned' is none of env\.features"),
        ("+env.features.trend.sapns=[3]", r"env\.features\.trend\.sapns: unknown setting\. Did you mean `spans`"),
    ],
)
def test_settings_of_a_feature_are_checked(override, message, make_settings):
    with pytest.raises(ConfigError, match=message):
        make_settings(override)


class Mine(Feature):
    """A feature of a user's own, with whatever it gives."""

    def __init__(self, warmup=1, columns=("mine",), rows=None):
        self.given = warmup, columns, rows

    def warmup(self):
        return self.given[0]

    def columns(self):
        return self.given[1]

    def compute(self, instrument):
        return self.given[2](instrument)


@pytest.mark.parametrize("warmup", [-1, 2.5, "3", None, True])
def test_a_warmup_that_is_no_number_of_bars_is_refused(warmup):
    with pytest.raises(
        ValueError, match=r"^features\.own: expected Mine\.warmup\(\) to be a whole number, 0 or more, got"
    ):
        check_columns({"own": Mine(warmup)})


@pytest.mark.parametrize("columns", [[], "mine", [1], 3, None, {"mine"}, np.zeros(3)])
def test_columns_that_are_no_names_are_refused(columns):
    with pytest.raises(ValueError, match=r"^features\.own: expected Mine\.columns\(\) to be a list of names, got"):
        check_columns({"own": Mine(columns=columns)})


def test_rows_that_are_no_numbers_are_refused(prepared):
    words = Mine(rows=lambda one: np.full((len(one), 1), "high"))
    with pytest.raises(
        MarketError,
        match=r"^env\.features\.own: expected numbers, got others \(could not convert string.*\); mend Mine\.co",
    ):
        rows({"own": words}, prepared.market.instruments[0])


def test_a_feature_that_fails_is_named(prepared):
    fragile = Mine(rows=lambda one: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        rows({"own": fragile}, prepared.market.instruments[0])
    assert caught.value.__notes__ == ["while computing env.features.own from 700 bars of train_0"]
