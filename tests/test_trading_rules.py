"""Positions, costs and rewards: each by hand, and all of them together in both environments."""

import dataclasses
import math
import re
from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError

from moe_trader.env import MarketError
from moe_trader.env.costs import (
    FREE,
    Borrow,
    CashInterest,
    Cost,
    FixedPerOrder,
    HalfSpread,
    Proportional,
    SquareRootImpact,
    VolatilitySlippage,
    total,
)
from moe_trader.env.lanes import Lanes, Rules, Stretch, Tape
from moe_trader.env.ledger import FILLS, Prices
from moe_trader.env.positions import BUY_LONG, CLOSE_LONG, CLOSE_SHORT, HOLD, SELL_SHORT, Continuous, Discrete, Orders
from moe_trader.env.rewards import DifferentialSharpe, DrawdownPenalised, LogReturn, TurnoverPenalised
from moe_trader.env.task import PreparedTask
from moe_trader.env.trading_env import TradingEnv
from moe_trader.option import ConfigError

VARIANCE = 0.01  # of a training bar's log return
PLAIN = Discrete(fractions=[-1.0, 0.0, 1.0, 2.0], minimum_trade=0.0)
SHORT, FLAT, LONG, DOUBLE = range(4)

POSITIONS = {
    "discrete": PLAIN,
    "continuous": Continuous(low=-1.0, high=2.0, minimum_trade=0.1),
    "orders": Orders(size=1.0, allow_short=True, penalty=0.001),
}
COSTS = {
    "none": {},
    "two_bp": {"commission": Proportional(bp=2.0)},
    "everything": {
        "commission": Proportional(bp=1.0),
        "spread": HalfSpread(bp=2.0),
        "order": FixedPerOrder(entry=2.0, exit=3.0),
        "slippage": VolatilitySlippage(fraction=0.1),
        "impact": SquareRootImpact(coefficient=0.5, volume_cap=0.3),
        "borrow": Borrow(annual=0.05),
        "cash": CashInterest(credit_annual=0.02, debit_annual=0.07),
    },
}
REWARDS = {
    "log_return": LogReturn(),
    "differential_sharpe": DifferentialSharpe(eta=0.02),
    "drawdown_penalised": DrawdownPenalised(weight=0.5),
    "turnover_penalised": TurnoverPenalised(weight=0.001),
}


def account(
    close, positions=PLAIN, costs=(), reward=None, fill="next_close", volatility=0.0, volume=0.0, years=1 / 365.25
):
    close = np.asarray(close, dtype=np.float64)
    n = len(close)
    prices = Prices(close, close, np.full(n, years), np.full(n, volatility), np.full(n, volume))
    rules = Rules(
        positions=positions,
        fill=FILLS.index(fill),
        reward=(reward or LogReturn()).kernel(),
        bar_variance=VARIANCE,
        maintenance=0.0,
        window=1,
        clip=5.0,
        costs=total(costs),
        initial_equity=1000.0,
        gate_columns=(0,),
    )
    return TradingEnv(Lanes(Tape(prices, np.zeros((n, 1), np.float32)), rules, [Stretch(0, n - 1)], 1, None))


def steps(env, actions):
    env.reset(seed=0)
    return [(reward, info) for _, reward, _, _, info in (env.step(action) for action in actions)]


# --- positions --------------------------------------------------------------------------------------------------------


def test_a_continuous_action_spans_the_range():
    space = Continuous(low=-0.5, high=1.5, minimum_trade=0.0)
    targets, docked = space.targets(np.array([[-1.0], [0.0], [1.0], [-7.0], [3.0]]), np.zeros(5))
    np.testing.assert_allclose(targets, [-0.5, 0.5, 1.5, -0.5, 1.5])
    assert not docked.any()


def test_a_range_from_zero_bans_short_positions():
    low = Continuous(low=0.0, high=1.0, minimum_trade=0.0)
    targets, _ = low.targets(np.random.default_rng(0).uniform(-2, 2, (500, 1)), np.zeros(500))
    assert targets.min() == 0.0


