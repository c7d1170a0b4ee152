"""Walking every strategy through a split at once, each on its own account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_trader.evaluation import Decider, Floats, Lanes, Walkable, WithWeights
from moe_trader.evaluation.pooling import Pooling
from moe_trader.evaluation.strategies import Routing, Strategy, agent_strategies, baselines

BANKRUPT = 1e-5  # of the initial equity: an account below it was closed
AT_ONCE = 256  # decisions whose gate weights are prepared together; the gate sees the market, not the account


@dataclass(frozen=True)
class Trace:
    """What every strategy did; arrays have shape ``(n_decisions, n_strategies, n_instruments)``.

    Rewards are log returns; NaN stands after an instrument's last bar. ``position`` is the target of each decision,
    ``carried`` the largest position over equity that was carried through any part of the bar, ``margin_calls`` 1 where
    the position was closed instead, ``own_target`` the target
    each expert would have chosen in the mixture's place, shape ``(n_decisions, n_instruments, K)``, and ``coalitions``
    the rewards of those that no other strategy is, ``(n_decisions, n_instruments)`` by name; ``None``: not walked.
    """

    split: str
    initial_equity: float
    strategies: tuple[Strategy, ...]
    instruments: tuple[Any, ...]
    reward: Floats
    position: Floats
    carried: Floats
    traded: Floats
    cost: Floats
    equity: Floats
    margin_calls: Floats
    gate: Floats
    own_target: Floats
    coalitions: Mapping[str, Floats] | None

    @cached_property
    def pooling(self) -> Pooling:
        """How the instruments are joined in means, intervals and rows."""
        return Pooling(self.instruments)

    @cached_property
    def regime(self) -> NDArray[np.int64]:
        """Index of each decision's regime, ``(n_decisions, n_instruments)``; -1 where it is not known, or no bar is."""
        index = np.full(self.gate.shape[:2], -1)
        for i, one in enumerate(self.instruments):
            index[: len(one), i] = one.regime
        return index

    def earned(self, name: str) -> Floats:
        """Return a strategy's or a coalition's rewards, ``(n_decisions, n_instruments)``, 0 where there is no bar."""
        hidden = self.coalitions or {}
        return np.nan_to_num(hidden[name] if name in hidden else self.reward[:, self.index(name)])

    def bankrupt(self, name: str) -> bool:
        """Whether a strategy lost everything on some instrument, so that its account was closed."""
        return bool(np.nanmin(self.equity[:, self.index(name)]) < BANKRUPT * self.initial_equity)

    def index(self, name: str) -> int:
        """Return the place of a strategy."""
        return [strategy.name for strategy in self.strategies].index(name)


def walk(
    task: Walkable,
    split: str,
    agent: Decider,
    single: Decider | None,
    seed: int,
    routing: Routing | None = None,
    coalitions: bool = False,
) -> Trace:
    """Trade ``split`` with every strategy, each on its own account.

    :param single: a single policy to compare with
    :param seed: of the shuffled gate and of the sampled mixture
    :param routing: of the ablation that forces one expert in each regime; ``None``: without it
    :param coalitions: walk all coalitions of experts, for their Shapley values
    """
    instruments = tuple(task.evaluated(split))
    length, n = max(len(one) for one in instruments), len(instruments)
    gate = gate_over_time(task, split, agent, length, n)
    strategies = agent_strategies(agent, gate, instruments, routing, coalitions, seed)
    if single is not None:
        alone = np.broadcast_to(1.0, (length, n, 1))
        strategies.append(Strategy("single_policy", "single", single, alone.__getitem__))
    strategies += baselines(task, instruments, length, seed)
    record = trade(task, split, strategies, instruments, seed)
    hidden = {one.name: record["reward"][:, s] for s, one in enumerate(strategies) if one.kind == "coalition"}
    shown = [s for s, one in enumerate(strategies) if one.kind != "coalition"]
    record["reward"] = record["reward"][:, shown] if hidden else record["reward"]
    return Trace(
        split,
        task.task.initial_equity,
        tuple(strategies[s] for s in shown),
        instruments,
        gate=gate,
        coalitions=hidden if coalitions else None,
        **record,
    )


