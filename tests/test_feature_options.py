"""Every feature that conf/ offers: causal, scale-free, finite, and what its name says."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from moe_trader.config import config_directory
from moe_trader.env import Feature, Instrument, MarketError
from moe_trader.env.features import rows
from moe_trader.env.lookahead import LookAhead
from moe_trader.option import ConfigError, build

FOLDER = Path(config_directory()) / "env" / "features"


def offered():
    """Every feature option by the name of its file; presets, which only list others, have none of their own."""
    found = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(file))
        if "defaults" not in node:
            found |= build(node, "env.features")
            assert list(node) == [file.stem], "a feature's name in env.features is its file's"
    return found


def bars(seed, n=400, volume=True, flat=False):
    """Well-formed bars with gaps, ranges, a stretch without volume and, if asked, one without moves."""
    rng = np.random.default_rng(seed)
    moves, gaps = rng.normal(0, 0.012, n), rng.normal(0, 0.004, n)
    if flat:
        moves[n // 3 : n // 2] = gaps[n // 3 : n // 2] = 0.0
    close = 50 * np.exp(np.cumsum(moves))
    opening = np.concatenate([close[:1], close[:-1]]) * np.exp(gaps)
    wide = 0.0 if flat else 0.003
    volumes = rng.lognormal(12, 1, n) * volume
    volumes[n // 4 : n // 4 + 20] = 0.0
    return Instrument(
        symbol="drawn",
        time=np.busday_offset("2000-01-03", np.arange(n), roll="forward").astype("datetime64[us]"),
        open=opening,
        high=np.maximum(opening, close) * (1 + wide * rng.random(n)),
        low=np.minimum(opening, close) / (1 + wide * rng.random(n)),
        close=close,
        volume=volumes,
    )


def still(price, volume, n=300):
    time = np.busday_offset("2000-01-03", np.arange(n), roll="forward").astype("datetime64[us]")
    prices = {name: np.full(n, price) for name in ("open", "high", "low", "close")}
    return Instrument(symbol="still", time=time, volume=np.full(n, volume), **prices)


def scaled(one, price=1.0, volume=1.0):
    columns = {name: getattr(one, name) * price for name in ("open", "high", "low", "close")}
    return dataclasses.replace(one, **columns, volume=one.volume * volume)


# What is fitted is fitted to other bars than it is tried on.
FEATURES = {name: one.fit([bars(98, n=1500), bars(99, n=1500, flat=True)]) for name, one in offered().items()}
each_feature = pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES)


def test_the_walk_finds_every_kind():
    kinds = (
        "adx atr autocorrelation bollinger calendar gap range regime_probabilities returns rsi trend volatility volume"
    )
    assert set(FEATURES) >= set(kinds.split())
    assert all(isinstance(one, Feature) for one in FEATURES.values())


# What is promised of all


@each_feature
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(5, 398), flat=st.booleans(), volume=st.booleans())
def test_a_row_depends_on_its_own_and_earlier_bars_alone(feature, seed, cut, flat, volume):
    one, other = bars(seed, volume=volume, flat=flat), bars(seed + 1)
    later = np.arange(400) > cut
    names = ("open", "high", "low", "close", "volume")
    mixed = {name: np.where(later, getattr(other, name), getattr(one, name)) for name in names}
    stretched = np.where(later, one.time + np.timedelta64(100, "D"), one.time)
    before = feature.compute(one)
    np.testing.assert_array_equal(
        feature.compute(dataclasses.replace(one, **mixed, time=stretched))[: cut + 1], before[: cut + 1]
    )
    short = dataclasses.replace(one, **{name: getattr(one, name)[: cut + 1] for name in ("time", *names)})
    np.testing.assert_allclose(feature.compute(short), before[: cut + 1], rtol=1e-12, atol=1e-12)


@each_feature
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_self_check_passes(feature, seed, make_market):
    market = dataclasses.replace(make_market([1.0]), instruments=(bars(seed),))
    assert LookAhead(cuts=6, seed=seed).leaks({"one": feature}, market) == []


@each_feature
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), power=st.floats(-6, 6), more=st.floats(-6, 6))
def test_currency_and_lot_size_change_nothing(feature, seed, power, more):
    one = bars(seed)
    other = feature.compute(scaled(one, price=10.0**power, volume=10.0**more))
    np.testing.assert_allclose(other, feature.compute(one), rtol=1e-6, atol=1e-6)


@each_feature
@pytest.mark.parametrize("volume", [0.0, 7.0])
@pytest.mark.parametrize("price", [1e-6, 1.0, 1e9])
def test_a_market_that_does_not_move_gives_finite_constant_rows(feature, price, volume):
    found = feature.compute(still(price, volume))
    assert np.isfinite(found).all()
    if FEATURES["calendar"] is not feature:
        assert np.ptp(found[feature.warmup() :], axis=0).max() < 1e-6


@each_feature
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), flat=st.booleans(), volume=st.booleans(), n=st.integers(2, 60))
def test_rows_are_finite_and_fit_the_columns_however_few_bars(feature, seed, flat, volume, n):
    found = feature.compute(bars(seed, n=n, volume=volume, flat=flat))
    assert found.shape == (n, len(feature.columns()))
    assert np.isfinite(found).all()


@each_feature
def test_after_the_warm_up_the_start_is_forgotten(feature):
    """Bars before the warm-up, altered, move no row after it by more than a tenth of its spread."""
    one, other = bars(1, n=1500), bars(2, n=1500)
    early = np.arange(1500) < 500
    names = ("open", "high", "low", "close")
    jump = one.close[500] / other.close[500]
    mixed = {name: np.where(early, getattr(other, name) * jump, getattr(one, name)) for name in names}
    volumes = np.where(early, other.volume, one.volume)
    before, after = (
        feature.compute(x)[500 + feature.warmup() :] for x in (one, dataclasses.replace(one, **mixed, volume=volumes))
    )
    assert (np.abs(after - before).max(axis=0) <= 0.15 * before.std(axis=0)).all()


def test_columns_of_everything_are_unique(make_settings):
    made = make_settings("env/features=everything").env
    assert set(made.features) == set(FEATURES)
    names = [column for feature in made.features.values() for column in feature.columns()]
    assert len(set(names)) == len(names)
    assert made.prepare().tape.features.shape[1] == len(names)


# What each says


def wilder(values, period):
    """Wilder's mean as TA-Lib seeds it: the plain mean of the first values, then 1/period of each new one."""
    means = [np.mean(values[:period])]
    for value in values[period:]:
        means.append((means[-1] * (period - 1) + value) / period)
    return np.array(means)