@pytest.mark.parametrize("fractions", ["[0.0,3.0]", "[-0.5,0.0]", "[0.0,0.9]"])
def test_baselines_hold_what_they_say_whatever_the_agent_may(fractions, make_settings, small_experts):
    from moe_trader.agent import MoEAgent
    from moe_trader.evaluation.walk import walk

    settings = make_settings(f"env.positions.fractions={fractions}")
    task = settings.env.prepare()
    trace = walk(task, "test", MoEAgent(task.training_env(2, 0), small_experts(), settings.gating, seed=0), None, 0)
    (one,) = trace.instruments
    held = trace.reward[:, trace.index("buy_and_hold"), 0].sum()
    assert held == pytest.approx(math.log(one.close[-1] / one.close[0] * (1 - task.rules.costs.rate)), abs=1e-9)


@pytest.mark.parametrize("fill", FILLS)
def test_a_position_counts_in_the_bars_it_is_carried_through(fill):
    env = account([50.0] * 5, fill=fill)
    env.reset(seed=0)
    carried = []
    for action in (LONG, LONG, FLAT, FLAT):
        env.step(action)
        carried.append(env._lanes.carried[0])
    expected = {"this_close": [1, 1, 0, 0], "next_open": [1, 1, 1, 0], "next_close": [0, 1, 1, 0]}[fill]
    assert carried == pytest.approx(expected)


@pytest.mark.parametrize(
    ("held", "sensible"),
    [
        (0.0, {BUY_LONG: 0.5, SELL_SHORT: -0.5, HOLD: 0.0}),
        (0.5, {CLOSE_LONG: 0.0, HOLD: 0.5}),
        (-0.5, {CLOSE_SHORT: 0.0, HOLD: -0.5}),
    ],
)
def test_an_order_that_makes_no_sense_is_a_penalised_hold(held, sensible):
    orders = Orders(size=0.5, allow_short=True, penalty=0.25)
    targets, docked = orders.targets(np.arange(5), np.full(5, held))
    assert targets.tolist() == [sensible.get(order, held) for order in range(5)]
    assert docked.tolist() == [0.0 if order in sensible else 0.25 for order in range(5)]


def test_a_banned_short_makes_no_sense():
    targets, docked = Orders(size=1.0, allow_short=False, penalty=0.1).targets(np.array([SELL_SHORT]), np.zeros(1))
    assert (targets[0], docked[0]) == (0.0, 0.1)


def test_the_penalty_is_taken_from_the_reward_and_never_from_equity():
    orders = Orders(size=1.0, allow_short=True, penalty=0.01)
    (reward, info), *_ = steps(account([50.0] * 4, orders), [CLOSE_LONG])
    assert reward == -0.01
    assert (info["log_return"], info["equity"]) == (0.0, 1000.0)


def test_small_changes_are_not_traded_but_closing_is():
    positions = Continuous(low=-1.0, high=1.0, minimum_trade=0.2)
    taken = [
        info["traded"] for _, info in steps(account([50.0] * 8, positions), [[0.5], [0.6], [0.4], [0.75], [0.1], [0.0]])
    ]
    assert taken == pytest.approx([0.5, 0.0, 0.0, 0.25, 0.65, 0.1])
    tiny = [info["traded"] for _, info in steps(account([50.0] * 4, positions), [[0.1], [0.0]])]
    assert tiny == [0.0, 0.0]


@pytest.mark.parametrize("action", [4, -1, 1.5, np.array([7])])
def test_an_action_outside_the_space_is_refused(action):
    env = account([50.0] * 4)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"^expected an action from 0 to 3, got {re.escape(str(action))}$"):
        env.step(action)


@pytest.mark.parametrize("action", [None, "1", [0, 1], np.nan, [], True])
@pytest.mark.parametrize("positions", POSITIONS.values(), ids=POSITIONS)
def test_what_is_no_action_is_refused(action, positions):
    env = account([50.0] * 4, positions)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^expected one number as an action of (Discrete|Box)\(.*\), got "):
        env.step(action)


@pytest.mark.parametrize("action", [LONG, np.int64(LONG), np.array(LONG), np.array([LONG]), [LONG], float(LONG)])
def test_a_number_is_an_action_however_it_is_wrapped(action):
    ((_, info),) = steps(account([50.0] * 4), [action])
    assert info["exposure"] == 1.0


