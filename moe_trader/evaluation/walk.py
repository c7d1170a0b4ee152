"""Walking every strategy through a split at once: the mixture, its experts alone, its ablations and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from moe_trader.evaluation import Decider, Floats, Lanes, Walkable

BANKRUPT = 1e-5  # of the initial equity: an account below it was closed
GATED_AT_ONCE = 256  # decisions that the gate is asked about together: it does not see the account

Kind = Literal["mixture", "expert", "ablation", "single", "baseline", "reference"]


@dataclass(frozen=True)
class Strategy:
    """One way to trade a split.

    :param kind: what the tables group it by
    :param agent: who decides; ``None``: ``targets`` do
    :param weights: gate weights at each decision, shape ``(n_decisions, n_instruments, K)``
    :param targets: target position at each decision, shape ``(n_decisions, n_instruments)``
    :param actions: action at each decision, shape ``(n_decisions, n_instruments, ...)``
    :param sampled: draw from the mixture instead of taking its most likely action
    """

    name: str
    kind: Kind
    agent: Decider | None = None
    weights: Floats | None = None
    targets: Floats | None = None
    actions: np.ndarray | None = None
    sampled: bool = False


@dataclass(frozen=True)
class Trace:
    """What every strategy did; arrays have shape ``(n_decisions, n_strategies, n_instruments)``.

    Rewards are log returns; NaN stands after an instrument's last bar. ``position`` is the target of each decision,
    ``carried`` the largest position over equity that was carried through any part of the bar, ``own_target`` the target
    each expert would have chosen in the mixture's place, shape ``(n_decisions, n_instruments, K)``.
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
    gate: Floats
    own_target: Floats

    def bankrupt(self, name: str) -> bool:
        """Whether a strategy lost everything on some instrument, so that its account was closed."""
        return bool(np.nanmin(self.equity[:, self.index(name)]) < BANKRUPT * self.initial_equity)

    def index(self, name: str) -> int:
        """Return the place of a strategy."""
        return [strategy.name for strategy in self.strategies].index(name)


def walk(task: Walkable, split: str, agent: Decider, single: Decider | None, seed: int) -> Trace:
    """Trade ``split`` with every strategy, each on its own account.

    :param single: a single policy to compare with
    :param seed: of the shuffled gate and of the sampled mixture
    """
    instruments = tuple(task.evaluated(split))
    length = max(len(one) for one in instruments)
    gate = _gate_over_time(task, split, agent, length, len(instruments))
    strategies = tuple(_strategies(task, instruments, agent, single, gate, length, seed))
    lanes = task.walk(split, len(strategies))
    _rewind(lanes)
    shape = (length, len(strategies), len(instruments))
    record = {name: np.full(shape, np.nan) for name in ("reward", "carried", "traded", "cost", "equity")}
    position = np.full(shape, np.nan)
    positions = task.task.positions
    own_target = np.zeros((length, len(instruments), len(agent.expert_names)))
    alive = np.array([len(one) for one in instruments])
    for at in range(length):
        observations = lanes.observe().reshape(len(strategies), len(instruments), -1)
        held = lanes.target.reshape(shape[1:])
        actions, own = _decisions(strategies, positions, observations, at, seed)
        for k in range(len(agent.expert_names)):
            own_target[at, :, k] = positions.targets(own[:, k], held[0])[0]
        wanted = _wanted(strategies, positions, actions, held, at)
        lanes.move(wanted.ravel())
        on = at < alive
        position[at][:, on] = wanted[:, on]
        for name, values in record.items():
            whole = lanes.log_returns if name == "reward" else getattr(lanes, name)
            values[at][:, on] = whole.reshape(shape[1:])[:, on]
    start = task.task.initial_equity
    return Trace(split, start, strategies, instruments, position=position, gate=gate, own_target=own_target, **record)


