"""A trading task: a market with its splits, its features and its trading rules, and the environments made from them."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, InstanceOf

from moe_trader.argument import check_types, whole_number
from moe_trader.bounds import WIDEST, Bars, Positive, Real, Scale, TwoBars
from moe_trader.env import (
    SPLITS,
    Feature,
    Labels,
    Market,
    MarketError,
    MarketSource,
    Positions,
    RegimeLabeller,
    Reward,
    Segment,
    Split,
)
from moe_trader.env.audience import places, seen_by_gate, seen_by_gate_alone
from moe_trader.env.calendars import warn_of_short_instruments, warn_of_unequal_bars
from moe_trader.env.costs import Cost, total
from moe_trader.env.evaluated import Evaluated
from moe_trader.env.features import Scaler, check_columns, fitted, learned, lookback, rows
from moe_trader.env.gate_table import GateTable, gate_labeller, label_rows
from moe_trader.env.lanes import Lanes, Rules, Stretch, Tape
from moe_trader.env.ledger import FILLS
from moe_trader.env.margin import Margin, none_if_empty
from moe_trader.env.market import no_true_opens
from moe_trader.env.prices import check_volume, market_prices
from moe_trader.env.splits import check_split, period, playable, split_line
from moe_trader.env.trading_env import TradingEnv
from moe_trader.gate_input import NEWEST_BAR, GateInput
from moe_trader.memory import check_memory
from moe_trader.option import describe, option

if TYPE_CHECKING:
    from moe_trader.env.trading_vec_env import TradingVecEnv, UnitRewards


@option
class TradingTask:
    """What is traded, what is seen of it, and by which rules: the ``env`` node of the config.

    :param market: where prices come from
    :param split: how they are cut into training, validation and test bars
    :param features: name -> columns of the observation
    :param gate_features: names of the features that the gate sees, never the account; ``None``: those that are slow
    :param gate_only: names of those among them that no expert sees, but a single policy does; ``None``: those made for
        the gate (:attr:`Feature.for_gate`)
    :param gate_labels: names the regimes that a gate which reads labels sees; causal
    :param window: feature rows (bars) in an observation
    :param clip: bound of the standardised features
    :param regimes: names the market condition of each bar, for the tables
    :param positions: what an action means
    :param fill: when an order decided at a close is filled; ``this_close`` is not tradable, and reported as such
    :param costs: name -> piece of what trading costs
    :param margin: closes a position that too little equity is left for; ``None``: nothing does
    :param reward: what the learner is rewarded for
    :param initial_equity: currency
    :param unit_rewards: show the learner its rewards in units of the training split's bar volatility
    :param episode_bars: longest training episode
    :param visits: of each training bar, where ``trainer.total_timesteps`` is ``None``
    """

    market: MarketSource
    split: Split
    features: dict[str, Feature]
    gate_features: Annotated[list[str], Field(min_length=1)] | None
    gate_only: list[str] | None
    gate_labels: RegimeLabeller
    window: Bars
    clip: Scale
    regimes: RegimeLabeller
    positions: Positions
    fill: Literal["next_open", "next_close", "this_close"]
    costs: dict[str, Cost]
    # The only default in Python. Configs saved by 0.1.0 lack this key; they must rerun without a margin, bit for bit.
    margin: Annotated[InstanceOf[Margin] | None, BeforeValidator(none_if_empty)] = None
    reward: Reward
    initial_equity: Annotated[Real, Field(ge=1e-6, le=1e12)]
    unit_rewards: bool
    episode_bars: TwoBars
    visits: Positive

    def __post_init__(self) -> None:
        check_columns(self.features)
        total(self.costs.values())
        if self.margin is not None:
            self.margin.check(self.positions)
        assert set(self.seen_by_gate_alone) <= set(self.seen_by_gate)  # raises for names that are none
        if not self.gate_labels.causal:
            raise ValueError(
                f"gate_labels: {type(self.gate_labels).__name__} knows what nobody can at the time; choose a causal "
                "labeller, env/regimes@env.gate_labels=trend_volatility, or let gating=oracle see the true regimes"
            )

    @property
    def seen_by_gate(self) -> list[str]:
        """Names of the features that the gate sees."""
        return seen_by_gate(self.features, self.gate_features)

    @property
    def seen_by_gate_alone(self) -> list[str]:
        """Names of those among them that no expert of a mixture sees."""
        return seen_by_gate_alone(self.features, self.seen_by_gate, self.gate_only)

    def prepare(
        self, scaler: Scaler | None = None, market: Market | None = None, gate_input: GateInput = NEWEST_BAR
    ) -> PreparedTask:
        """Load the market and compute everything that does not change while trading.

        :param scaler: of a saved agent, whose fitted features the task has; ``None``: fit both on the training split
        :param market: what :attr:`market` loaded before; ``None``: load it
        :param gate_input: what the gate reads, ``settings.gating.gate_input()``
        :raises MarketError: when the data cannot be used
        """
        market = self.market.load() if market is None else market
        check_types(market=(market, Market), scaler=(scaler, Scaler | None), gate_input=(gate_input, GateInput))
        if self.fill == "next_open" and not market.opens_are_real:
            raise no_true_opens(market, hasattr(self.market, "opens_are_real"))
        return PreparedTask(self, market, scaler, gate_input)

    def segments(self, market: Market, uses: int) -> tuple[dict[str, list[Segment]], list[Segment]]:
        """Return the bars that each split observes, and those that features, scaler and labels are fitted on.

        :param uses: bars that an observation uses
        """
        segments = self.split.segments(market, uses)
        observed = playable(market, segments, uses, self.regimes.warmup())
        trained = {part.instrument for part in observed["train"]}
        return observed, [part for part in segments["train"] if part.instrument in trained]

    def fitted(self, market: Market) -> TradingTask:
        """Return the task with its features fitted on the training bars, before anything is computed from them."""
        _, train = self.segments(market, lookback(self.features, self.window))
        return dataclasses.replace(self, features=fitted(self.features, market, train))


class PreparedTask:
    """A :class:`TradingTask` with its bars loaded: makes the environments and says what evaluation walks through."""

    def __init__(self, task: TradingTask, market: Market, scaler: Scaler | None, reads: GateInput = NEWEST_BAR) -> None:
        self.task, self.market, self.gate_input = task, market, reads
        if any(one.symbol == "all" for one in market.instruments):
            raise MarketError(f"{market.name}: tables call their means 'all'; rename that instrument's file or symbol")
        lengths = [len(one) for one in market.instruments]
        self._offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int)
        prices, costs = market_prices(market), total(task.costs.values())
        uses = lookback(task.features, max(task.window, reads.rows))
        labeller = gate_labeller(reads, task.gate_labels, market)
        if labeller is not None:
            uses = max(uses, labeller.warmup() + reads.rows)
        self._observed, train = task.segments(market, uses)
        warn_of_unequal_bars(market)
        warn_of_short_instruments(market, self._observed, SPLITS[1:])
        self._stretches = {split: [self._stretch(part) for part in self._observed[split]] for split in SPLITS}
        check_volume(market, self._observed, costs)
        n_bars, n = sum(lengths), sum(len(feature.columns()) for feature in task.features.values())
        check_memory("env.features, env.market", f"{n:,} feature columns of {n_bars:,} bars", 3 * 8 * n_bars * n)
        self.labels: Labels = task.regimes.label(market, train)
        if scaler is None:
            self.task = task = dataclasses.replace(task, features=fitted(task.features, market, train))
        raw = np.concatenate([rows(task.features, one) for one in market.instruments])
        if scaler is None:
            scaler = Scaler.fit(np.concatenate([raw[part.first : part.last + 1] for part in self._stretches["train"]]))
        self.scaler = scaler
        self._times = np.concatenate([one.time for one in market.instruments])
        features, gate = scaler.apply(raw, task.clip).astype(np.float32), None
        if reads.beyond_the_window:
            seen = places(task.features, task.seen_by_gate)
            by_gate = features[:, seen] if labeller is None else label_rows(labeller, market, train)
            gate = GateTable(reads, np.ascontiguousarray(by_gate))
        self.tape = Tape(prices, features, gate, tuple(self.feature_names))
        self.rules = Rules(
            positions=task.positions,
            fill=FILLS.index(task.fill),
            reward=task.reward.kernel(),
            bar_variance=self._bar_volatility**2,
            maintenance=0.0 if task.margin is None else task.margin.maintenance,
            window=task.window,
            clip=task.clip,
            costs=costs,
            initial_equity=task.initial_equity,
            gate_columns=self._columns(task.seen_by_gate, newest=True),
            gate_only=self._columns(task.seen_by_gate_alone, newest=False),
        )

    @cached_property
    def feature_names(self) -> list[str]:
        """Columns of one feature row."""
        return [name for feature in self.task.features.values() for name in feature.columns()]

    @cached_property
    def _bar_volatility(self) -> float:
        """Standard deviation of a bar's log return in the training split."""
        closes = [np.log(self.tape.prices.close[part.first : part.last + 1]) for part in self._stretches["train"]]
        return float(np.concatenate([np.diff(close) for close in closes]).std())

    def env(self, split: str) -> TradingEnv:
        """Return a single environment with random starts within ``split``."""
        return TradingEnv(Lanes(self.tape, self.rules, self._of(split), 1, self.task.episode_bars))

    @property
    def training_bars(self) -> int:
        """Bars that the training split decides on, over all instruments."""
        return sum(map(len, self._stretches["train"]))

    def vec_env(self, split: str, n_envs: int, seed: int | None) -> TradingVecEnv:
        """Return ``n_envs`` lanes with random starts within ``split``."""
        return self._vec_env(split, n_envs, seed, self.rules)

    def _vec_env(self, split: str, n_envs: int, seed: int | None, rules: Rules) -> TradingVecEnv:
        from moe_trader.env.trading_vec_env import TradingVecEnv  # SB3 imports PyTorch, which a single env never needs

        n_envs = whole_number(n_envs, "n_envs", most=WIDEST)
        size = self.task.window * len(self.feature_names) + (0 if self.tape.gate is None else self.tape.gate.width)
        purpose = f"observations of {size:,} numbers in {n_envs:,} lanes"
        check_memory("trainer.n_envs, env.window, env.features", purpose, 4 * 4 * n_envs * size)
        return TradingVecEnv(Lanes(self.tape, rules, self._of(split), n_envs, self.task.episode_bars), seed)

    def training_env(self, n_envs: int, seed: int | None, cost_multiple: float = 1.0) -> TradingVecEnv | UnitRewards:
        """Return the lanes to learn on: the training split, rewards in units of its volatility if the task says so.

        :param cost_multiple: of every cost that these lanes charge, see :meth:`CostRates.times`; others charge 1
        :raises ConfigError: for a multiple that is none, or that leaves nothing of what is traded
        """
        from moe_trader.env.trading_vec_env import UnitRewards

        rules = dataclasses.replace(self.rules, costs=self.rules.costs.times(cost_multiple))
        env = self._vec_env("train", n_envs, seed, rules)
        if not (self.task.unit_rewards and self.task.reward.has_unit()):
            return env
        if self._bar_volatility == 0:
            raise MarketError(f"{self.market.name}: the price never moves in the training split: nothing to learn")
        return UnitRewards(env, 1.0 / self._bar_volatility)

    def walk(self, split: str, copies: int) -> Lanes:
        """Return lanes that walk every instrument of ``split`` from its first bar to its last, ``copies`` times over.

        Lane ``c * n_instruments + i`` is copy c of instrument i.
        """
        stretches = self._of(split)
        return Lanes(self.tape, self.rules, stretches, copies * len(stretches), None)

    def evaluated(self, split: str) -> list[Evaluated]:
        """Return what each lane of :meth:`walk` goes through."""
        references = self.task.market.reference_targets(self.market, self.rules.costs.rate)
        return [
            Evaluated.of(
                self.market.instruments[part.instrument],
                part,
                self.labels.index[part.instrument],
                {name: targets[part.instrument] for name, targets in references.items()},
            )
            for part in self._observed[check_split(split)]
        ]

    def split_lines(self) -> list[str]:
        """Say in words which bars each split decides on."""
        return [split_line(split, self._stretches[split], self._times) for split in SPLITS]

    def summary(self) -> dict[str, Any]:
        """Return what a saved agent must remember of its task: market, data hash, features, what was fitted."""
        return {
            "market": self.market.name,
            "market_sha256": self.market.sha256(),
            "periods": {split: list(period(self._times, parts)) for split, parts in self._stretches.items()},
            "features": self.feature_names,
            "window": self.task.window,
            "positions": describe(self.task.positions),
            "gate_features": self.task.seen_by_gate,
            "gate_only": self.task.seen_by_gate_alone,
            "gate_sight": dataclasses.asdict(self.gate_input),
            "gate_labels": describe(self.task.gate_labels) if self.gate_input.of == "causal_regime" else None,
            "fitted": describe(learned(self.task.features)),
            "scaler": dataclasses.asdict(self.scaler),
        }

    def _of(self, split: str) -> list[Stretch]:
        """Return where the episodes of a split run."""
        return self._stretches[check_split(split)]

    def _stretch(self, part: Segment) -> Stretch:
        """Place the bars that a split observes on the tape."""
        offset = int(self._offsets[part.instrument])
        return Stretch(offset + part.start, offset + part.stop - 1)

    def _columns(self, names: list[str], newest: bool) -> tuple[int, ...]:
        """Return the columns of an observation that hold some features, of its newest bar or of its whole window."""
        within, width, window = places(self.task.features, names), len(self.feature_names), self.task.window
        return tuple(bar * width + at for bar in range(window - 1 if newest else 0, window) for at in within)
