"""Markets that come with a package, presets of the synthetic one, and a million bars."""

import gzip

import numpy as np
import pytest
from composed import settings_of

from moe_trader.env import MarketError
from moe_trader.option import ConfigError

PRESETS = {"two_regimes": 2, "three_regimes": 3, "four_regimes": 4, "rare_crash": 3, "drifting": 4}


def market_of(*overrides):
    return settings_of(*overrides).env.market


def test_sp500_is_5031_sessions_that_fill_at_a_close(make_settings):
    task = make_settings("env=sp500", small=False).env
    market = task.market.load()
    (one,) = market.instruments
    assert (market.name, one.symbol, len(one), market.opens_are_real) == ("sp500", "^GSPC", 5031, False)
    assert (str(one.time[0])[:10], str(one.time[-1])[:10]) == ("1999-01-04", "2018-12-31")
    assert one.close[-1] == pytest.approx(2506.85, abs=0.01)
    assert task.fill == "next_close"
    with pytest.raises(MarketError, match=r"sp500 has no true opens: set env\.fill=next_close"):
        make_settings("env=sp500", "env.fill=next_open", small=False).env.prepare()
    assert task.prepare().env("test").reset(seed=0)[0].shape


@pytest.fixture
def stocks_package(tmp_path, monkeypatch):
    """An installed package called skfolio with the one file that is read, two stocks wide."""
    data = tmp_path / "skfolio" / "datasets" / "data"
    data.mkdir(parents=True)
    dates = np.busday_offset("1990-01-02", np.arange(40), roll="forward")
    rows = [f"{day},{0.264 + at / 100},{4.125 + at / 10}" for at, day in enumerate(dates)]
    (data / "sp500_dataset.csv.gz").write_bytes(gzip.compress("\n".join(["Date,AAPL,KO", *rows]).encode()))
    record = tmp_path / "skfolio-1.12.2.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: skfolio\nVersion: 1.12.2\n")
    (record / "RECORD").write_text("skfolio/datasets/data/sp500_dataset.csv.gz,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    return data / "sp500_dataset.csv.gz"


def test_stocks_are_closes_alone_and_fill_at_a_close(stocks_package, make_settings, caplog):
    task = make_settings("env=stocks", small=False).env
    market = task.market.load()
    assert (market.name, market.opens_are_real, task.fill) == ("stocks", False, "next_close")
    assert [one.symbol for one in market.instruments] == ["AAPL", "KO"]
    for one in market.instruments:
        assert len(one) == 40
        for name in ("open", "high", "low"):
            np.testing.assert_array_equal(getattr(one, name), one.close)
    assert market.instruments[1].close[0] == 4.125
    assert caplog.text == ""
    chosen = market_of("env=stocks", "env.market.symbols=[KO]").load()
    assert [one.symbol for one in chosen.instruments] == ["KO"]
    with pytest.raises(MarketError, match=r"^env\.market\.symbols: TSLA; known: AAPL, KO, null for all$"):
        market_of("env=stocks", "env.market.symbols=[KO,TSLA]").load()


def test_a_damaged_package_and_a_missing_one_say_what_to_install(stocks_package, monkeypatch, tmp_path):
    stocks_package.unlink()
    with pytest.raises(
        MarketError, match=r"`skfolio` has no sp500_dataset\.csv\.gz; install it again: pip install 'moe"
    ):
        market_of("env=stocks").load()

    def none(package):
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(package)

    monkeypatch.setattr("moe_trader.env.reading.installed.files", none)
    with pytest.raises(
        MarketError, match=r"^the package `skfolio` is not installed: pip install 'moe_trader\[stocks\]'$"
    ):
        market_of("env=stocks").load()


def test_the_real_stocks_are_20_of_8313_sessions(make_settings):
    pytest.importorskip("skfolio")
    task = make_settings("env=stocks", small=False).env
    market = task.market.load()
    assert len(market.instruments) == 20
    assert {len(one) for one in market.instruments} == {8313}
    assert (str(market.instruments[0].time[0])[:10], str(market.instruments[0].time[-1])[:10]) == (
        "1990-01-02",
        "2022-12-28",
    )
    assert task.prepare().env("test").reset(seed=0)[0].shape


@pytest.mark.parametrize("env", ["csv", "parquet", "stocks", "yahoo", "ccxt"])
@pytest.mark.parametrize(
    ("symbols", "message"),
    [("[]", "at least 1 item"), ("[A,B,A]", "expected different ones"), ("['']", "at least 1 char")],
)
def test_symbols_that_choose_nothing_or_twice_are_refused_everywhere(env, symbols, message, make_settings):
    path = ["env.path=x.csv"] if env in ("csv", "parquet") else []
    with pytest.raises(ConfigError, match=rf"env\.market\.symbols\S*: .*{message}"):
        make_settings(f"env={env}", *path, f"env.market.symbols={symbols}", small=False)


# Presets of the synthetic market


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_can_be_traded(preset, make_settings):
    task = make_settings(f"env/market={preset}").env
    prepared = task.prepare()
    assert len(prepared.labels.names) == PRESETS[preset]
    env = prepared.training_env(2, seed=0)
    env.reset()
    assert np.isfinite(env.step(np.array([0, 2]))[1]).all()
    assert set(prepared.evaluated("test")[0].references["bayes_filter"]) <= {-1.0, 0.0, 1.0}


def test_four_regimes_are_the_default():
    assert market_of("env=synthetic") == market_of("env=synthetic", "env/market=four_regimes")


def test_a_rare_crash_is_rare_short_and_deep():
    source = market_of("env=synthetic", "env/market=rare_crash", "env.market.bars=100000", "env.market.series.train=1")
    one = source.load().instruments[0]
    crash = list(source.regimes).index("crash")
    crashing = one.regime == crash
    share = source.stationary()[crash]
    assert 0.005 < share < 0.03
    assert crashing.mean() == pytest.approx(share, rel=0.25)
    starts = np.count_nonzero(np.diff(crashing.astype(int)) == 1)
    assert crashing.sum() / starts == pytest.approx(1 / (1 - 0.93), rel=0.2)
    returns = np.diff(np.log(one.close), prepend=np.log(one.close[0]))
    assert returns[crashing].mean() < -0.005
    assert returns[~crashing].mean() > 0


def test_unequal_regimes_follow_the_transition_matrix():
    source = market_of("env=synthetic", "env/market=rare_crash", "env.market.bars=100000", "env.market.series.train=1")
    matrix = source.transition()
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.diag(matrix), [0.995, 0.99, 0.93])
    np.testing.assert_allclose(matrix[0, 2] / matrix[0, 1], 0.15)
    np.testing.assert_allclose(source.stationary() @ matrix, source.stationary())
    regime = source.load().instruments[0].regime
    counts = np.zeros((3, 3))
    np.add.at(counts, (regime[:-1], regime[1:]), 1)
    left = counts.sum(axis=1, keepdims=True)
    assert (np.abs(counts / left - matrix) < 4.5 * np.sqrt(matrix * (1 - matrix) / left)).all()


