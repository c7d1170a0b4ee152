"""Ensembles over seeds: agents of one task joined into one, backtested, and the better one saved as a bundle.

``ensemble_mean`` orders the mean of the target positions that its members would take. ``ensemble_density`` takes the
most likely action of the exact mixture of all their experts.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from moe_trader.agent import MoEAgent
from moe_trader.argument import to_path, whole_number
from moe_trader.bundle import read_manifest, sha256
from moe_trader.device import Kernels
from moe_trader.durable import write_file
from moe_trader.evaluation.ensembles import ensembles_table
from moe_trader.expert import ExpertFamily
from moe_trader.expert.ensemble import MOST_EXPERTS, EnsembleExperts
from moe_trader.gating.ensemble import Ensemble
from moe_trader.manifest import MANIFEST, WEIGHTS
from moe_trader.option import ConfigError, describe, shown
from moe_trader.run_files import BUNDLE, ENSEMBLE, ENSEMBLES_TABLE
from moe_trader.trainer.validation import Metric

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.settings import RunSettings

log = logging.getLogger(__name__)

Rule = Literal["mean", "density"]
NAMES: dict[str, Rule] = {f"ensemble_{rule}": rule for rule in get_args(Rule)}
"""How tables call an ensemble, and its rule."""

_SEEN = ("features", "window", "positions", "gate_features", "gate_only", "gate_labels")  # settings of env
_SPACES = ("observation_space", "action_space", "gate_columns", "gate_rows", "expert_columns")
_COLUMNS = {"sharpe": "sharpe", "log_return": "log_return", "lower_bound": "log_return_low"}
_SAME = "an ensemble joins agents that see the same; train them with the same settings of env and gating"


@dataclass(frozen=True)
class Ensembles:
    """Two ensembles of the same members, and how they did.

    :param members: by name, ``seed_N``
    :param agents: ``ensemble_mean`` and ``ensemble_density``
    :param table: see :func:`moe_trader.evaluation.ensembles.ensembles_table`
    :param better: which of the two is better on validation
    :param why: a sentence
    :param record: what bundles keep: the members' task, with ``ensemble``
    """

    members: dict[str, MoEAgent]
    agents: dict[str, MoEAgent]
    table: pd.DataFrame
    better: str
    why: str
    record: dict[str, Any]

    def save(self, path: str | Path, name: str | None = None) -> None:
        """Save an ensemble as a bundle that :meth:`MoEAgent.load` opens.

        :param name: ``ensemble_mean`` or ``ensemble_density``; ``None``: the better one
        :raises ValueError: for another name
        :raises BundleError: when something else is at ``path``
        """
        name = self.better if name is None else name
        if name not in self.agents:
            raise ValueError(f"name: expected {' or '.join(self.agents)}, got {shown(name)}")
        about = self.record["ensemble"] | {"rule": NAMES[name]}
        self.agents[name].save(path, task=self.record | {"ensemble": about})


def ensemble_of(
    runs: Sequence[str | Path],
    task: PreparedTask,
    *,
    select_by: Metric = "sharpe",
    seed: int = 0,
    plugins: Sequence[str] = (),
    device: str = "cpu",
    kernels: Kernels = "auto",
) -> Ensembles:
    """Join the mixtures of several runs of one task, and backtest them on validation and test.

    ::

        task = settings.env.prepare(gate_input=settings.gating.gate_input())
        made = ensemble_of(["outputs/multirun/sweep/0", "outputs/multirun/sweep/1"], task)
        made.agents["ensemble_mean"].target(observations)  # (batch,) fractions of equity
        made.save("my_ensemble")

    :param runs: run directories or bundles, one a member; gates may differ as long as they read the same
    :param task: what they were trained on, prepared for their gate
    :param select_by: metric of the validation split by which the better ensemble is chosen
    :param seed: of the bootstrap
    :param plugins: packages of your own whose gates or experts the bundles may build
    :raises ConfigError: for runs that differ in what they see, in their experts' settings, or from ``task``: naming the
        first difference, both values and the way out
    :raises BundleError: where a bundle is missing or damaged
    :raises ValueError: for no runs, or a run given twice
    """
    seed = whole_number(seed, "seed", least=0)
    if select_by not in _COLUMNS:
        raise ValueError(f"select_by: expected {', '.join(_COLUMNS)}, got {shown(select_by)}")
    bundles = _bundles(runs)
    manifests = {path: read_manifest(path) for path in bundles}
    _check_same(manifests, json.loads(json.dumps(task.summary())))
    loaded = [MoEAgent.load(path, device=device, plugins=plugins, kernels=kernels) for path in bundles]
    names = _names([agent.seed for agent in loaded])
    members = dict(zip(names, loaded, strict=True))
    for path, agent in zip(bundles, loaded, strict=True):
        _check_experts(bundles[0], loaded[0], path, agent)
    agents = {name: joined(members, rule, device, kernels) for name, rule in NAMES.items()}
    for agent in agents.values():
        agent.positions = task.task.positions
    table = ensembles_table(task, members, agents, seed)
    better, values, why = _better(table, select_by)
    record = {
        key: value for key, value in manifests[bundles[0]]["task"].items() if key not in ("selection", "init_from")
    }
    record["ensemble"] = {
        "rule": NAMES[better],
        "members": [_member(name, path, manifests[path]) for name, path in zip(names, bundles, strict=True)],
        "select_by": select_by,
        "validation": values,
        "why": why,
    }
    return Ensembles(members, agents, table, better, why, record)


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


def write_ensembles(directory: Path, runs: Iterable[Path], task: PreparedTask, settings: RunSettings) -> Ensembles:
    """Write ``ensembles.csv`` and the better ensemble over the seeds of a run, ``ensemble/``.

    :param directory: of the whole run
    :param runs: run directories of the finished seeds, two or more
    :raises ConfigError: as :func:`ensemble_of`
    """
    how: dict[str, Any] = {"device": settings.device, "kernels": settings.kernels, "plugins": settings.plugins}
    made = ensemble_of(list(runs), task, select_by=settings.trainer.select_by, seed=settings.seed, **how)
    write_file(directory / ENSEMBLES_TABLE, made.table.to_csv(index=False))
    made.save(directory / ENSEMBLE)
    log.info("Saved %s of %d seeds to %s: %s", made.better, len(made.members), directory / ENSEMBLE, made.why)
    return made


def _bundles(runs: Sequence[str | Path]) -> list[Path]:
    if isinstance(runs, str | os.PathLike) or not isinstance(runs, Sequence) or not runs:
        raise ValueError(f"runs: expected a list of run directories or bundles, one or more, got {shown(runs)}")
    places = [to_path(run, "runs") for run in runs]
    found = [place if (place / MANIFEST).is_file() else place / BUNDLE for place in places]
    twice = [run for at, run in enumerate(found) if run.resolve() in [one.resolve() for one in found[:at]]]
    if twice:
        raise ValueError(f"runs: {twice[0]} is given twice; a member of an ensemble counts once")
    return found


def _names(seeds: Sequence[int]) -> list[str]:
    """Return ``seed_N``; where two runs have one seed, ``member_1`` to ``member_M``."""
    if len(set(seeds)) == len(seeds):
        return [f"seed_{seed}" for seed in seeds]
    return [f"member_{number}" for number in range(1, len(seeds) + 1)]


def _check_same(manifests: Mapping[Path, Mapping[str, Any]], here: Mapping[str, Any]) -> None:
    """Refuse agents that see something else than each other, or than the task. :raises ConfigError: naming it."""
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


def _check_experts(first: Path, one: MoEAgent, path: Path, other: MoEAgent) -> None:
    mine, theirs = describe(one.expert), describe(other.expert)
    for key in dict.fromkeys([*mine, *theirs]):
        if mine.get(key) != theirs.get(key):
            raise ConfigError(
                f"expert.{key}: {shown(mine.get(key))} in {first}, {shown(theirs.get(key))} in {path}; an ensemble "
                "keeps one set of expert settings: train its members with the same"
            )


def _member(name: str, path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ensemble's manifest says of a member."""
    return {
        "name": name,
        "seed": manifest["seed"],
        "steps": manifest.get("steps"),
        "weights_sha256": sha256(path / WEIGHTS),
        "selection": manifest["task"].get("selection"),
    }


def _better(table: pd.DataFrame, select_by: Metric) -> tuple[str, dict[str, float | None], str]:
    """Return the ensemble with the higher metric on validation, the metric of both, and why."""
    rows = table[table["split"] == "validation"].set_index("strategy")[_COLUMNS[select_by]]
    values = {name: None if pd.isna(rows[name]) else float(rows[name]) for name in NAMES}
    mean, density = (values[name] for name in NAMES)
    if mean is None and density is None:
        return "ensemble_density", values, f"neither ensemble has a validation {select_by}: the density is kept"
    if mean == density:
        return "ensemble_density", values, f"both have a validation {select_by} of {mean:+.4f}: the density is kept"
    better = "ensemble_mean" if density is None or (mean is not None and mean > density) else "ensemble_density"
    said = ", ".join(f"{name} {'-' if value is None else format(value, '+.4f')}" for name, value in values.items())
    return better, values, f"{better} has the higher validation {select_by}: {said}"
