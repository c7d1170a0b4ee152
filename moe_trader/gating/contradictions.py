"""Settings that work against each other, found before training: each is legal, and together they do less."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from moe_trader.gating import Gate, GateLoss
from moe_trader.gating.losses.diversity import Diversity
from moe_trader.gating.losses.importance import Importance
from moe_trader.gating.losses.information import Information
from moe_trader.gating.losses.load_balance import LoadBalance
from moe_trader.gating.losses.minimum_importance import MinimumImportance
from moe_trader.gating.losses.sinkhorn import Sinkhorn
from moe_trader.gating.top_k import TopK

LEAST_BATCH = 256  # states: a regime of one bar in fifty still shows up about five times

_TO_EQUAL_USE = (Importance, LoadBalance, Sinkhorn)


def contradictions(
    gate: Gate,
    *,
    n_experts: int,
    gate_learns: bool,
    ent_coef: float | None,
    batch_size: int,
    batch_setting: str = "expert.batch_size",
) -> list[str]:
    """Return a line for each contradiction: the settings by their paths, what is wrong with them, and the way out.

    :param gate: settings of the gate
    :param n_experts: ``expert.count``; with one there is nothing to contradict
    :param gate_learns: whether it has parameters, and a learning rate
    :param ent_coef: ``expert.ent_coef``; ``None`` for experts without it
    :param batch_size: states in a minibatch
    :param batch_setting: the setting that it follows from
    """
    losses = {f"gating.losses.{name}": loss for name, loss in gate.losses.items() if _counts(loss)}
    if n_experts == 1 or not losses:
        return []
    if not gate_learns:
        return list(_idle(losses, gate))
    return [
        *(_against_entropy(losses, ent_coef) if ent_coef is not None else ()),
        *_small_batch(losses, batch_size, batch_setting),
        *_balanced_twice(losses, gate),
        *_below_the_floor(losses, gate),
        *_out_of_reach(losses, gate, n_experts),
    ]


def _counts(loss: GateLoss) -> bool:
    return any(loss.weight_at(percent / 100) > 0 for percent in range(101))


def _idle(losses: dict[str, GateLoss], gate: Gate) -> Iterator[str]:
    idle = [path for path, loss in losses.items() if not loss.trains_experts]
    if idle:
        yield (
            f"{_joined(idle)} can do nothing: the gate (gating, {type(gate).__name__}) learns nothing, having no "
            "parameters or expert.gate_lr_scale=0; set gating/losses=none, or choose a gate that learns"
        )


def _against_entropy(losses: dict[str, GateLoss], ent_coef: float) -> Iterator[str]:
    # The entropy of the mixture is sum_k g_k H(p_k) plus the experts' disagreement, which cannot exceed that of g.
    for path, loss in losses.items():
        if isinstance(loss, Information) and ent_coef >= (weight := loss.weight_at(1.0)) > 0:
            yield (
                f"expert.ent_coef ({ent_coef:g}) and {path}.weight ({weight:g} at the end) pull against each other: "
                "entropy rewards soft gates and noisy experts, information sharp gates and experts that differ; "
                f"keep expert.ent_coef well below it, as {weight / 10:g}"
            )


def _small_batch(losses: dict[str, GateLoss], batch_size: int, setting: str) -> Iterator[str]:
    for path, loss in losses.items():
        if isinstance(loss, Information) and batch_size < LEAST_BATCH:
            yield (
                f"{setting} ({batch_size}) is small for {path}, which balances the experts within every "
                "minibatch, and misleads where one misses a regime; set "
                f"{setting}{' to ' if ' ' in setting else '='}{LEAST_BATCH} or more, or {path}.weight=0"
            )


def _balanced_twice(losses: dict[str, GateLoss], gate: Gate) -> Iterator[str]:
    # A loss that fades out is no double: it hands over to the one that stays.
    lasting = {path: loss for path, loss in losses.items() if loss.weight_at(1.0) > 0}
    equal = [path for path, loss in lasting.items() if isinstance(loss, _TO_EQUAL_USE)]
    others = [path for path, loss in lasting.items() if isinstance(loss, MinimumImportance)]
    others += ["gating.balance_rate"] if isinstance(gate, TopK) and gate.balance_rate > 0 else []
    if equal and len(equal) + len(others) > 1:
        yield (
            f"{_joined([*equal, *others])} balance the use of experts more than once, to the very end: "
            f"keep one of them, or let {equal[0]} fade ({equal[0]}.final_weight=0)"
        )


def _below_the_floor(losses: dict[str, GateLoss], gate: Gate) -> Iterator[str]:
    floor = getattr(gate, "floor", 0.0)
    for path, loss in losses.items():
        if isinstance(loss, MinimumImportance) and floor >= loss.share > 0:
            yield (
                f"{path}.share ({loss.share:g}) is no more than gating.floor ({floor:g}), which gives every expert "
                f"that much anyway: the loss is always 0; raise {path}.share, or lower gating.floor"
            )


def _out_of_reach(losses: dict[str, GateLoss], gate: Gate, n_experts: int) -> Iterator[str]:
    most = math.log(n_experts)
    for path, loss in losses.items():
        if isinstance(loss, Diversity) and loss.delta > most:
            yield (
                f"{path}.delta ({loss.delta:g} nats) is more than {n_experts} experts (expert.count) can disagree, "
                f"log {n_experts} = {most:.2f}: the loss never rests; lower {path}.delta"
            )
    reviving = [path for path, loss in losses.items() if isinstance(loss, MinimumImportance | Importance | Sinkhorn)]
    if reviving and isinstance(gate, TopK) and gate.balance_rate == 0 and gate.k < n_experts:
        yield (
            f"{_joined(reviving)} cannot revive an expert that is nowhere among the best gating.k = {gate.k}: no "
            "gradient reaches its score, and gating.balance_rate is 0; set gating.balance_rate=0.01"
        )


def _joined(paths: Iterable[str]) -> str:
    *first, last = paths
    return f"{', '.join(first)} and {last}" if first else last