def test_rsi_by_hand(make_instrument):
    one = bars(0)
    moves = np.diff(one.close)
    up, down = (wilder(np.maximum(sign * moves, 0), 14) for sign in (1, -1))
    np.testing.assert_allclose(FEATURES["rsi"].compute(one)[14:, 0], (up - down) / (up + down), atol=1e-9)
    rising, falling = (make_instrument(np.linspace(50, last, 400)) for last in (60, 40))
    assert FEATURES["rsi"].compute(rising)[-1, 0] == pytest.approx(1)
    assert FEATURES["rsi"].compute(falling)[-1, 0] == pytest.approx(-1)
    assert (FEATURES["rsi"].compute(still(3.0, 0.0)) == 0).all()
    stopped = make_instrument(np.concatenate([one.close[:20], np.full(980, one.close[19])]))
    assert FEATURES["rsi"].compute(stopped)[-1, 0] == 0


def true_range(one):
    before = one.close[:-1]
    return np.maximum(one.high[1:], before) - np.minimum(one.low[1:], before)


def test_atr_by_hand():
    one = bars(0)
    expected = np.log(wilder(true_range(one), 14) / one.close[14:])
    np.testing.assert_allclose(FEATURES["atr"].compute(one)[14:, 0], expected, atol=1e-9)


def test_adx_by_hand():
    one = bars(0, n=1000)
    up, down = np.diff(one.high), -np.diff(one.low)
    plus = np.where((up > down) & (up > 0), up, 0.0)
    minus = np.where((down > up) & (down > 0), down, 0.0)
    ranges, plus, minus = (wilder(values, 14) for values in (true_range(one), plus, minus))
    direction = (plus - minus) / ranges
    strength = wilder(np.abs(plus - minus) / (plus + minus), 14)
    found = FEATURES["adx"].compute(one)
    # TA-Lib seeds its sums one bar earlier; a few hundred bars on, nothing of a seed is left.
    np.testing.assert_allclose(found[-500:, 0], strength[-500:], atol=1e-9)
    np.testing.assert_allclose(found[-500:, 1], direction[-500:], atol=1e-9)


def test_bollinger_by_hand():
    one = bars(0)
    windows = np.lib.stride_tricks.sliding_window_view(np.log(one.close), 20)
    half = 2 * windows.std(axis=1)
    found = FEATURES["bollinger"].compute(one)[19:]
    np.testing.assert_allclose(found[:, 0], (windows[:, -1] - windows.mean(axis=1)) / half, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], np.log(half), atol=1e-6)