def _decisions(
    strategies: Sequence[Strategy], positions: Any, observations: np.ndarray, at: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return every strategy's action on every instrument, and the experts' own in the first strategy's place.

    Each agent goes through its networks once, for all the strategies that it decides.
    """
    space = positions.action_space()
    actions = np.zeros((*observations.shape[:2], *space.shape), dtype=space.dtype)
    own: dict[int, np.ndarray] = {}
    for agent in dict.fromkeys(strategy.agent for strategy in strategies if strategy.agent is not None):
        rows = [row for row, strategy in enumerate(strategies) if strategy.agent is agent]
        weights = np.concatenate([w[at] for w in (strategies[row].weights for row in rows) if w is not None])
        drawn = np.repeat([strategies[row].sampled for row in rows], observations.shape[1])
        chosen, of_experts = agent.decide(observations[rows].reshape(len(weights), -1), weights, drawn, seed + at)
        actions[rows] = chosen.reshape(len(rows), *actions.shape[1:])
        own[rows[0]] = of_experts[: observations.shape[1]]
    return actions, own[0]


def _wanted(strategies: Sequence[Strategy], positions: Any, actions: np.ndarray, held: Floats, at: int) -> Floats:
    """Return the target position of every strategy on every instrument at one decision, in the shape of ``held``."""
    for row, strategy in enumerate(strategies):
        if strategy.actions is not None:
            actions[row] = strategy.actions[at]
    flat = actions.reshape(held.size, *actions.shape[2:])
    targets: Floats = positions.targets(flat, held.ravel())[0].reshape(held.shape)
    for row, strategy in enumerate(strategies):
        if strategy.targets is not None:
            targets[row] = strategy.targets[at]
    return targets


def _rewind(lanes: Lanes) -> None:
    unused = np.random.default_rng(0)  # whole walks start at the first bar: nothing is drawn
    for lane in range(lanes.n):
        lanes.reset(lane, unused)


def _gate_over_time(task: Walkable, split: str, agent: Decider, length: int, n: int) -> Floats:
    """Return the gate's weights at each decision; it sees the market alone, so no account need be traded."""
    lanes = task.walk(split, 1)
    _rewind(lanes)
    weights = np.zeros((length, n, len(agent.expert_names)))
    for start in range(0, length, GATED_AT_ONCE):
        seen = []
        for _ in range(start, min(start + GATED_AT_ONCE, length)):
            seen.append(lanes.observe())
            lanes.move(np.zeros(n))
        found = agent.gate_weights(np.concatenate(seen))
        weights[start : start + len(seen)] = found.reshape(len(seen), n, -1)
    return weights


def _strategies(
    task: Walkable,
    instruments: Sequence[Any],
    agent: Decider,
    single: Decider | None,
    gate: Floats,
    length: int,
    seed: int,
) -> list[Strategy]:
    n, n_experts = gate.shape[1:]
    alone = np.eye(n_experts)
    found = [
        Strategy("mixture", "mixture", agent, gate),
        Strategy("mixture_sampled", "mixture", agent, gate, sampled=True),
        Strategy("strongest_expert", "mixture", agent, alone[gate.argmax(-1)]),
    ]
    for k, name in enumerate(agent.expert_names):
        found.append(Strategy(name, "expert", agent, np.broadcast_to(alone[k], gate.shape)))
    found.append(Strategy("uniform_gate", "ablation", agent, np.full(gate.shape, 1 / n_experts)))
    found.append(Strategy("shuffled_gate", "ablation", agent, shuffle_in_time(gate, instruments, seed)))
    if n_experts > 2:  # without one of two, the other is alone
        for k, name in enumerate(agent.expert_names):
            found.append(Strategy(f"without_{name}", "ablation", agent, drop_expert(gate, k)))
    if single is not None:
        found.append(Strategy("single_policy", "single", single, np.ones((length, n, 1))))
    space = task.task.positions.action_space()
    space.seed(seed)
    drawn = np.array([[space.sample() for _ in range(n)] for _ in range(length)])
    found.append(Strategy("random", "baseline", actions=drawn))
    found.append(Strategy("flat", "baseline", targets=np.zeros((length, n))))
    found.append(Strategy("buy_and_hold", "baseline", targets=np.ones((length, n))))
    for name in instruments[0].references:
        targets = np.zeros((length, n))
        for i, one in enumerate(instruments):
            targets[: len(one), i] = one.references[name]
        found.append(Strategy(name, "reference", targets=targets))
    return found


def drop_expert(gate: Floats, k: int) -> Floats:
    """Return the gate's weights with expert ``k`` silenced and its weight given to the others in proportion.

    :param gate: shape ``(..., K)``; where ``k`` has all the weight, the others share it evenly
    """
    rest = gate.copy()
    rest[..., k] = 0.0
    total = rest.sum(-1, keepdims=True)
    even = np.full(gate.shape[-1], 1 / (gate.shape[-1] - 1))
    even[k] = 0.0
    return np.where(total > 0, rest / np.where(total > 0, total, 1.0), even)


def shuffle_in_time(gate: Floats, instruments: Sequence[Any], seed: int) -> Floats:
    """Return the gate's weights with blocks of bars permuted within each instrument.

    Every expert keeps its share and the gate its dwell times; only *when* is destroyed. Blocks are sqrt(n) bars long.

    :param gate: shape ``(n_decisions, n_instruments, K)``
    """
    rng = np.random.default_rng(seed)
    shuffled = gate.copy()
    for i, one in enumerate(instruments):
        n = len(one)
        blocks = np.array_split(np.arange(n), max(2, round(n**0.5)))
        order = np.concatenate([blocks[block] for block in rng.permutation(len(blocks))])
        shuffled[:n, i] = gate[order, i]
    return shuffled