@pytest.mark.parametrize("action", [-1, -3, -6, -1000, 4, 7, 1000])
@pytest.mark.parametrize("positions", ["discrete", "orders"])
def test_lanes_refuse_an_action_outside_the_space(action, positions, prepared):
    env = PreparedTask(
        dataclasses.replace(prepared.task, positions=POSITIONS[positions]), prepared.market, None
    ).vec_env("train", 3, 0)
    env.reset()
    action += action > 0 and positions == "orders"  # there are five of them
    with pytest.raises(
        ValueError, match=r"^env 1: expected an action of Discrete\([45]\), or a finite target, got one outside it"
    ):
        env.step(np.array([0, action, action]))


@pytest.mark.parametrize("actions", [[0.0, 1.9, 0.0], [0, 1], [True, False, True], ["a", "b", "c"]])
def test_lanes_refuse_actions_that_no_rounding_makes_right(actions, prepared):
    env = prepared.vec_env("train", 3, 0)
    env.reset()
    with pytest.raises(
        ValueError, match=r"^expected (3 numbers as an action of Discrete\(3\)|an action from 0 to 2), got "
    ):
        env.step(np.array(actions))


def test_lanes_refuse_an_action_that_is_no_number(prepared):
    task = dataclasses.replace(prepared.task, positions=POSITIONS["continuous"])
    env = PreparedTask(task, prepared.market, None).vec_env("train", 2, 0)
    env.reset()
    with pytest.raises(ValueError, match=r"^env 1: expected an action of Box\(.*got one outside it \(target nan\)$"):
        env.step(np.array([[0.0], [np.nan]]))


@pytest.mark.parametrize(
    ("positions", "largest"),
    [("env.positions.fractions=[-0.5,0.0,0.3]", "0.5"), ("env/positions=continuous", "1")],
)
def test_a_minimum_trade_that_nothing_reaches_is_refused(positions, largest, make_settings):
    make_settings(positions, f"env.positions.minimum_trade={largest}")
    with pytest.raises(
        ConfigError,
        match=rf"^env\.positions: minimum_trade: expected at most {largest}, the largest position there is, got 1\.01: "
        "nothing would ever be traded$",
    ):
        make_settings(positions, "env.positions.minimum_trade=1.01")


# --- costs ------------------------------------------------------------------------------------------------------------


def test_the_fixed_fee_preset(make_settings):
    costs = make_settings("env/costs=india_fixed").env.costs.values()
    done = steps(account([50.0] * 5, costs=costs), [LONG, SHORT, FLAT])
    assert [info["cost"] for _, info in done] == [25.0, 60.0, 35.0]
    assert [info["equity"] for _, info in done] == [975.0, 915.0, 880.0]


def test_interest_of_one_percent_a_step_on_a_short_that_is_rebalanced_compounds():
    """At a constant price a short of -1 loses 1 % of its equity a step when it is brought back to -1 each time."""
    positions = Discrete(fractions=[-1.0, 0.0, -0.999999999], minimum_trade=0.0)
    env = account([50.0] * 8, positions, [Borrow(annual=0.01)], fill="this_close", years=1.0)
    equity = [info["equity"] for _, info in steps(env, [0, 2, 0, 2, 0])]
    assert equity == pytest.approx([1000.0 * 0.99**k for k in range(1, 6)], rel=1e-7)


def test_cash_earns_and_leverage_pays():
    costs = [CashInterest(credit_annual=0.02, debit_annual=0.07)]
    ((_, flat),) = steps(account([50.0] * 3, costs=costs, years=0.5), [FLAT])
    assert flat["equity"] == pytest.approx(1010.0)
    assert (flat["cost"], flat["interest"]) == (0.0, pytest.approx(10.0))
    ((_, first), (_, second)) = steps(account([50.0] * 4, costs=costs, years=0.5, fill="this_close"), [DOUBLE, DOUBLE])
    assert (first["cost"], first["interest"]) == (pytest.approx(1000.0 * 0.07 * 0.5), 0.0)
    assert second["cost"] == pytest.approx(1035.0 * 0.07 * 0.5)