def test_range_gap_and_volume_are_relative_to_what_is_usual():
    one = still(10.0, 100.0)
    calm = dataclasses.replace(one, high=one.high * 1.01)
    wide = dataclasses.replace(calm, high=np.where(np.arange(300) == 299, 10.4, calm.high))
    assert FEATURES["range"].compute(calm)[-1] == pytest.approx([1, 1, 1])
    narrow, broad = np.log(1.01), np.log(1.04)
    assert FEATURES["range"].compute(wide)[-1, 0] == pytest.approx(broad / (narrow + (broad - narrow) * 2 / 61))
    busy = dataclasses.replace(one, volume=np.where(np.arange(300) == 299, 500.0, 100.0))
    usual = 100 + 400 * 2 / 61
    assert FEATURES["volume"].compute(one)[-1] == pytest.approx([0, 0, 0])
    assert FEATURES["volume"].compute(busy)[-1, 0] == pytest.approx(np.log((1 + 500 / usual) / 2))
    quiet = dataclasses.replace(one, volume=np.where(np.arange(300) == 299, 0.0, 100.0))
    assert FEATURES["volume"].compute(quiet)[-1, 0] == pytest.approx(np.log(0.5))
    assert (FEATURES["volume"].compute(still(10.0, 0.0)) == 0).all()
    up = dataclasses.replace(one, open=one.open * 1.02, high=one.high * 1.02)
    down = dataclasses.replace(one, open=one.open / 1.02, low=one.low / 1.02)
    assert [FEATURES["gap"].compute(way)[-1, 0] for way in (up, down)] == pytest.approx([1, -1], rel=1e-3)


def test_the_calendar_tells_the_day_the_week_the_month_and_the_year():
    stamps = ["2018-01-01T00:00", "2018-01-01T06:00", "2018-01-04T12:00", "2018-02-15T00:00", "2018-07-02T12:00"]
    one = dataclasses.replace(still(1.0, 0.0, n=5), time=np.array(stamps, dtype="datetime64[us]"))
    feature = dataclasses.replace(FEATURES["calendar"], cycles=["day", "week", "month", "year"])
    angle = np.arctan2(feature.compute(one)[:, 0::2], feature.compute(one)[:, 1::2]) / (2 * np.pi) % 1
    np.testing.assert_allclose(angle[0], [0, 0, 0, 0], atol=1e-12)  # a Monday, at midnight
    np.testing.assert_allclose(angle[1, :2], [1 / 4, 1 / 28], atol=1e-12)
    assert angle[2, 1] == pytest.approx(1 / 2)
    assert angle[3, 2] == pytest.approx(1 / 2)
    assert angle[4, 3] == pytest.approx(1 / 2)
    assert feature.columns()[:3] == ["day_sin", "day_cos", "week_sin"]


# The default, and how others join it

NASDAQ = {  # bar -> what the default features were when all stood in one file
    200: [-0.023094570320273573, -0.7291187376390976, -1.8979175415362568, -0.8226435008614109, -1.3577568183245126,
          -1.0741607531610127, -0.6415140334819256, -0.16890438033372052, -4.1969647520607225, -4.172806602647288,
          -4.143302309061331, 0.13642022355536587, 0.015999929383170637, -0.02989733251491725],
    5030: [0.37556930452994053, 0.2919940961133018, 1.0198305017339346, -0.6288932100306398, 0.10602308875938114,
           -0.4147763279169063, -0.7667271365970205, -0.9076443186612387, -3.8642251704105295, -3.8105359722542023,
           -3.9541389468134387, 0.027898824217131746, 0.01223714623912846, -0.005348746661387075],
}  # fmt: skip


def test_the_default_features_are_what_they_were(make_settings):
    made = make_settings("env=nasdaq", small=False).env
    (one,) = made.market.load().instruments
    found = rows(made.features, one)
    for bar, expected in NASDAQ.items():
        np.testing.assert_allclose(found[bar], expected, rtol=1e-12, atol=1e-13)
    assert [column for feature in made.features.values() for column in feature.columns()] == [
        *("return_1", "return_2", "return_5", "return_10", "trend_10", "trend_20", "trend_40", "trend_80"),
        *("volatility_5", "volatility_20", "volatility_60"),
        *("autocorrelation_20", "autocorrelation_40", "autocorrelation_80"),
    ]


