"""Lanes: many independent accounts stepping through prepared bars together.

Both environments drive this one engine, so that they agree to the last bit; they only speak different dialects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray

from moe_trader.argument import whole_number
from moe_trader.env import Floats, Positions
from moe_trader.env.costs import CostRates
from moe_trader.env.gate_table import GateTable
from moe_trader.env.ledger import (
    CARRIED,
    COST,
    EQUITY,
    INTEREST,
    MARGIN_CALL,
    MARK,
    N_COLUMNS,
    RUIN,
    TARGET,
    TRADED,
    UNITS,
    Prices,
    Terms,
    observe_lanes,
    open_ledger,
    pack_prices,
    pack_terms,
    step_lanes,
    write_bar_indices,
)
from moe_trader.gate_input import NEWEST_BAR, GateInput, column_names


@dataclass(frozen=True)
class Rules:
    """What the lanes trade by.

    :param positions: what an action means
    :param fill: index into :data:`~moe_trader.env.ledger.FILLS`
    :param reward: which of the ledger's rewards, and its setting
    :param bar_variance: of the log return of a training bar, where the differential Sharpe ratio starts
    :param maintenance: smallest equity / |position value| that keeps a position open; 0: no margin
    :param window: feature rows in an observation
    :param clip: bound of every number in an observation
    :param gate_columns: which numbers of an observation the gate may see, the newest row of its features
    :param gate_only: which numbers of an observation no expert of a mixture sees
    """

    positions: Positions
    fill: int
    reward: tuple[int, float]
    bar_variance: float
    maintenance: float
    window: int
    clip: float
    costs: CostRates
    initial_equity: float
    gate_columns: tuple[int, ...]
    gate_only: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tape:
    """Bars of all instruments one after the other: prices, and features of shape ``(n_bars, n_features)``.

    :param gate: what the gate alone sees, behind everything else; ``None``: nothing
    :param names: of the features, for messages; empty: not known
    """

    prices: Prices
    features: NDArray[np.float32]
    gate: GateTable | None = None
    names: tuple[str, ...] = ()

    @cached_property
    def packed(self) -> Floats:
        """Prices as the kernel takes them."""
        return pack_prices(self.prices)


@dataclass(frozen=True)
class Stretch:
    """A segment on the tape: an episode's observations lie between the bars ``first`` and ``last``, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


_STATE = ("ledger", "bars", "starts", "ends", "rewards", "log_returns", "bankrupt")


