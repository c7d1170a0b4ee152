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
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from moe_trader.agent import MoEAgent
from moe_trader.argument import to_path, whole_number
from moe_trader.bundle import read_manifest, sha256
from moe_trader.device import Kernels
from moe_trader.durable import write_file
from moe_trader.evaluation.ensembles import ensembles_table
from moe_trader.manifest import MANIFEST, WEIGHTS
from moe_trader.option import shown
from moe_trader.run_files import BUNDLE, ENSEMBLE, ENSEMBLES_TABLE
from moe_trader.trainer.joining import Rule, check_experts, check_same, joined
from moe_trader.trainer.validation import Metric

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.settings import RunSettings

log = logging.getLogger(__name__)

NAMES: dict[str, Rule] = {f"ensemble_{rule}": rule for rule in get_args(Rule)}
"""How tables call an ensemble, and its rule."""

_COLUMNS = {"sharpe": "sharpe", "log_return": "log_return", "lower_bound": "log_return_low"}


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
    check_same(manifests, json.loads(json.dumps(task.summary())))
    loaded = [MoEAgent.load(path, device=device, plugins=plugins, kernels=kernels) for path in bundles]
    names = _names([agent.seed for agent in loaded])
    members = dict(zip(names, loaded, strict=True))
    for path, agent in zip(bundles, loaded, strict=True):
        check_experts(bundles[0], loaded[0], path, agent)
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
