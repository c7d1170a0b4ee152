"""Evaluation from trained agents to tables, figures and report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd

from moe_trader.durable import write_file
from moe_trader.evaluation import Decider, Walkable
from moe_trader.evaluation import tables as make
from moe_trader.evaluation.attribution import attribution_table
from moe_trader.evaluation.disagreement import disagreement_measure, disagreement_table
from moe_trader.evaluation.routing import best_experts, routing_table
from moe_trader.evaluation.shapley import coalition_table, shapley_table
from moe_trader.evaluation.specialisation import specialisation_table
from moe_trader.evaluation.strategies import worth_coalitions
from moe_trader.evaluation.walk import walk
from moe_trader.run_files import TABLES

log = logging.getLogger(__name__)


_TEXTS = (
    "split",
    "instrument",
    "strategy",
    "kind",
    "regime",
    "expert",
    "other",
    "against",
    "bankrupt",
    "measure",
    "members",
)


@dataclass(frozen=True)
class Tables:
    """Everything evaluation found out; the files of a run directory hold the same."""

    steps: pd.DataFrame
    by_regime: pd.DataFrame
    experts: pd.DataFrame
    comparisons: pd.DataFrame
    competence: pd.DataFrame
    specialisation: pd.DataFrame
    disagreement: pd.DataFrame
    shapley: pd.DataFrame
    coalitions: pd.DataFrame
    attribution: pd.DataFrame
    equity: pd.DataFrame


def evaluate(
    task: Walkable,
    agent: Decider,
    single: Decider | None,
    seed: int,
    splits: tuple[str, ...] = ("validation", "test"),
    shapley: bool = True,
) -> Tables:
    """Walk the splits with the mixture, its experts, ablations, the single policy and the baselines.

    :param seed: of the shuffled gate, the sampled mixture and the bootstrap
    :param shapley: walk the experts' coalitions for their Shapley values too, where there are few enough experts
    """
    names, regimes = agent.expert_names, task.labels.names
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    coalitions = shapley and worth_coalitions(len(names))
    routing = best_experts(task, agent) if len(names) > 1 else None
    for split in splits:
        log.info("Evaluating on the %s split", split)
        trace = walk(task, split, agent, single, seed, routing, coalitions)
        parts["steps"].append(make.steps_table(trace, regimes, names))
        parts["by_regime"].append(make.by_regime_table(trace, regimes, names, seed))
        parts["experts"].append(make.performance_table(trace, seed))
        parts["comparisons"].append(make.comparison_table(trace, seed))
        parts["competence"].append(make.competence_table(trace, regimes, names))
        parts["specialisation"].append(specialisation_table(trace, seed))
        parts["specialisation"].append(routing_table(trace, routing, len(regimes), seed))
        parts["specialisation"].append(disagreement_measure(trace, seed))
        parts["disagreement"].append(disagreement_table(trace, names))
        parts["shapley"].append(shapley_table(trace, names, seed))
        parts["coalitions"].append(coalition_table(trace, names))
        parts["attribution"].append(attribution_table(trace, regimes, names))
        parts["equity"].append(make.equity_table(trace))
    return Tables(**{name: pd.concat(found, ignore_index=True) for name, found in parts.items()})


def write_tables(tables: Tables, directory: Path) -> None:
    """Write every table below ``directory``, which must exist; csv keeps every digit of a float."""
    for name, file in TABLES.items():
        path = directory / file
        path.parent.mkdir(exist_ok=True)
        table: pd.DataFrame = getattr(tables, name)
        is_parquet = path.suffix == ".parquet"
        write_file(path, table.to_parquet(index=False) if is_parquet else table.to_csv(index=False))


def read_tables(directory: Path) -> Tables:
    """Read what :func:`write_tables` wrote, to the last bit. :raises OSError: where a file is missing."""
    return Tables(**{name: read_table(directory / file) for name, file in TABLES.items()})


def read_table(path: Path) -> pd.DataFrame:
    """Read one table, to the last bit. :raises OSError: where it is missing."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    names = pd.read_csv(path, nrows=0).columns
    texts = {name: "" for name in names if name in _TEXTS}  # an instrument may be called 600519
    kinds = dict.fromkeys(texts, "str")
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
    return table.fillna(texts)


def differing(tables: Tables, directory: Path) -> list[str]:
    """Say which files below ``directory`` do not hold ``tables`` to the last bit, or are missing."""
    found = []
    for name, file in TABLES.items():
        path, table = directory / file, getattr(tables, name)
        if not path.is_file():
            found.append(f"{file} is missing")
        elif path.suffix == ".parquet":
            written = pd.read_parquet(BytesIO(table.to_parquet(index=False)))
            found += [] if written.equals(pd.read_parquet(path)) else [f"{file} differs"]
        else:
            found += [] if table.to_csv(index=False) == path.read_text(encoding="utf-8") else [f"{file} differs"]
    return found
