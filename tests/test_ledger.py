"""What a position earns and what trading it costs, in numbers that can be checked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from moe_trader.env.costs import Borrow, Cost, FixedPerOrder, HalfSpread, Proportional, total
from moe_trader.env.lanes import Lanes, Rules, Stretch, Tape
from moe_trader.env.ledger import FILLS, Prices
from moe_trader.env.positions import Discrete
from moe_trader.env.rewards import LogReturn
from moe_trader.env.trading_env import TradingEnv
from moe_trader.option import ConfigError

POSITIONS = (-1.0, -0.5, 0.0, 0.5, 1.0)
FREE = {"proportional_bp": 0.0, "half_spread_bp": 0.0, "fixed_entry": 0.0, "fixed_exit": 0.0, "borrow_annual": 0.0}


def pieces(**costs) -> list[Cost]:
    """The pieces that together cost what the keywords say."""
    wanted = {**FREE, **costs}
    return [
        Proportional(bp=wanted["proportional_bp"]),
        HalfSpread(bp=wanted["half_spread_bp"]),
        FixedPerOrder(entry=wanted["fixed_entry"], exit=wanted["fixed_exit"]),
        Borrow(annual=wanted["borrow_annual"]),
    ]


def trade(targets, close, opening=None, fill="next_close", years=None, equity=1000.0, **costs):
    """Trade the targets one after the other; return ``(reward, terminated, truncated, account)`` of each step."""
    env = account(close, opening, fill, years, equity, **costs)
    env.reset(seed=0)
    steps = []
    for target in targets:
        _, reward, terminated, truncated, info = env.step(POSITIONS.index(target))
        steps.append((reward, terminated, truncated, info))
        if terminated or truncated:
            break
    return steps


def account(close, opening=None, fill="next_close", years=None, equity=1000.0, **costs):
    """A TradingEnv that starts at bar 0 of these prices and goes to their end."""
    close = np.asarray(close, dtype=np.float64)
    opening = np.concatenate([close[:1], close[:-1]]) if opening is None else np.asarray(opening, dtype=np.float64)
    years = np.full(len(close), 1 / 365.25) if years is None else np.asarray(years, dtype=np.float64)
    tape = Tape(
        Prices(opening, close, years, np.zeros(len(close)), np.zeros(len(close))),
        np.zeros((len(close), 1), dtype=np.float32),
    )
    rules = Rules(
        positions=Discrete(fractions=list(POSITIONS), minimum_trade=0.0),
        reward=LogReturn().kernel(),
        bar_variance=0.0,
        maintenance=0.0,
        fill=FILLS.index(fill),
        window=1,
        clip=5.0,
        costs=total(pieces(**costs)),
        initial_equity=equity,
        gate_columns=(0,),
    )
    return TradingEnv(Lanes(tape, rules, [Stretch(0, len(close) - 1)], 1, None))


def equities(steps):
    return [info["equity"] for *_, info in steps]


def reference(targets, opening, close, years, fill, equity, costs):
    """The same rules written a second time, as a book of cash and units; yields equity and cost of each step."""
    rate = (costs["proportional_bp"] + costs["half_spread_bp"]) / 10_000
    cash, units, asked, paid = equity, 0.0, 0.0, 0.0

    def order(target, price):
        nonlocal cash, units, asked, paid
        worth = cash + units * price
        before, after = units * price, target * worth
        fee = rate * abs(after - before)
        if before * after < 0 or abs(after) > abs(before) + 1e-9 * worth:
            fee += costs["fixed_entry"]
        if before * after < 0 or abs(after) < abs(before) - 1e-9 * worth:
            fee += costs["fixed_exit"]
        bought = target * (worth - fee) / price - units
        cash, units, asked, paid = cash - fee - bought * price, units + bought, target, paid + fee

    for bar, target in enumerate(targets):
        paid, changes = 0.0, target != asked
        if changes and fill == "this_close":
            order(target, close[bar])
        if units < 0:
            interest = -units * close[bar] * costs["borrow_annual"] * years[bar + 1]
            cash, paid = cash - interest, paid + interest
        if changes and fill == "next_open":
            order(target, opening[bar + 1])
        if changes and fill == "next_close":
            order(target, close[bar + 1])
        yield cash + units * close[bar + 1], paid


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("costs", [{"proportional_bp": 10.0}, {"proportional_bp": 4.0, "half_spread_bp": 6.0}])
def test_a_round_trip_at_a_constant_price_pays_two_fees(fill, side, costs):
    steps = trade([side, 0.0], [50.0] * 3, fill=fill, **costs)
    assert equities(steps) == pytest.approx([999.0, 998.001], rel=1e-14)
    assert [info["cost"] for *_, info in steps] == pytest.approx([1.0, 0.999], rel=1e-14)
    assert steps[0][3]["units"] == pytest.approx(side * 999.0 / 50.0, rel=1e-14)
    assert steps[1][3]["units"] == 0.0


@pytest.mark.parametrize("fill", FILLS)
def test_a_reversal_pays_fees_on_both_legs(fill):
    steps = trade([1.0, -1.0], [50.0] * 3, fill=fill, proportional_bp=10.0)
    assert equities(steps) == pytest.approx([999.0, 999.0 - 0.001 * 2 * 999.0], rel=1e-14)
    assert steps[1][3]["traded"] == pytest.approx(2.0)


@pytest.mark.parametrize("fill", FILLS)
def test_fixed_fees_are_paid_on_entry_on_exit_and_both_on_reversal(fill):
    steps = trade([1.0, -1.0, 0.0], [50.0] * 4, fill=fill, fixed_entry=3.0, fixed_exit=2.0)
    assert equities(steps) == pytest.approx([997.0, 992.0, 990.0], rel=1e-14)


def test_enlarging_pays_the_entry_fee_and_reducing_the_exit_fee():
    steps = trade([0.5, 1.0, 0.5, 0.0], [50.0] * 5, fixed_entry=3.0, fixed_exit=2.0)
    assert [info["cost"] for *_, info in steps] == pytest.approx([3.0, 3.0, 2.0, 2.0])


def test_holding_costs_nothing_and_leaves_the_units_alone():
    steps = trade([0.5] * 4, [50.0, 50.0, 60.0, 45.0, 80.0], proportional_bp=10.0, fixed_entry=3.0)
    assert [info["cost"] for *_, info in steps[1:]] == [0.0] * 3
    assert [info["traded"] for *_, info in steps[1:]] == [0.0] * 3
    assert len({info["units"] for *_, info in steps}) == 1


def test_an_order_filled_at_the_next_open_earns_only_from_that_open():
    steps = trade([1.0, 1.0, 0.0], [100, 110, 121, 50], opening=[100, 105, 130, 120], fill="next_open")
    rewards = [reward for reward, *_ in steps]
    assert rewards[0] == pytest.approx(math.log(110 / 105))  # the gap from 100 to 105 belongs to nobody
    assert rewards[1] == pytest.approx(math.log(121 / 110))
    assert rewards[2] == pytest.approx(math.log(120 / 121))  # sold at the open, before the fall to 50


def test_an_order_filled_at_the_next_close_earns_from_the_bar_after():
    steps = trade([1.0, 1.0, 0.0], [100, 110, 121, 50], opening=[100, 105, 130, 120], fill="next_close")
    assert [reward for reward, *_ in steps] == pytest.approx([0.0, math.log(121 / 110), math.log(50 / 121)])


def test_an_order_filled_at_this_close_earns_the_whole_next_bar():
    steps = trade([1.0, 1.0, 0.0], [100, 110, 121, 50], opening=[100, 105, 130, 120], fill="this_close")
    assert [reward for reward, *_ in steps] == pytest.approx([math.log(110 / 100), math.log(121 / 110), 0.0])


@pytest.mark.parametrize("fill", FILLS)
def test_a_short_pays_borrow_interest_for_every_night_it_is_held(fill):
    night = np.array([0.0, 0.01, 0.02, 0.04, 0.08])
    steps = trade([-1.0, -1.0, 0.0, 0.0], [50.0] * 5, fill=fill, years=night, borrow_annual=0.1)
    worth, expected = 1000.0, []
    short = {"this_close": (0, 1), "next_open": (1, 2), "next_close": (1, 2)}[fill]  # steps that begin with a loan
    value = 1000.0  # of the short, whose units stay as they are
    for step in range(4):
        worth -= 0.1 * night[step + 1] * value if step in short else 0.0
        expected.append(worth)
    assert equities(steps) == pytest.approx(expected, rel=1e-14)


def test_borrow_interest_runs_over_the_calendar_so_a_weekend_costs_three_nights(make_settings, make_market):
    """Through the whole task: the stamps of the bars say how long a night is."""
    from moe_trader.env.task import PreparedTask

    task = make_settings(
        "env=csv",
        "env.market.path=none.csv",
        "env.costs.commission.bp=0",
        "+env.costs.borrow={_target_: moe_trader.env.costs.Borrow, annual: 0.1}",
        small=False,
    ).env
    market = make_market(np.full(1000, 50.0))
    lanes = PreparedTask(task, market, None).walk("train", 1)
    lanes.reset(0, np.random.default_rng(0))
    short = np.array([task.positions.fractions.index(-1.0)])
    lanes.step(short)  # filled at the next open: nothing is borrowed before it
    assert lanes.cost[0] == 0.0
    nights = {}
    for _ in range(10):
        weekday = market.instruments[0].time[lanes.bars[0]].astype("datetime64[D]").astype(int) % 7  # 1 is a Friday
        lanes.step(short)
        nights.setdefault(weekday == 1, []).append(lanes.cost[0])
    assert nights[True] == pytest.approx([10_000 * 0.1 * 3 / 365.25] * 2)
    assert nights[False] == pytest.approx([10_000 * 0.1 * 1 / 365.25] * 8)


def test_a_long_position_pays_no_interest():
    assert equities(trade([1.0, 1.0, 0.5], [50.0] * 4, borrow_annual=5.0)) == [1000.0] * 3


prices = st.floats(0.05, 20.0).map(lambda ratio: 100.0 * ratio)
bars = st.lists(st.tuples(prices, prices, st.floats(0.0, 0.05)), min_size=3, max_size=30)
costs = st.fixed_dictionaries(
    {
        "proportional_bp": st.floats(0, 300),
        "half_spread_bp": st.floats(0, 300),
        "fixed_entry": st.floats(0, 30),
        "fixed_exit": st.floats(0, 30),
        "borrow_annual": st.floats(0, 2),
    }
)


@settings(max_examples=300, deadline=None)
@given(bars=bars, costs=costs, fill=st.sampled_from(FILLS), data=st.data())
def test_any_trading_adds_up(bars, costs, fill, data):
    """Rewards sum to log(final / initial), costs are never negative, and a second book of accounts agrees."""
    opening, close, years = map(np.array, zip(*bars, strict=True))
    targets = data.draw(st.lists(st.sampled_from(POSITIONS), min_size=len(bars) - 1, max_size=len(bars) - 1))
    steps = trade(targets, close, opening, fill, years, **costs)
    book = reference(targets, opening, close, years, fill, 1000.0, costs)
    total = 0.0
    for bar, ((reward, terminated, truncated, info), (equity, cost)) in enumerate(zip(steps, book, strict=False), 1):
        assert math.isfinite(reward)
        total += reward
        assert total == pytest.approx(math.log(info["equity"] / 1000.0), abs=1e-9)
        assert info["log_return"] == reward
        assert info["cost"] >= 0.0
        assert info["traded"] >= 0.0
        assert info["equity"] > 0.0
        assert info["cash"] + info["units"] * close[bar] == pytest.approx(info["equity"], rel=1e-9, abs=1e-9)
        assert not (terminated and truncated)
        if terminated:
            assert info["equity"] == pytest.approx(1e-6 * 1000.0, rel=1e-12)
            assert info["units"] == 0.0
        else:
            assert info["equity"] == pytest.approx(equity, rel=1e-7, abs=1e-7)
            assert info["cost"] == pytest.approx(cost, rel=1e-7, abs=1e-7)
    assert terminated or (truncated and bar == len(bars) - 1)


@settings(max_examples=100, deadline=None)
@given(
    price=st.floats(1e-3, 1e6),
    equity=st.floats(1.0, 1e9),
    fill=st.sampled_from(FILLS),
    targets=st.lists(st.sampled_from(POSITIONS), min_size=1, max_size=40),
)
def test_without_costs_a_constant_price_conserves_equity_to_the_last_bit(price, equity, fill, targets):
    steps = trade(targets, [price] * (len(targets) + 1), fill=fill, equity=equity)
    assert len(steps) == len(targets)
    assert equities(steps) == [equity] * len(targets)
    assert [reward for reward, *_ in steps] == [0.0] * len(targets)


@settings(max_examples=100, deadline=None)
@given(first=prices, then=prices, size=st.sampled_from([0.5, 1.0]))
def test_long_and_short_gain_opposite_amounts(first, then, size):
    (long,) = trade([size], [first, then], fill="this_close")
    (short,) = trade([-size], [first, then], fill="this_close")
    gain = size * 1000.0 * (then / first - 1)
    assert long[3]["equity"] - 1000.0 == pytest.approx(gain, abs=1e-9)
    if not short[1]:  # a short loses more than it has where the price more than doubles
        assert short[3]["equity"] - 1000.0 == pytest.approx(-gain, abs=1e-9)
        assert math.exp(long[0]) + math.exp(short[0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("fill", "close", "opening", "targets"),
    [
        ("this_close", [100, 300, 100], None, [-1.0, -1.0]),
        ("next_open", [100, 100, 300, 100], [100, 100, 300, 300], [-1.0, 0.0, 0.0]),  # the gap comes before the way out
        ("next_open", [100, 300, 100], [100, 100, 300], [-1.0, -1.0]),
        ("next_close", [100, 100, 300, 100], None, [-1.0, 0.0, 0.0]),
    ],
)
def test_bankruptcy_ends_the_episode_with_finite_rewards_that_still_add_up(fill, close, opening, targets):
    steps = trade(targets, close, opening, fill)
    rewards = [reward for reward, *_ in steps]
    assert [terminated for _, terminated, *_ in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(truncated for _, _, truncated, _ in steps)
    assert len(steps) < len(close), "the episode must end before its bars do, or with them"
    assert steps[-1][3]["equity"] == pytest.approx(1e-3)
    assert sum(rewards) == pytest.approx(math.log(1e-6), abs=1e-9)
    assert steps[-1][3]["units"] == 0.0


@pytest.mark.parametrize("fill", FILLS)
def test_fees_alone_can_ruin_an_account(fill):
    ((reward, terminated, _, info),) = trade([1.0], [50.0] * 3, fill=fill, fixed_entry=2000.0)
    assert terminated
    assert reward == pytest.approx(math.log(1e-6))
    assert info["exposure"] == 0.0


def test_a_bankrupt_account_starts_anew_after_reset():
    env = account([100, 300, 100, 100], fill="this_close")
    env.reset(seed=0)
    assert env.step(POSITIONS.index(-1.0))[2]
    observation, info = env.reset()
    assert (info["equity"], info["units"], info["cost"]) == (1000.0, 0.0, 0.0)
    np.testing.assert_array_equal(observation, 0.0)
    assert env.step(POSITIONS.index(0.0))[1:4] == (0.0, False, False)


@pytest.mark.parametrize("name", FREE)
def test_negative_costs_are_refused(name, make_settings):
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        pieces(**{name: -1.0})
    with pytest.raises(ConfigError, match=r"env\.costs\.commission\.bp: .*greater than or equal to 0"):
        make_settings("env.costs.commission.bp=-1.0")
