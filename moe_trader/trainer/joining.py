"""Agents of one task joined into one: whether they fit together, and their weights side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from moe_trader.agent import MoEAgent
from moe_trader.device import Kernels
from moe_trader.expert import ExpertFamily
from moe_trader.expert.ensemble import MOST_EXPERTS, EnsembleExperts
from moe_trader.gating.ensemble import Ensemble
from moe_trader.option import ConfigError, describe, shown

Rule = Literal["mean", "density"]

_SEEN = ("features", "window", "positions", "gate_features", "gate_only", "gate_labels")  # settings of env
_SPACES = ("observation_space", "action_space", "gate_columns", "gate_rows", "expert_columns")
_SAME = "an ensemble joins agents that see the same; train them with the same settings of env and gating"


def joined(members: Mapping[str, MoEAgent], rule: Rule, device: str = "cpu", kernels: Kernels = "auto") -> MoEAgent:
    """Return one agent of all the members' experts and gates, with copies of their weights.

    Its weights are the members' own over M, member after member: ``(batch, M K)``.

    :param members: by name; of the same spaces, layout and experts' settings
    :raises ConfigError: for experts that cannot be joined
    """
    first = next(iter(members.values()))
    if reason := joining_refused(first.expert, len(members)):
        raise ConfigError(reason)
    experts = EnsembleExperts(of=first.expert, members=list(members), rule=rule)
    gating = Ensemble(members=[agent.gating for agent in members.values()])
    shapes = (first.model.observation_space, first.model.action_space)
    how: dict[str, Any] = {"seed": first.seed, "device": device, "kernels": kernels}
    agent = MoEAgent.of_parts(experts, gating, first.layout, shapes, **how)
    n_experts, tensors = len(first.expert_names), {}
    for m, member in enumerate(members.values()):
        for name, tensor in member.model.state_dict().items():
            part, _, rest = name.partition(".")
            if part == "experts":
                k, _, rest = rest.partition(".")
                tensors[f"experts.{m * n_experts + int(k)}.{rest}"] = tensor
            else:
                tensors[f"{part}.members.{m}.{rest}"] = tensor
    agent.model.load_state_dict(tensors, strict=True)
    agent.model.column_names = first.model.column_names
    return agent


def joining_refused(expert: ExpertFamily, n_members: int) -> str | None:
    """Return why no ensemble can be made of so many agents with these experts; ``None``: one can."""
    if (total := n_members * len(expert.names())) > MOST_EXPERTS:
        return f"{n_members} members have {total:,} experts; an ensemble has at most {MOST_EXPERTS:,}"
    try:
        expert.repeated(n_members)
    except ConfigError as error:
        return str(error)
    return None


def check_same(manifests: Mapping[Path, Mapping[str, Any]], here: Mapping[str, Any]) -> None:
    """Refuse agents that see something else than each other, or than the task.

    :param manifests: by path of the bundle
    :param here: summary of the task, as JSON gives it back
    :raises ConfigError: naming the first difference, both values and the way out
    """
    (first, one), *others = manifests.items()
    for path, other in others:
        if found := _difference(one["task"], other["task"]) or _difference_of_spaces(one, other):
            name, there, now = found
            raise ConfigError(f"{name}: {there} in {first}, {now} in {path}; {_SAME}")
    if found := _difference(one["task"], here):
        name, there, now = found
        raise ConfigError(
            f"{name}: {there} in {first}, {now} in the task; prepare the task with the settings of the runs: "
            "settings.env.prepare(gate_input=settings.gating.gate_input())"
        )


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the first difference of two tasks: the setting, and both values."""
    for key in ("market", *_SEEN):
        if one.get(key) != other.get(key):
            return f"env.{key}", shown(one.get(key)), shown(other.get(key))
    if one.get("gate_sight") != other.get("gate_sight"):
        return "gating: what the gate reads", shown(one.get("gate_sight")), shown(other.get("gate_sight"))
    for key, name in (("market_sha256", "sha256 of the prices"), ("periods", "days of the splits")):
        if one.get(key) != other.get(key):
            return name, shown(one.get(key)), shown(other.get(key))
    for key, name in (("fitted", "fitted features"), ("scaler", "scaler")):  # numbers that nobody reads
        if one.get(key) != other.get(key):
            return name, "one", "another"
    return None


def _difference_of_spaces(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str, str] | None:
    return next(((key, shown(one[key]), shown(other[key])) for key in _SPACES if one[key] != other[key]), None)


def check_experts(first: Path, one: MoEAgent, path: Path, other: MoEAgent) -> None:
    """Refuse agents whose experts have other settings. :raises ConfigError: naming the first that differs."""
    mine, theirs = describe(one.expert), describe(other.expert)
    for key in dict.fromkeys([*mine, *theirs]):
        if mine.get(key) != theirs.get(key):
            raise ConfigError(
                f"expert.{key}: {shown(mine.get(key))} in {first}, {shown(theirs.get(key))} in {path}; an ensemble "
                "keeps one set of expert settings: train its members with the same"
            )