def test_slippage_grows_with_volatility():
    ((_, info),) = steps(account([50.0] * 3, costs=[VolatilitySlippage(fraction=0.1)], volatility=0.02), [LONG])
    assert info["cost"] == pytest.approx(0.1 * 0.02 * 1000.0)


def test_impact_is_a_square_root_of_the_share_of_volume():
    costs = [SquareRootImpact(coefficient=0.8, volume_cap=1.0)]
    ((_, info),) = steps(account([50.0] * 3, costs=costs, volatility=0.02, volume=500.0), [LONG])
    assert info["cost"] == pytest.approx(0.8 * 0.02 * math.sqrt(20.0 / 500.0) * 1000.0)


def test_a_volume_cap_fills_in_parts():
    costs = [SquareRootImpact(coefficient=0.0, volume_cap=0.1)]
    done = steps(account([50.0] * 6, costs=costs, volume=100.0), [LONG, LONG, LONG, LONG])
    assert [info["units"] for _, info in done] == pytest.approx([10.0, 20.0, 20.0, 20.0])
    none = steps(account([50.0] * 3, costs=costs, volume=0.0), [LONG])
    assert none[0][1]["units"] == 0.0


def capped(share=0.1):
    return SquareRootImpact(coefficient=0.0, volume_cap=share)


@pytest.mark.parametrize(("opens", "closes", "side"), [(BUY_LONG, CLOSE_LONG, 1), (SELL_SHORT, CLOSE_SHORT, -1)])
def test_an_order_filled_in_part_goes_on_when_repeated_and_is_kept_by_hold(opens, closes, side):
    """20 units are wanted, 8 a bar can be had."""
    orders = Orders(size=1.0, allow_short=True, penalty=0.01)
    env = account([50.0] * 12, orders, [capped(0.08)], volume=100.0)
    actions = [opens, HOLD, opens, opens, opens, HOLD, closes, HOLD, closes, closes]
    done = steps(env, actions)
    units = [8, 8, 16, 20, 20, 20, 12, 12, 4, 0]
    assert [side * info["units"] for _, info in done] == pytest.approx(units)
    assert [info["traded"] > 0 for _, info in done] == [True, False, True, True, False, False, True, False, True, True]
    assert [reward for reward, _ in done] == [0.0] * 4 + [-0.01] + [0.0] * 5, "only the fifth is senseless"


def test_hold_trades_nothing_whatever_the_price_does():
    orders = Orders(size=1.0, allow_short=True, penalty=0.01)
    env = account([50.0, 50.0, 80.0, 20.0, 90.0], orders, [capped()], volume=100.0)
    done = steps(env, [BUY_LONG, HOLD, HOLD, HOLD])
    assert [info["units"] for _, info in done] == [10.0] * 4
    assert [info["traded"] for _, info in done[1:]] == [0.0] * 3


def test_fees_follow_what_is_traded_when_a_reversal_is_filled_in_parts():
    """+20 units to -20, 15 a bar: 20 -> 5 is an exit, 5 -> -10 both, -10 -> -20 an entry."""
    costs = [capped(0.15), FixedPerOrder(entry=2.0, exit=3.0)]
    done = steps(account([50.0] * 9, costs=costs, volume=100.0), [LONG, LONG, LONG, SHORT, SHORT, SHORT, SHORT])
    assert [info["cost"] for _, info in done] == [2.0, 2.0, 0.0, 3.0, 5.0, 2.0, 0.0]


def test_a_higher_target_that_sells_is_an_exit():
    """Half in, the price quadruples: 80 % of equity is held, and the order for 75 % sells."""
    positions = Discrete(fractions=[0.0, 0.5, 0.75], minimum_trade=0.0)
    done = steps(account([50.0, 50.0, 200.0, 200.0], positions, [FixedPerOrder(entry=2.0, exit=3.0)]), [1, 1, 2])
    assert [info["cost"] for _, info in done] == [2.0, 0.0, 3.0]