class Lanes:
    """``n`` accounts over one tape.

    :param stretches: where episodes may run
    :param episode_bars: longest episode; ``None``: from the start of a stretch to its end, lane i in stretch i
    """

    def __init__(
        self, tape: Tape, rules: Rules, stretches: Sequence[Stretch], n: int, episode_bars: int | None
    ) -> None:
        self.tape, self.rules, self.n = tape, rules, n
        self._stretches = list(stretches)
        self._episode_bars = episode_bars
        lengths = np.array([len(stretch) for stretch in stretches], dtype=np.float64)
        self._chances = np.cumsum(lengths / lengths.sum())
        ruin = RUIN * rules.initial_equity
        terms = Terms(
            rules.fill, ruin, rules.positions.minimum_trade, *rules.reward, rules.bar_variance, rules.maintenance
        )
        self._terms = pack_terms(terms, rules.costs)
        self.ledger = np.zeros((n, N_COLUMNS))
        self.bars = np.zeros(n, dtype=np.int64)
        self.starts = np.zeros(n, dtype=np.int64)
        self.ends = np.zeros(n, dtype=np.int64)
        self.rewards = np.zeros(n)
        self.log_returns = np.zeros(n)
        self.bankrupt = np.zeros(n, dtype=np.bool_)
        self._seen_by_experts = rules.window * tape.features.shape[1] + 2
        self.observation_space = self._observation_space()
        self.action_space = rules.positions.action_space()

    @property
    def gate_input(self) -> GateInput:
        """What the gate is shown."""
        return NEWEST_BAR if self.tape.gate is None else self.tape.gate.gate_input

    @property
    def gate_tail(self) -> int:
        """Columns at the end of an observation that are the gate's alone."""
        return 0 if self.tape.gate is None else self.tape.gate.width

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of an observation before :attr:`gate_tail`; empty where features have none."""
        return column_names(self.tape.names, self.rules.window, self._seen_by_experts)

    def _observation_space(self) -> spaces.Box:
        bounds = np.repeat([[-self.rules.clip], [self.rules.clip]], self._seen_by_experts, axis=1)
        if self.tape.gate is not None:
            tail = np.repeat(np.array(self.tape.gate.bounds(self.rules.clip))[:, None], self.gate_tail, axis=1)
            bounds = np.concatenate([bounds, tail], axis=1)
        low, high = bounds.astype(np.float32)
        return spaces.Box(low, high, dtype=np.float32)

    def reset(self, lane: int, rng: np.random.Generator) -> None:
        """Start an episode in one lane: all cash, at a random bar of a random stretch unless episodes are whole."""
        if self._episode_bars is None:
            stretch = self._stretches[lane % len(self._stretches)]
            start, end = stretch.first, stretch.last
        else:
            at = int(self._chances.searchsorted(rng.random(), side="right"))
            stretch = self._stretches[min(at, len(self._stretches) - 1)]
            spare = max(len(stretch) - self._episode_bars, 0)
            start = stretch.first + int(rng.integers(spare + 1))
            end = min(start + self._episode_bars, stretch.last)
        self.bars[lane] = self.starts[lane] = start
        self.bankrupt[lane] = False
        self.ends[lane] = end
        open_ledger(self.ledger[lane], self.rules.initial_equity, self.tape.prices.close[start], self._terms)

    def step(self, actions: np.ndarray) -> None:
        """Take one action in every lane and move it one bar on, see :meth:`move`."""
        targets, docked = self.rules.positions.targets(actions, self.target)
        self.move(targets)
        self.rewards -= docked

    def move(self, targets: Floats) -> None:
        """Order target positions, move one bar on, and fill :attr:`rewards`, :attr:`log_returns`, :attr:`bankrupt`.

        :raises ValueError: for a target that is not finite, as an action outside the space has
        """
        unusable = step_lanes(
            self.ledger,
            self.bars,
            self.ends,
            targets,
            self.tape.packed,
            self._terms,
            self.rewards,
            self.log_returns,
            self.bankrupt,
        )
        if unusable >= 0:
            raise ValueError(
                f"env {unusable}: expected an action of {self.action_space}, or a finite target, got one outside it "
                f"(target {targets[unusable]})"
            )

    def observe(self, lanes: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        """Return the observations of some lanes, shape ``(n_lanes, size)``; all of them by default."""
        bars, rules = self.bars[lanes], self.rules
        observations = np.empty((len(bars), *self.observation_space.shape), dtype=np.float32)
        observe_lanes(self.ledger[lanes], bars, self.tape.features, rules.window, rules.clip, observations)
        if self.tape.gate is not None:
            observations[:, self._seen_by_experts :] = self.tape.gate.at(bars)
        return observations

    def bar_indices(self, lanes: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        """Return what stands for the observations of some lanes: bar number and account, shape ``(n_lanes, 3)``."""
        bars = self.bars[lanes]
        references = np.empty((len(bars), 3), dtype=np.float32)
        write_bar_indices(self.ledger[lanes], bars, self.rules.clip, references)
        return references

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of all that a step reads and changes."""
        return {name: getattr(self, name).copy() for name in _STATE}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put a state back."""
        for name in _STATE:
            getattr(self, name)[:] = state[name]

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Lanes at the end of their episode: its bars are used up, or the account is bankrupt."""
        return self.bars >= self.ends

    @property
    def target(self) -> Floats:
        """Target position that each lane holds, as a fraction of equity."""
        return self.ledger[:, TARGET]

    @property
    def equity(self) -> Floats:
        """Equity at the last close, in currency."""
        return self.ledger[:, EQUITY]

    @property
    def carried(self) -> Floats:
        """Largest absolute position / equity that was carried through any part of the last step."""
        return self.ledger[:, CARRIED]

    @property
    def traded(self) -> Floats:
        """Amount traded in the last step / equity at the fill."""
        return self.ledger[:, TRADED]

    @property
    def cost(self) -> Floats:
        """Costs paid in the last step, in currency."""
        return self.ledger[:, COST]

    @property
    def margin_calls(self) -> Floats:
        """1 where the last step was a margin call, which closes the position; 0 elsewhere."""
        return self.ledger[:, MARGIN_CALL]

    def log_profit(self, lane: int) -> float:
        """Return log(equity / initial equity): what the episode's log returns have summed to."""
        return float(np.log(self.ledger[lane, EQUITY] / self.rules.initial_equity))

    def account(self, lane: int) -> dict[str, float]:
        """Return one lane's account at the last close, for ``info``."""
        row = self.ledger[lane]
        return {
            "equity": float(row[EQUITY]),
            "units": float(row[UNITS]),
            "cash": float(row[EQUITY] - row[UNITS] * row[MARK]),
            "exposure": float(row[UNITS] * row[MARK] / row[EQUITY]),
            "cost": float(row[COST]),
            "interest": float(row[INTEREST]),
            "traded": float(row[TRADED]),
            "margin_call": float(row[MARGIN_CALL]),
            "log_return": float(self.log_returns[lane]),
        }


def lane_generators(n: int, seed: int | None) -> list[np.random.Generator]:
    """Return one generator a lane; lane i of seed s draws what a single environment of seed s + i draws.

    :raises ValueError: for another seed than a whole number of at least 0
    """
    seed = None if seed is None else whole_number(seed, "seed", least=0)
    return [seeding.np_random(None if seed is None else seed + lane)[0] for lane in range(n)]