def test_a_drifting_market_changes_after_training_alone():
    few = ("env.market.bars=20000", "env.market.series.train=1", "env.market.series.test=1", "env=synthetic")
    drifting = market_of(*few, "env/market=drifting")
    before, now = market_of(*few).load(), drifting.load()
    by_symbol = {one.symbol: one for one in now.instruments}
    for one in before.instruments:
        other = by_symbol[one.symbol]
        np.testing.assert_array_equal(other.regime, one.regime)
        assert np.array_equal(other.close, one.close) == one.symbol.startswith("train_")
    assert now.regime_names == before.regime_names
    for symbol, regimes in (("train_0", drifting.regimes), ("test_0", drifting.regimes_later)):
        one = by_symbol[symbol]
        returns = np.diff(np.log(one.close), prepend=np.log(one.close[0]))
        noise = one.regime == list(regimes).index("noise")
        assert returns[noise].std() == pytest.approx(regimes["noise"].volatility_bp / 1e4, rel=0.05)


def test_the_bayes_filter_knows_the_later_dynamics():
    few = ("env=synthetic", "env/market=drifting", "env.market.bars=2000", "env.market.series.test=1")
    drifting = market_of(*few)
    market = drifting.load()
    late = drifting.reference_targets(market, 2e-4)["bayes_filter"]
    early = market_of(*few, "env.market.regimes_later=null").reference_targets(market, 2e-4)["bayes_filter"]
    for one, known, unknown in zip(market.instruments, late, early, strict=True):
        assert np.array_equal(known, unknown) == one.symbol.startswith("train_")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["env/market=drifting", "~env.market.regimes_later.noise"],
            r"env\.market: regimes_later: expected one for eac",
        ),
        (
            ["env/market=rare_crash", "~env.market.switch_weights.crash"],
            r"env\.market: switch_weights: expected one for",
        ),
        (
            ["env/market=rare_crash", "+env.market.own_persistence.crahs=0.5"],
            r"env\.market: own_persistence: 'crahs' is none of the regimes \(calm_rise, mean_reversion, crash\)",
        ),
        (["env/market=rare_crash", "env.market.own_persistence.crash=1.0"], r"own_persistence\.crash: .*less than 1"),
    ],
)
def test_regimes_that_do_not_fit_together_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        market_of("env=synthetic", *overrides)