def test_an_order_that_finds_its_target_reached_by_drift_pays_no_fee():
    """Half short, the price rises by half: all of the equity is short, up to rounding."""
    positions = Discrete(fractions=[-1.0, -0.5, 0.0], minimum_trade=0.0)
    costs = [FixedPerOrder(entry=2.0, exit=3.0)]
    done = steps(account([50.0, 50.0, 75.0, 75.0], positions, costs), [1, 1, 0])
    assert done[1][1]["exposure"] == pytest.approx(-1.0, rel=1e-12)
    assert [info["cost"] for _, info in done] == [2.0, 0.0, 0.0]


def test_a_cap_that_the_costs_of_an_order_leave_room_for_is_not_in_its_way():
    """990 can be bought; 1,000 is ordered, and after 5 % of what is traded there is need of no more than 950.5."""
    done = steps(account([50.0] * 4, costs=[Proportional(bp=500.0), capped(0.99)], volume=20.0), [LONG, LONG])
    assert done[0][1]["exposure"] == pytest.approx(1.0)
    assert done[1][1]["traded"] == 0.0


def test_what_a_cap_left_is_traded_if_it_is_a_minimum_trade():
    positions = Discrete(fractions=[0.0, 1.0], minimum_trade=0.3)
    done = steps(account([50.0] * 6, positions, [capped(0.09)], volume=100.0), [1] * 4)
    assert [info["units"] for _, info in done] == pytest.approx([9.0, 18.0, 18.0, 18.0])


@pytest.mark.parametrize("step", [0.1, 0.05])
def test_a_change_of_exactly_the_minimum_trade_is_traded(step):
    """0.3 - 0.2 is 0.09999999999999998."""
    fractions = [round(step * k, 2) for k in range(11)]
    positions = Discrete(fractions=fractions, minimum_trade=step)
    done = steps(account([50.0] * 13, positions), range(1, 11))
    assert [info["traded"] for _, info in done] == pytest.approx([step] * 10)


def test_impact_without_volume_is_refused(make_settings):
    settings = make_settings("env/costs=retail_stock")
    with pytest.raises(
        MarketError,
        match=r"^synthetic has no volume in the train split of train_0, which market impact in env\.costs needs: "
        r"nothing could be traded; use other costs, such as env/costs=two_bp$",
    ):
        settings.env.prepare()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_split_needs_volume_and_a_little_is_worth_a_warning(split, make_settings, market_with_volume, caplog):
    """Volume that begins after the training split, or ends before the test, is no volume there."""
    task = make_settings("env/costs=retail_stock").env

    def with_volume(share):
        quiet = [
            dataclasses.replace(one, volume=one.volume * (np.arange(len(one)) >= (1 - share) * len(one)))
            if one.symbol == f"{split}_0"
            else one
            for one in market_with_volume.instruments
        ]
        return dataclasses.replace(market_with_volume, instruments=tuple(quiet))

    with pytest.raises(MarketError, match=rf"synthetic has no volume in the {split} split of {split}_0, which market"):
        PreparedTask(task, with_volume(0.0), None)
    PreparedTask(task, with_volume(0.25), None)
    assert (
        f"of the bars in the {split} split of {split}_0 have volume; env.costs caps what is traded by it" in caplog.text
    )
    caplog.clear()
    PreparedTask(task, market_with_volume, None)
    assert not caplog.text


class Own(Cost):
    """A piece of a user's own."""

    def __init__(self, **rates):
        self.given = FREE._replace(**rates)

    def rates(self):
        return self.given


@pytest.mark.parametrize(
    "rates", [{"slippage": np.nan}, {"entry": np.inf}, {"volume_cap": np.nan}, {"volume_cap": 0.0}]
)
def test_rates_that_are_no_numbers_are_refused(rates, settings):
    message = r"costs: expected Own\.rates\(\) to give finite numbers and a volume_cap above 0, got CostRates\(.*"
    with pytest.raises(ValueError, match=message):
        total([Proportional(bp=1.0), Own(**rates)])
    with pytest.raises(ValidationError, match=message):
        dataclasses.replace(settings.env, costs={"own": Own(**rates)})