def test_a_list_adds_single_features_to_a_preset(make_settings):
    made = make_settings("env/features=[multi_horizon,rsi,volume]", "env.features.rsi.periods=[7,21]").env
    assert list(made.features) == ["returns", "trend", "volatility", "autocorrelation", "rsi", "volume"]
    assert made.features["rsi"].columns() == ["rsi_7", "rsi_21"]
    assert list(make_settings("env/features=technical").env.features)[4:] == ["rsi", "atr", "adx", "bollinger"]


def test_one_feature_can_be_added_by_path_and_another_taken_away(make_settings):
    added = "+env.features.fast={_target_: moe_trader.env.features.rsi.RSI, periods: [3]}"
    made = make_settings(added, "~env.features.returns").env
    assert list(made.features) == ["trend", "volatility", "autocorrelation", "regime_probabilities", "fast"]
    assert made.seen_by_gate == ["trend", "volatility", "autocorrelation", "regime_probabilities"]


def test_the_gate_sees_the_features_it_is_given(make_settings):
    made = make_settings("env/features=[multi_horizon,rsi]", "env.gate_features=[rsi,trend]", "env.window=3").env
    task = made.prepare()
    newest = 2 * len(task.feature_names)
    seen = [task.feature_names[column - newest] for column in task.rules.gate_columns]
    assert seen == ["trend_10", "trend_20", "trend_40", "trend_80", "rsi_14"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["env/features=rsi"],
            r"env: gate_features: none of env\.features \(rsi\) is slow, as a gate's should be; choose among",
        ),
        (
            ["+env.features.other={_target_: moe_trader.env.features.volatility.Volatility, spans: [9, 20]}"],
            r"env: features: column 'volatility_20' stands in 'volatility' and 'other'; give each its own spans",
        ),
        (
            ["env.features.volatility.spans=[5,5]"],
            r"env: features: column 'volatility_5' stands twice in 'volatility'; give each",
        ),
        (
            ["env/features=[multi_horizon,volume]", "env.features.volume.spans=[5,60]"],
            r"env\.features\.volume: spans: expected every span below reference_span=60, got 60",
        ),
        (
            ["env/features=[multi_horizon,calendar]", "env.features.calendar.cycles=[decade]"],
            r"env\.features\.calendar\.cycles\.0: Input should be 'day', 'week', 'month' or 'year', got 'decade'",
        ),
        (
            ["env/features=[multi_horizon,rsi]", "env.features.rsi.periods=[1]"],
            r"periods\.0.*greater than or equal to 2",
        ),
    ],
)
def test_features_that_cannot_be_used_are_refused(overrides, message, make_settings):
    with pytest.raises(ConfigError, match=message):
        make_settings(*overrides)


def test_no_features_at_all_are_refused(settings):
    with pytest.raises(ValueError, match="features: expected at least one, such as env/features=multi_horizon"):
        dataclasses.replace(settings.env, features={})


class Broken(Feature):
    def __init__(self, found, warmup=2):
        self.found, self.skipped = found, warmup

    def columns(self):
        return ["one", "two"]

    def warmup(self):
        return self.skipped

    def compute(self, instrument):
        return self.found


def test_rows_that_do_not_fit_are_refused_by_name(make_instrument):
    with pytest.raises(
        MarketError,
        match=r"env\.features\.mine: expected rows of shape \(5, 2\) \(5 bars of hand, columns one, two\), got "
        r"\(4, 2\); mend Broken\.compute",
    ):
        rows({"mine": Broken(np.zeros((4, 2)))}, make_instrument(np.ones(5)))


def test_rows_that_are_not_finite_are_refused_after_the_warm_up_alone(make_instrument):
    found = np.zeros((5, 2))
    found[1, 0] = np.nan
    assert rows({"mine": Broken(found)}, make_instrument(np.ones(5))).shape == (5, 2)
    found[3, 1] = np.inf
    with pytest.raises(
        MarketError,
        match=r"env\.features\.mine: two is inf at 2000-01-06.* \(hand, bar 3\); expected finite numbers after a "
        r"warm-up of 2 bars: mend Broken\.compute or make its warmup\(\) longer",
    ):
        rows({"mine": Broken(found)}, make_instrument(np.ones(5)))


def test_ta_lib_is_imported_when_an_indicator_is_computed():
    code = (
        "import sys; from moe_trader.env.features.rsi import RSI; from moe_trader.env.task import TradingTask\n"
        "made = RSI(periods=[14]); print('talib' in sys.modules)\n"
        "from moe_trader.env.nasdaq import Nasdaq; made.compute(Nasdaq().load().instruments[0])\n"
        "print('talib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
