"""What walks through a split: the mixture, its experts alone and in coalitions, its ablations and the baselines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moe_trader.evaluation import Decider, Floats, Walkable

MOST_IN_COALITIONS = 6  # experts; their coalitions double with each

Kind = Literal["mixture", "expert", "ablation", "coalition", "single", "ensemble", "member", "baseline", "reference"]
Weights = Callable[[slice], Floats]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Strategy:
    """One way to trade a split.

    :param kind: what the tables group it by; coalitions are walked for their Shapley values alone
    :param agent: who decides; ``None``: ``actions`` or ``targets`` do
    :param weights: decisions -> gate weights, shape ``(n_decisions, n_instruments, K)``
    :param targets: target position at each decision, shape ``(n_decisions, n_instruments)``
    :param actions: action at each decision, shape ``(n_decisions, n_instruments, ...)``
    :param sampled: draw from the mixture instead of taking its most likely action
    """

    name: str
    kind: Kind
    agent: Decider | None = None
    weights: Weights | None = None
    targets: Floats | None = None
    actions: np.ndarray | None = None
    sampled: bool = False


@dataclass(frozen=True)
class Routing:
    """Which expert oracle routing forces.

    :param experts: at each bar of a regime, shape ``(n_regimes,)``
    :param fixed: where the regime is not known, and what routing is compared with
    """

    experts: NDArray[np.int64]
    fixed: int


def agent_strategies(
    agent: Decider, gate: Floats, instruments: Sequence[Any], routing: Routing | None, coalitions: bool, seed: int
) -> list[Strategy]:
    """Return everything that is these experts under some gate.

    :param gate: the gate's own weights, shape ``(n_decisions, n_instruments, K)``
    :param routing: of ``oracle_routing``; ``None``: without
    """
    names, n_experts = agent.expert_names, gate.shape[-1]
    found = [
        Strategy("mixture", "mixture", agent, gate.__getitem__),
        Strategy("mixture_sampled", "mixture", agent, gate.__getitem__, sampled=True),
        Strategy("strongest_expert", "mixture", agent, lambda at: np.eye(n_experts)[gate[at].argmax(-1)]),
        *experts_alone(agent, gate.shape),
        Strategy("uniform_gate", "ablation", agent, np.broadcast_to(1 / n_experts, gate.shape).__getitem__),
        Strategy("shuffled_gate", "ablation", agent, shuffle_in_time(gate, instruments, seed).__getitem__),
    ]
    if n_experts > 2:  # without one of two, the other is alone
        everyone = range(n_experts)
        for k in everyone:
            rest = tuple(j for j in everyone if j != k)
            found.append(Strategy(coalition_name(rest, names), "ablation", agent, _within(gate, rest)))
    if routing is not None and n_experts > 1:
        found.append(Strategy("oracle_routing", "ablation", agent, routed(routing, instruments, gate.shape)))
    if coalitions:
        for size in range(2, n_experts - 1):  # smaller ones are experts alone, larger ones lack one or none
            for members in combinations(range(n_experts), size):
                found.append(Strategy(coalition_name(members, names), "coalition", agent, _within(gate, members)))
    return found


def experts_alone(agent: Decider, shape: tuple[int, ...]) -> list[Strategy]:
    """Return each expert by itself, forced at every bar.

    :param shape: of the gate's weights
    """
    alone = np.eye(shape[-1])
    return [
        Strategy(name, "expert", agent, np.broadcast_to(alone[k], shape).__getitem__)
        for k, name in enumerate(agent.expert_names)
    ]


def baselines(task: Walkable, instruments: Sequence[Any], length: int, seed: int) -> list[Strategy]:
    """Return what trades without a network; those with targets of their own come last."""
    n = len(instruments)
    space = task.task.positions.action_space()
    space.seed(seed)
    drawn = np.array([[space.sample() for _ in range(n)] for _ in range(length)])
    found = [
        Strategy("random", "baseline", actions=drawn),
        Strategy("flat", "baseline", targets=np.zeros((length, n))),
        Strategy("buy_and_hold", "baseline", targets=np.ones((length, n))),
    ]
    for name in instruments[0].references:
        targets = np.zeros((length, n))
        for i, one in enumerate(instruments):
            targets[: len(one), i] = one.references[name]
        found.append(Strategy(name, "reference", targets=targets))
    return found


def worth_coalitions(n_experts: int) -> bool:
    """Whether every coalition of experts can be walked; where not, it is logged."""
    if n_experts > MOST_IN_COALITIONS:
        log.info(
            "Shapley values are left out: %d experts have %d coalitions; up to %d experts are walked in all of theirs",
            n_experts,
            2**n_experts,
            MOST_IN_COALITIONS,
        )
    return n_experts <= MOST_IN_COALITIONS


def coalition_name(members: Collection[int], names: Sequence[str]) -> str:
    """Return the name of the strategy that these experts, and no others, are under the gate; nobody is ``flat``."""
    missing = [name for k, name in enumerate(names) if k not in members]
    if not members:
        return "flat"
    if not missing:
        return "mixture"
    if len(members) > 1 and len(missing) == 1:
        return f"without_{missing[0]}"
    return "+".join(names[k] for k in sorted(members))


def restrict(gate: Floats, members: Collection[int]) -> Floats:
    """Return the gate's weights among ``members`` alone, in proportion; the others are silenced.

    :param gate: shape ``(..., K)``; where the members have no weight at all, they share it evenly
    """
    chosen = np.zeros(gate.shape[-1])
    chosen[list(members)] = 1.0
    kept = gate * chosen
    total = kept.sum(-1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), chosen / len(members))


def routed(routing: Routing, instruments: Sequence[Any], shape: tuple[int, ...]) -> Weights:
    """Return the weights that force one expert in each regime; ``shape`` is that of the gate's weights."""
    expert = np.full(shape[:2], routing.fixed)
    for i, one in enumerate(instruments):
        expert[: len(one), i] = np.where(one.regime >= 0, routing.experts[one.regime], routing.fixed)
    return lambda at: np.eye(shape[-1])[expert[at]]


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


def _within(gate: Floats, members: Collection[int]) -> Weights:
    return lambda at: restrict(gate[at], members)