def test_impact_without_a_cap_is_refused():
    message = (
        r"^costs: expected a volume_cap beside an impact of 0\.5, got none: .*; give one, as SquareRootImpact does$"
    )
    with pytest.raises(ValueError, match=message):
        total([Own(impact=0.5)])
    rates = total([Own(impact=0.5), SquareRootImpact(coefficient=0.5, volume_cap=0.1)])
    assert (rates.impact, rates.volume_cap) == (1.0, 0.1)


def test_a_bar_without_volume_has_no_impact():
    costs = [SquareRootImpact(coefficient=0.5, volume_cap=0.1)]
    ((_, info),) = steps(account([50.0] * 3, costs=costs, volatility=0.02, volume=0.0), [LONG])
    assert (info["traded"], info["cost"], info["equity"]) == (0.0, 0.0, 1000.0)


def test_costs_that_take_all_that_is_traded_are_refused(make_settings):
    with pytest.raises(ConfigError, match=r"^env\.costs\.commission\.bp: Input should be less than 10000, got 10000"):
        make_settings("env.costs.commission.bp=10000")
    spread = "+env.costs.spread={_target_: moe_trader.env.costs.HalfSpread, bp: 6000}"
    with pytest.raises(
        ConfigError, match=r"^env: costs: together they take 120% of the amount traded; expected less than"
    ):
        make_settings("env.costs.commission.bp=6000", spread)


def test_pieces_add_up_and_the_tightest_cap_holds():
    rates = total([Proportional(bp=3.0), HalfSpread(bp=2.0), SquareRootImpact(coefficient=1.0, volume_cap=0.2)])
    assert rates.rate == pytest.approx(5e-4)
    assert rates.volume_cap == 0.2
    assert total([]).volume_cap == math.inf


# --- rewards ----------------------------------------------------------------------------------------------------------

PATH = [50.0, 50.0, 55.0, 44.0, 46.0, 60.0, 58.0]


def test_a_deeper_drawdown_costs_and_a_recovery_does_not():
    plain = [info["log_return"] for _, info in steps(account(PATH), [LONG] * 6)]
    shaped = [reward for reward, _ in steps(account(PATH, reward=DrawdownPenalised(weight=0.5)), [LONG] * 6)]
    level, peak, depth, expected = 0.0, 0.0, 0.0, []
    for log_return in plain:
        level += log_return
        peak = max(peak, level)
        expected.append(log_return - 0.5 * max(0.0, (peak - level) - depth))
        depth = peak - level
    assert shaped == pytest.approx(expected, abs=1e-12)


def test_turnover_costs_reward():
    done = steps(account(PATH, reward=TurnoverPenalised(weight=0.01)), [LONG, LONG, SHORT, SHORT])
    for reward, info in done:
        assert reward == pytest.approx(info["log_return"] - 0.01 * info["traded"], abs=1e-15)
    assert done[2][1]["traded"] == pytest.approx(2.0)


def test_the_differential_sharpe_ratio_is_the_slope_of_the_exponential_ratio():
    """D_t = dS_t / d eta at eta = 0 of the ratio that takes in this return (Moody and Saffell 1998)."""
    eta = 0.05
    done = steps(account(PATH, reward=DifferentialSharpe(eta=eta), fill="this_close"), [LONG] * 6)
    first, second = 0.0, VARIANCE
    for reward, info in done:
        log_return, step = info["log_return"], 1e-6

        def ratio(rate, first=first, second=second, r=log_return):
            a, b = first + rate * (r - first), second + rate * (r * r - second)
            return a / math.sqrt(b - a * a)

        assert reward == pytest.approx((ratio(step) - ratio(-step)) / (2 * step), rel=1e-5)
        first += eta * (log_return - first)
        second += eta * (log_return**2 - second)


def drawn_rewards(make_settings, *overrides):
    """Rewards of random play on NASDAQ, 64 lanes of 600 bars."""
    env = make_settings("env/reward=differential_sharpe", *overrides, small=False).env.prepare().vec_env("train", 64, 0)
    env.reset()
    rng = np.random.default_rng(0)
    return np.array([env.step(rng.integers(3, size=64))[1] for _ in range(600)])


@pytest.mark.parametrize("eta", [0.001, 0.01, 0.2])
def test_the_differential_sharpe_ratio_of_random_play_stays_bounded(eta, make_settings):
    rewards = drawn_rewards(make_settings, f"env.reward.eta={eta}")
    assert 0.1 < rewards.std() < 3.0
    assert np.abs(rewards).max() < 100