def trade(
    task: Walkable, split: str, strategies: Sequence[Strategy], instruments: Sequence[Any], seed: int
) -> dict[str, Floats]:
    """Trade ``split`` with these strategies; those with targets of their own come last.

    A bar is one step of Python for all of them, so that what can be done once is not done in it.

    :return: the arrays of :class:`Trace` by name. Of coalitions, which come in no other table, only rewards are kept;
        ``own_target`` is that of the first strategy's experts
    """
    n, length = len(instruments), max(len(one) for one in instruments)
    positions, lanes = task.task.positions, task.walk(split, len(strategies))
    _rewind(lanes)
    space, held = positions.action_space(), lanes.target  # a view, as the other columns of the lanes
    shown = np.flatnonzero(np.repeat([one.kind != "coalition" for one in strategies], n))
    columns = {name: getattr(lanes, name) for name in ("carried", "traded", "cost", "equity", "margin_calls")}
    targets = np.zeros(lanes.n)
    columns["position"] = targets
    kept = {name: np.empty((length, len(shown))) for name in columns}
    rewards = np.empty((length, lanes.n))
    acting = n * sum(one.targets is None for one in strategies)
    own, held_first = [], np.empty((length, n))
    drawn = [(slice(s * n, s * n + n), one.actions) for s, one in enumerate(strategies) if one.actions is not None]
    fixed = [one.targets for one in strategies if one.targets is not None]
    ordered = np.concatenate(fixed, axis=1) if fixed else np.empty((length, 0))
    for start in range(0, length, AT_ONCE):
        decisions = range(start, min(start + AT_ONCE, length))
        gates = _gates(strategies, slice(start, decisions.stop), n)
        for at in decisions:
            observations = lanes.observe()
            for rows, gate in gates:
                targets[rows], of_experts = gate.order(at - start, observations[rows], held[rows], positions, seed + at)
                if not rows.start:
                    own.append(of_experts[:n])
            for rows, random in drawn:
                targets[rows] = positions.targets(random[at], held[rows])[0]
            held_first[at] = held[:n]
            targets[acting:] = ordered[at]
            lanes.move(targets)
            targets[columns["margin_calls"] > 0] = 0.0  # the position was closed instead
            rewards[at] = lanes.log_returns
            for name, column in columns.items():
                np.take(column, shown, out=kept[name][at], mode="clip")
    record = {name: values.reshape(length, -1, n) for name, values in {"reward": rewards, **kept}.items()}
    for i, one in enumerate(instruments):
        for values in record.values():
            values[len(one) :, :, i] = np.nan
    whole = np.stack(own)  # (n_decisions, n_instruments, K, ...)
    chosen = positions.targets(whole.reshape(-1, *space.shape), np.repeat(held_first, whole.shape[2]))[0]
    return record | {"own_target": chosen.reshape(whole.shape[:3])}


def _gates(strategies: Sequence[Strategy], decisions: slice, n: int) -> list[tuple[slice, WithWeights]]:
    """Return for each run of strategies of one agent its lanes, and the agent under the weights of these decisions.

    An agent goes through its networks once a bar, for all the strategies that it decides.
    """
    found = []
    start = 0
    for agent, run in groupby(strategies, lambda one: one.agent):
        members = list(run)
        rows = slice(start * n, (start + len(members)) * n)
        start += len(members)
        if agent is None:
            continue
        weights = np.concatenate([one.weights(decisions) for one in members if one.weights is not None], axis=1)
        found.append((rows, agent.with_weights(weights, np.repeat([one.sampled for one in members], n))))
    return found


def _rewind(lanes: Lanes) -> None:
    unused = np.random.default_rng(0)  # whole walks start at the first bar: nothing is drawn
    for lane in range(lanes.n):
        lanes.reset(lane, unused)


def gate_over_time(task: Walkable, split: str, agent: Decider, length: int, n: int) -> Floats:
    """Return the gate's weights at each decision; it sees the market alone, so no account need be traded."""
    lanes = task.walk(split, 1)
    _rewind(lanes)
    weights = np.zeros((length, n, len(agent.expert_names)))
    for start in range(0, length, AT_ONCE):
        seen = []
        for _ in range(start, min(start + AT_ONCE, length)):
            seen.append(lanes.observe())
            lanes.move(np.zeros(n))
        found = agent.gate_weights(np.concatenate(seen))
        weights[start : start + len(seen)] = found.reshape(len(seen), n, -1)
    return weights
