"""Labels of the market condition: causal, named right, and kept from the agent."""

import dataclasses

import numpy as np
import pytest

from moe_trader.env import MarketError, Segment
from moe_trader.env.regimes import TrendVolatility, TrueRegimes
from moe_trader.env.task import PreparedTask

TRAIN = [Segment(0, 0, 600)]


@pytest.fixture(scope="module")
def labeller():
    return TrendVolatility(trend_bars=63, volatility_bars=21)


@pytest.fixture(scope="module")
def market(make_market):
    """Volatility that comes and goes, so that every label occurs."""
    rng = np.random.default_rng(5)
    volatility = 0.01 * np.exp(0.7 * np.sin(np.arange(900) / 40))
    drift = 0.002 * np.sin(np.arange(900) / 70)
    return make_market(100 * np.exp(np.cumsum(drift + volatility * rng.standard_normal(900))))


def with_factor(market, factor):
    (one,) = market.instruments
    columns = {name: getattr(one, name) * factor for name in ("open", "high", "low", "close")}
    return dataclasses.replace(market, instruments=(dataclasses.replace(one, **columns),))


def test_labels_do_not_change_when_later_bars_do(labeller, market):
    """The edges come from the training bars, so only bars after them are altered."""
    (true,) = labeller.label(market, TRAIN).index
    jumps = np.random.default_rng(0).uniform(0.7, 1.4, 900)
    for now in (599, 650, 750, 898):
        (other,) = labeller.label(with_factor(market, np.where(np.arange(900) > now, jumps, 1.0)), TRAIN).index
        np.testing.assert_array_equal(other[: now + 1], true[: now + 1])
        if now < 800:
            assert (other[now + 1 :] != true[now + 1 :]).any()


def test_edges_are_terciles_of_the_training_bars(labeller, market):
    (index,) = labeller.label(market, TRAIN).index
    trained = index[labeller.warmup() : 600]
    for margin in (trained // 3, trained % 3):
        shares = np.bincount(margin, minlength=3) / len(trained)
        np.testing.assert_allclose(shares, 1 / 3, atol=0.01)


def test_the_first_bars_are_not_labelled_and_all_others_are(labeller, market):
    (index,) = labeller.label(market, TRAIN).index
    assert labeller.warmup() == 63
    assert (index[:63] == -1).all()
    assert index[63:].min() >= 0
    assert index[63:].max() <= 8


def test_multiplying_all_prices_changes_no_label(labeller, market):
    np.testing.assert_array_equal(
        labeller.label(with_factor(market, 7.3), TRAIN).index, labeller.label(market, TRAIN).index
    )


def test_names_say_what_the_market_did(make_market):
    """A calm rise, a wild fall and a sideways stretch between the two in volatility."""
    sign = np.where(np.arange(200) % 2, 1.0, -1.0)
    moves = np.concatenate([0.001 + 0.002 * sign, 0.008 * sign, -0.010 + 0.03 * sign])
    market = make_market(100 * np.exp(np.cumsum(moves)))
    labels = TrendVolatility(trend_bars=20, volatility_bars=20).label(market, [Segment(0, 0, 600)])
    assert len(labels.names) == 9
    named = [labels.names[label] for label in labels.index[0][[150, 350, 550]]]
    assert named == ["rising_calm", "sideways_normal", "falling_wild"]


def test_a_market_that_does_not_move_has_labels(make_market):
    (index,) = (
        TrendVolatility(trend_bars=5, volatility_bars=5).label(make_market(np.full(50, 3.0)), [Segment(0, 0, 40)]).index
    )
    assert (index[:5] == -1).all()
    assert len(set(index[5:].tolist())) == 1


def test_true_regimes_are_the_markets_own(prepared):
    labels = TrueRegimes().label(prepared.market, [])
    assert labels.names == tuple(prepared.task.market.regimes)
    for index, one in zip(labels.index, prepared.market.instruments, strict=True):
        np.testing.assert_array_equal(index, one.regime)


def test_a_market_that_knows_no_regimes_needs_a_causal_labeller(market):
    with pytest.raises(MarketError, match=r"does not know its true regimes; use a causal labeller in env\.regimes"):
        TrueRegimes().label(market, TRAIN)


def test_the_label_of_a_decision_is_that_of_its_bar(prepared):
    (row,) = prepared.evaluated("test")
    one = prepared.market.instruments[3]
    assert one.symbol == row.instrument == "test_0"
    at = np.searchsorted(one.time, row.time)
    np.testing.assert_array_equal(row.regime, one.regime[at])


def test_labels_never_reach_an_observation(prepared):
    """Other true regimes beside the same prices: the agent sees the same."""
    swapped = tuple(dataclasses.replace(one, regime=3 - one.regime) for one in prepared.market.instruments)
    other = PreparedTask(prepared.task, dataclasses.replace(prepared.market, instruments=swapped), None)
    assert not np.array_equal(prepared.labels.index[0], other.labels.index[0])
    envs = [one.training_env(4, seed=0) for one in (prepared, other)]
    np.testing.assert_array_equal(*(env.reset() for env in envs))
    for _ in range(100):
        (observations, rewards, *_), (observations_other, rewards_other, *_) = (
            env.step(np.array([0, 1, 2, 2])) for env in envs
        )
        np.testing.assert_array_equal(observations, observations_other)
        np.testing.assert_array_equal(rewards, rewards_other)