def test_the_differential_sharpe_ratio_stays_bounded_after_an_account_was_flat_for_long():
    close = np.concatenate([np.full(2000, 50.0), [50.0, 60.0, 55.0]])
    env = account(close, reward=DifferentialSharpe(eta=0.05), fill="this_close")
    rewards = [reward for reward, _ in steps(env, [FLAT] * 2000 + [LONG] * 2)]
    assert set(rewards[:2000]) == {0.0}
    assert np.abs(rewards[2000:]).max() < 100


def test_a_reward_without_a_unit_is_not_scaled(make_settings):
    from moe_trader.env.trading_vec_env import UnitRewards

    assert isinstance(make_settings().env.prepare().training_env(2, 0), UnitRewards)
    assert not isinstance(make_settings("env/reward=differential_sharpe").env.prepare().training_env(2, 0), UnitRewards)


# --- all together -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market_with_volume(prepared):
    rng = np.random.default_rng(0)
    loud = [dataclasses.replace(one, volume=rng.uniform(0.0, 900.0, len(one))) for one in prepared.market.instruments]
    return dataclasses.replace(prepared.market, instruments=tuple(loud))


@pytest.mark.parametrize(("positions", "costs", "reward"), list(product(POSITIONS, COSTS, REWARDS)))
def test_every_combination_agrees_bit_for_bit_over_10000_steps(positions, costs, reward, prepared, market_with_volume):
    """20 lanes x 500 steps of the vectorised environment against one single environment for each lane."""
    changes = {"positions": POSITIONS[positions], "costs": COSTS[costs], "reward": REWARDS[reward]}
    task = PreparedTask(dataclasses.replace(prepared.task, **changes, episode_bars=120), market_with_volume, None)
    lanes, rng = 20, np.random.default_rng(1)
    many, singles = task.vec_env("train", lanes, 0), [task.env("train") for _ in range(20)]
    np.testing.assert_array_equal(many.reset(), [one.reset(seed=lane)[0] for lane, one in enumerate(singles)])
    space, sums = many.action_space, np.zeros(lanes)
    for _ in range(500):
        drawn = rng.integers(space.n, size=lanes) if space.shape == () else rng.uniform(-1, 1, (lanes, 1)).astype("f4")
        observations, rewards, dones, infos = many.step(drawn)
        for lane, one in enumerate(singles):
            observation, earned, terminated, truncated, info = one.step(drawn[lane])
            assert rewards[lane] == np.float32(earned)
            assert infos[lane]["log_return"] == info["log_return"]
            assert info["cost"] >= 0
            assert info["cash"] + info["units"] * one._lanes.ledger[0, 2] == pytest.approx(info["equity"], rel=1e-12)
            sums[lane] += info["log_return"]
            assert dones[lane] == (terminated or truncated)
            if dones[lane]:
                assert sums[lane] == pytest.approx(math.log(info["equity"] / task.task.initial_equity), abs=1e-9)
                observation, sums[lane] = one.reset()[0], 0.0
            np.testing.assert_array_equal(observations[lane], observation)


@pytest.mark.parametrize(
    "option", ["env/positions=continuous", "env/positions=orders", "env/reward=differential_sharpe"]
)
def test_every_option_learns_and_is_evaluated(option, make_settings, small_experts):
    from moe_trader.agent import MoEAgent
    from moe_trader.evaluation.evaluate import evaluate

    settings = make_settings(option)
    task = settings.env.prepare()
    agent = MoEAgent(task.training_env(4, 0), small_experts(count=2), settings.gating, seed=0).learn(512)
    tables = evaluate(task, agent, None, 0, splits=("test",))
    pooled = tables.experts[tables.experts["instrument"] == "all"].set_index("strategy")
    assert pooled.loc["flat", "log_return"] == 0.0
    assert pooled.loc["buy_and_hold", "trades"] == 1
    assert pooled.loc["mixture", "log_return"] == pytest.approx(tables.steps["reward"].sum())
    assert not tables.steps.isna().any().any()
