"""The maintenance margin: when it closes a position, at which price, and what it leaves as it was."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_trader.config import compose, run_settings
from moe_trader.env import Positions
from moe_trader.env.costs import Borrow, CashInterest, FixedPerOrder, Proportional, SquareRootImpact, total
from moe_trader.env.lanes import Lanes, Rules, Stretch, Tape
from moe_trader.env.ledger import FILLS, N_COLUMNS, Prices
from moe_trader.env.margin import Margin, describe_margin
from moe_trader.env.positions import CLOSE_SHORT, HOLD, SELL_SHORT, Continuous, Discrete, Orders
from moe_trader.env.rewards import LogReturn
from moe_trader.env.trading_env import TradingEnv
from moe_trader.env.trading_vec_env import TradingVecEnv
from moe_trader.option import ConfigError

FRACTIONS = (-2.0, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0)
PLAIN = Discrete(fractions=list(FRACTIONS), minimum_trade=0.0)
ORDERS = Orders(size=1.0, allow_short=True, penalty=0.01)
LINE = 0.25


def make_lanes(
    close, opening=None, fill="next_close", costs=(), maintenance=LINE, positions=PLAIN, volume=0.0, years=0.0, n=1
):
    """Lanes that start at bar 0 of these prices and go to their end, with 1,000 each."""
    close = np.asarray(close, dtype=np.float64)
    opening = close if opening is None else np.asarray(opening, dtype=np.float64)
    columns = [np.broadcast_to(np.asarray(column, dtype=np.float64), len(close)) for column in (years, 0.0, volume)]
    rules = Rules(
        positions=positions,
        fill=FILLS.index(fill),
        reward=LogReturn().kernel(),
        bar_variance=0.0,
        maintenance=maintenance,
        window=1,
        clip=5.0,
        costs=total(costs),
        initial_equity=1000.0,
        gate_columns=(0,),
    )
    tape = Tape(Prices(opening, close, *columns), np.zeros((len(close), 1), np.float32))
    return Lanes(tape, rules, [Stretch(0, len(close) - 1)], n, None)


def trade(actions, *bars, **how):
    """Take the actions one after the other; return reward, whether the account was ruined, and ``info`` of each."""
    env = TradingEnv(make_lanes(*bars, **how))
    env.reset(seed=0)
    steps = []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        steps.append((reward, terminated, info))
        if terminated or truncated:
            break
    return steps


def column(steps, name):
    return [info[name] for *_, info in steps]


def held(target, bars):
    return [FRACTIONS.index(target)] * (bars - 1)


# --- closed forms -----------------------------------------------------------------------------------------------------

# A position s taken at 100 with equity E is worth s E (1 + x) when the price is 100 (1 + x), and equity is E (1 + s x).
# A short of 1 x is at 25 % where x = 0.6, a long of 2 x where x = -1/3. Closes before and after that line are 3 and 4.
PATHS = {
    -1.0: ([100, 100, 159, 161, 170, 180, 180], [100, 100, 120, 160, 165, 175, 180]),
    2.0: ([100, 100, 67, 66, 62, 58, 60], [100, 100, 80, 67, 64, 60, 59]),
}


@pytest.mark.parametrize("rate", [0.0, 0.001])
@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize("fill", FILLS)
def test_a_position_below_the_line_is_closed_at_the_next_fill(fill, target, rate):
    close, opening = PATHS[target]
    steps = trade(held(target, len(close)), close, opening, fill=fill, costs=[Proportional(bp=rate * 1e4)])
    assert column(steps, "margin_call") == [0, 0, 0, 1, 0, 0]
    filled = {"this_close": close[3], "next_open": opening[4], "next_close": close[4]}[fill]
    reopened = {"this_close": close[4], "next_open": opening[5], "next_close": close[5]}[fill]
    entry = 1000.0 * (1 - abs(target) * rate)
    move = filled / 100 - 1
    worth = entry * (1 + target * move)
    value = entry * abs(target) * (1 + move)
    _, _, after = steps[3]
    assert after["units"] == after["exposure"] == 0.0
    assert after["cost"] == pytest.approx(rate * value, rel=1e-12)
    assert after["traded"] == pytest.approx(value / worth, rel=1e-12)
    left = worth - rate * value
    assert after["equity"] == after["cash"] == pytest.approx(left, rel=1e-12)
    *_, again = steps[4]  # the next decision, the same target, opens the position again
    assert again["units"] == pytest.approx(target * left * (1 - abs(target) * rate) / reopened, rel=1e-12)


def test_exactly_at_the_line_is_no_call():
    """Ten units are sold at 100: 2,000 in cash, so that 400 of equity face 1,600 at a price of 160."""
    steps = trade(held(-1.0, 5), [100, 100, 160, 160, 160])
    assert (steps[1][2]["equity"], steps[1][2]["units"]) == (400.0, -10.0)
    assert column(steps, "margin_call") == [0, 0, 0, 0]
    above = trade(held(-1.0, 5), [100, 100, 160.0001, 160, 160])
    assert column(above, "margin_call") == [0, 0, 1, 0]


@pytest.mark.parametrize(("maintenance", "price"), [(0.33, 261.15), (0.44, 183.31), (0.83, 227.41), (0.3, 33.3)])
def test_the_largest_position_that_is_allowed_can_be_held_at_a_constant_price(maintenance, price):
    """Rounding puts equity below 0.33 x position by one bit where 1 / 0.33 x equity is held at 261.15."""
    positions = Discrete(fractions=[0.0, 1 / maintenance, -1 / maintenance], minimum_trade=0.0)
    Margin(maintenance=maintenance).check(positions)
    for action in (1, 2):
        steps = trade([action] * 8, [price] * 9, positions=positions, maintenance=maintenance)
        assert column(steps, "margin_call") == [0.0] * 8


@pytest.mark.parametrize("fill", FILLS)
def test_a_flat_account_gets_no_call(fill):
    steps = trade(held(0.0, 6), [100, 1, 1000, 3, 500, 2], fill=fill)
    assert column(steps, "margin_call") == [0.0] * 5
    assert column(steps, "equity") == [1000.0] * 5


def test_a_call_replaces_whatever_was_ordered():
    closes = [100, 100, 161, 161, 161]
    for fraction in FRACTIONS:
        actions = [FRACTIONS.index(-1.0)] * 2 + [FRACTIONS.index(fraction)]
        *_, (_, _, after) = trade(actions, closes)
        assert (after["margin_call"], after["units"]) == (1.0, 0.0)
        assert after["equity"] == pytest.approx(390.0)


# --- gaps, caps and small trades --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "opening", "calls"),
    [
        ([100, 100, 210, 210], [100, 100, 100, 210], [0, 0]),  # from above the line to ruin between two closes
        ([100, 100, 161, 150, 150], [100, 100, 161, 250, 150], [0, 0, 1]),  # called, then a gap before the fill
    ],
)
def test_a_gap_still_ruins(close, opening, calls):
    steps = trade(held(-1.0, len(close)), close, opening, fill="next_open")
    assert column(steps, "margin_call") == calls
    assert [terminated for _, terminated, _ in steps] == [False] * (len(calls) - 1) + [True]
    assert steps[-1][2]["equity"] == pytest.approx(1e-3)
    assert steps[-1][2]["units"] == 0.0


def test_a_volume_cap_closes_in_parts_until_the_rest_is_above_the_line():
    """Ten units short, one a bar can be bought at 180: 200 of equity carry four units (27.8 %), five (22.2 %) not."""
    volume = [100.0, *[1.0] * 11]
    cap = [SquareRootImpact(coefficient=0.0, volume_cap=1.0)]
    actions = [SELL_SHORT, *[HOLD] * 10]
    steps = trade(actions, [100, 100, *[180] * 10], costs=cap, volume=volume, positions=ORDERS)
    assert column(steps, "units") == pytest.approx([-10, -10, -9, -8, -7, -6, -5, -4, -4, -4, -4])
    assert column(steps, "margin_call") == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert [reward for reward, *_ in steps[2:]] == [0.0] * 9


def test_a_bar_without_volume_leaves_the_call_to_the_next():
    volume = [100.0, 0.0, 0.0, 100.0, 100.0]
    cap = [SquareRootImpact(coefficient=0.0, volume_cap=1.0)]
    steps = trade([SELL_SHORT, HOLD, HOLD, HOLD], [100, 100, 161, 161, 161], costs=cap, volume=volume, positions=ORDERS)
    assert column(steps, "units") == pytest.approx([-10, -10, -10, 0])
    assert column(steps, "margin_call") == [0, 0, 1, 1]


def test_the_minimum_trade_never_stops_a_call():
    """The cap leaves a target of -0.5, closer to 0 than the smallest change that is traded."""
    positions = Discrete(fractions=[-1.0, 0.0], minimum_trade=1.0)
    cap = [SquareRootImpact(coefficient=0.0, volume_cap=1.0)]
    steps = trade([0, 0, 0], [100, 100, 250, 250], costs=cap, volume=[5.0, 9.0, 9.0, 9.0], positions=positions)
    assert column(steps, "units") == pytest.approx([-5, -5, 0])
    assert column(steps, "margin_call") == [0, 0, 1]


# --- orders and rewards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [HOLD, CLOSE_SHORT])
def test_a_call_does_not_make_a_sensible_order_senseless(order):
    steps = trade([SELL_SHORT, HOLD, order, HOLD, SELL_SHORT], [100, 100, 161, 165, 165, 165], positions=ORDERS)
    assert column(steps, "margin_call") == [0, 0, 1, 0, 0]
    assert [reward for reward, *_ in steps] == column(steps, "log_return"), "nothing is docked"
    assert column(steps, "units")[2:] == pytest.approx([0, 0, -350 / 165])


def test_an_order_is_senseless_in_a_call_if_it_was_without_one():
    for maintenance in (LINE, 0.0):
        steps = trade([SELL_SHORT, HOLD, SELL_SHORT], [100, 100, 161, 165], positions=ORDERS, maintenance=maintenance)
        reward, _, info = steps[2]
        assert reward == info["log_return"] - 0.01


# --- without a margin -------------------------------------------------------------------------------------------------

EQUITY_IN_0_1_0 = {
    "this_close": "0x1.97dd4007de950p+3",
    "next_open": "0x1.a735c2ff5ad60p+6",
    "next_close": "0x1.3c9f2d03f21dap+8",
}


@pytest.mark.parametrize("fill", FILLS)
def test_without_a_margin_an_account_ends_as_in_0_1_0(fill):
    """Whole prices and no logarithms: the same on every machine. The last equities are those that 0.1.0 gave."""
    bars = np.arange(61)
    costs = [
        Proportional(bp=5.0),
        FixedPerOrder(entry=0.25, exit=0.5),
        Borrow(annual=0.05),
        CashInterest(credit_annual=0.02, debit_annual=0.07),
    ]
    positions = Discrete(fractions=[-1.0, -0.5, 0.0, 1.0, 2.0], minimum_trade=0.0)
    actions = [bar // 3 % 5 for bar in range(60)]
    close, opening = 100.0 + 7 * bars**2 % 90, 100.0 + 11 * bars**2 % 90
    how = {"fill": fill, "costs": costs, "positions": positions, "years": 0.00390625}
    without = trade(actions, close, opening, maintenance=0.0, **how)
    assert without[-1][2]["equity"] == float.fromhex(EQUITY_IN_0_1_0[fill])
    assert column(without, "margin_call") == [0.0] * 60
    assert 1.0 in column(trade(actions, close, opening, **how), "margin_call"), "the path must reach the line"


@pytest.mark.parametrize("fill", FILLS)
def test_an_account_that_stays_above_the_line_is_the_same_to_the_last_bit(fill):
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 400)))
    actions = rng.integers(len(FRACTIONS), size=399)
    ledgers = []
    for maintenance in (0.0, LINE):
        lanes = make_lanes(close, fill=fill, costs=[Proportional(bp=5.0)], maintenance=maintenance)
        lanes.reset(0, rng)
        rows = []
        for action in actions:
            lanes.step(np.array([action]))
            rows.append(lanes.ledger[0].copy())
        ledgers.append(np.array(rows))
    assert not ledgers[1][:, N_COLUMNS - 1].any()
    np.testing.assert_array_equal(ledgers[0], ledgers[1])


# --- both environments ------------------------------------------------------------------------------------------------

DRIFTING = {
    "discrete": PLAIN,
    "orders": Orders(size=2.0, allow_short=True, penalty=0.01),
    "continuous": Continuous(low=-2.0, high=3.0, minimum_trade=0.1),
}


@pytest.mark.parametrize("positions", list(DRIFTING.values()), ids=list(DRIFTING))
@pytest.mark.parametrize("fill", FILLS)
def test_both_environments_agree_bit_for_bit_where_shorts_and_leverage_drift(fill, positions):
    rng = np.random.default_rng(2)
    n, bars = 12, 500
    close = 100 * np.exp(np.cumsum(rng.normal(0.0, 0.08, bars)))
    opening = close * np.exp(rng.normal(0, 0.02, bars))
    volume = rng.uniform(5.0, 60.0, bars)
    costs = [Proportional(bp=5.0), SquareRootImpact(coefficient=0.1, volume_cap=0.5), Borrow(annual=0.05)]
    how = {"fill": fill, "costs": costs, "positions": positions, "volume": volume, "years": 1 / 365}
    many = TradingVecEnv(make_lanes(close, opening, n=n, **how), 0)
    singles = [TradingEnv(make_lanes(close, opening, **how)) for _ in range(n)]
    many.reset()
    for one in singles:
        one.reset(seed=0)
    space, calls = many.action_space, 0
    space.seed(0)
    drawn = np.array([space.sample() for _ in range(n)])
    for _ in range(600):
        for lane in np.flatnonzero(rng.random(n) < 0.05):  # positions are left to drift for 20 bars on average
            drawn[lane] = space.sample()
        observations, rewards, dones, infos = many.step(drawn)
        for lane, one in enumerate(singles):
            observation, earned, terminated, truncated, info = one.step(drawn[lane])
            assert rewards[lane] == np.float32(earned)
            assert infos[lane]["log_return"] == info["log_return"]
            assert dones[lane] == (terminated or truncated)
            if dones[lane]:
                observation, _ = one.reset()
            else:
                assert many.lanes.margin_calls[lane] == info["margin_call"]
                np.testing.assert_array_equal(many.lanes.ledger[lane], one._lanes.ledger[0])
                calls += info["margin_call"]
            np.testing.assert_array_equal(observations[lane], observation)
    assert calls > 50


def test_margin_calls_are_a_view_of_the_last_step():
    lanes = make_lanes([100, 100, 161, 161], n=3)
    for lane in range(3):
        lanes.reset(lane, np.random.default_rng(0))
    calls = lanes.margin_calls
    seen = []
    for _ in range(4):  # the last one is after the end: nothing happens
        lanes.move(np.array([-1.0, 0.0, 1.0]))
        seen.append(calls.tolist())
    assert seen == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert calls.shape == (3,)
    assert np.shares_memory(calls, lanes.ledger)


# --- any prices -------------------------------------------------------------------------------------------------------


def book(targets, opening, close, fill, maintenance, rate):
    """The rule written a second time, over cash and units; yields equity, units, and the call of each step."""
    cash, units, asked = 1000.0, 0.0, 0.0
    for bar, target in enumerate(targets):
        value = abs(units * close[bar])
        equity = cash + units * close[bar]
        call = value > 0 and equity / value < maintenance * (1 - 1e-9)
        target = 0.0 if call else target
        price = {"this_close": close[bar], "next_open": opening[bar + 1], "next_close": close[bar + 1]}[fill]
        if target != asked:
            worth = cash + units * price
            fee = rate * abs(target * worth - units * price)
            bought = target * (worth - fee) / price - units
            cash, units, asked = cash - fee - bought * price, units + bought, target
        yield cash + units * close[bar + 1], units, call


moves = st.floats(-0.5, 0.5)


@settings(max_examples=300, deadline=None)
@given(
    bars=st.lists(st.tuples(moves, st.floats(-0.1, 0.1)), min_size=2, max_size=40),
    fill=st.sampled_from(FILLS),
    maintenance=st.sampled_from([0.05, 0.25, 0.3]),
    rate=st.sampled_from([0.0, 0.002]),
    data=st.data(),
)
def test_a_position_is_above_the_line_or_closed_at_the_next_fill(bars, fill, maintenance, rate, data):
    moved, gaps = map(np.array, zip(*bars, strict=True))
    close = 100 * np.exp(np.cumsum(moved))
    opening = close * np.exp(gaps)
    turns = data.draw(st.lists(st.sampled_from(FRACTIONS), min_size=1, max_size=3))
    targets = [turns[bar * len(turns) // len(close)] for bar in range(len(close) - 1)]
    actions = [FRACTIONS.index(target) for target in targets]
    costs = [Proportional(bp=rate * 1e4)]
    steps = trade(actions, close, opening, fill=fill, maintenance=maintenance, costs=costs)
    ratio = np.inf  # equity / |position| at the close where the step begins
    expected = book(targets, opening, close, fill, maintenance, rate)
    for bar, ((_, ruined, info), (equity, units, call)) in enumerate(zip(steps, expected, strict=False), 1):
        if abs(ratio - maintenance) < 1e-6:  # rounding decides
            return
        assert (info["margin_call"] == 1.0) == (ratio < maintenance) == call
        if ruined:
            return
        assert info["units"] == 0.0 or not call
        assert info["equity"] == pytest.approx(equity, rel=1e-7, abs=1e-7)
        assert info["units"] == pytest.approx(units, rel=1e-7, abs=1e-9)
        value = abs(info["units"] * close[bar])
        ratio = info["equity"] / value if value else np.inf


# --- config -----------------------------------------------------------------------------------------------------------


def test_the_margin_is_on_by_default(prepared):
    assert prepared.task.margin == Margin(maintenance=0.25)
    assert prepared.rules.maintenance == 0.25
    assert prepared.walk("test", 1).margin_calls.shape == (1,)


@pytest.mark.parametrize("overrides", [["env/margin=none"], ["env.margin=null"], ["~env.margin"]], ids=str)
def test_a_config_without_a_margin_trades_without_one(overrides, make_settings):
    made = make_settings(*overrides)
    assert made.env.margin is None
    assert made.env.prepare().rules.maintenance == 0.0


def test_a_config_saved_by_0_1_0_means_no_margin():
    plain = compose(["env=synthetic"])
    del plain["env"]["margin"]
    assert run_settings(plain).env.margin is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.margin.maintenance=0", r"^env\.margin\.maintenance: Input should be greater than 0, got 0$"),
        ("env.margin.maintenance=1", r"^env\.margin\.maintenance: Input should be less than 1, got 1$"),
        ("env.margin=0.25", r"^env\.margin: Input should be an instance of Margin, got 0\.25$"),
        ("env.margin=none", r"^env\.margin: Input .*; an option of a group is chosen with a slash: env/margin=none$"),
        ("+env.margin.maintainance=0.2", r"^env\.margin\.maintainance: unknown .* Did you mean `maintenance`\?"),
    ],
)
def test_a_margin_that_is_none_is_refused(override, message, make_settings):
    with pytest.raises(ConfigError, match=message):
        make_settings(override)


@pytest.mark.parametrize(
    ("overrides", "setting", "largest", "allowed"),
    [
        (["env.positions.fractions=[-7.0,0.0,1.0]"], "fractions", "7", "0.142"),
        (["env/positions=continuous", "env.positions.low=-5"], "low", "5", "0.2"),
        (["env/positions=continuous", "env.positions.high=4.5"], "high", "4.5", "0.222"),
        (["env/positions=orders", "env.positions.size=8"], "size", "8", "0.125"),
    ],
)
def test_positions_that_would_be_closed_at_once_are_refused_with_the_way_out(
    overrides, setting, largest, allowed, make_settings
):
    with pytest.raises(ConfigError) as caught:
        make_settings(*overrides)
    assert str(caught.value) == (
        f"env: margin: env.margin.maintenance=0.25 closes positions above 4 x equity, but env.positions.{setting} "
        f"allows {largest} x; set env.margin.maintenance to {allowed} or less, choose smaller positions, or set "
        "env/margin=none"
    )
    make_settings(*overrides, f"env.margin.maintenance={allowed}")
    make_settings(*overrides, "env/margin=none")


class Plugin(Positions):
    """Positions of a user's own, written before there was a margin."""

    minimum_trade = 0.0

    def action_space(self):
        return PLAIN.action_space()

    def targets(self, actions, held):
        return PLAIN.targets(actions, held)


def test_positions_that_name_no_largest_target_work(make_settings):
    task = dataclasses.replace(make_settings().env, positions=Plugin())
    lanes = task.prepare().walk("test", 1)
    lanes.reset(0, np.random.default_rng(0))
    lanes.step(np.array([FRACTIONS.index(1.0)]))
    assert lanes.target[0] == 1.0


def test_the_margin_is_named_among_the_facts_of_a_run(settings, prepared):
    from moe_trader.trainer.facts import facts

    assert facts(settings, prepared)["margin"] == "closed below 25 % equity over position"
    assert describe_margin(Margin(maintenance=0.29)) == "closed below 29 % equity over position"
    assert describe_margin(None) == "none"
