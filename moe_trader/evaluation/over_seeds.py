"""What several seeds of one config have in common: means over seeds, and how far training lets them vary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table

from moe_trader.durable import write_file
from moe_trader.evaluation.alignment import expert_names
from moe_trader.evaluation.console import number
from moe_trader.evaluation.ensembles import with_interval
from moe_trader.evaluation.evaluate import Tables
from moe_trader.evaluation.statistics import t_interval
from moe_trader.evaluation.tables import ALL
from moe_trader.run_files import REPORT, SEEDS_TABLES

ALIGNED_ON = "validation"


def strategies_over_seeds(tables: Sequence[Tables]) -> pd.DataFrame:
    """Return one row a split and strategy, in the order of ``evaluation/experts.csv``: what it earned over seeds.

    ``log_return`` and ``sharpe`` are means; ``mixture_minus`` is the mixture's log return less the strategy's, paired
    seed by seed. ``*_low`` and ``*_high`` are 95 % t-intervals over seeds. Experts are matched across seeds by the
    regimes in which they act (:mod:`moe_trader.evaluation.alignment`), and ``without_expert_2`` with them. A Sharpe
    ratio that does not exist for one of the seeds has no mean.
    """
    matched = _matched(tables)
    rows: list[dict[str, Any]] = []
    for split in tables[0].experts["split"].unique():
        found = []
        for table, names in zip(tables, matched, strict=True):
            whole = table.experts[(table.experts["split"] == split) & (table.experts["instrument"] == ALL)]
            found.append(whole.assign(strategy=[_renamed(one, names) for one in whole["strategy"]]))
        order = list(tables[0].experts["strategy"].unique())
        kinds = found[0].set_index("strategy")["kind"]
        earned = pd.concat([one.set_index("strategy")["log_return"] for one in found], axis=1).reindex(order)
        sharpe = pd.concat([one.set_index("strategy")["sharpe"] for one in found], axis=1)
        for strategy in order:
            row = {"split": split, "strategy": strategy, "kind": kinds[strategy], "seeds": len(tables)}
            row |= _bounds("log_return", earned.loc[strategy])
            row |= _bounds("mixture_minus", earned.loc["mixture"] - earned.loc[strategy])
            rows.append(row | {"sharpe": sharpe.loc[strategy].mean(skipna=False)})
    return pd.DataFrame(rows)


def regimes_over_seeds(tables: Sequence[Tables]) -> pd.DataFrame:
    """Return one row a split, regime and expert: its importance there, the mean over seeds with a 95 % t-interval.

    The interval takes the matching as given. That makes seeds agree as well as they can, so that even gates that divide
    the market at random seem to agree somewhat: read it with the seeds' own ``p_value`` for specialisation.
    """
    renamed = [
        table.by_regime.assign(expert=table.by_regime["expert"].map(names))
        for table, names in zip(tables, _matched(tables), strict=True)
    ]
    keys = ["split", "regime", "expert"]
    rows = [
        dict(zip(keys, key, strict=True)) | {"seeds": len(tables), **_bounds("importance", group["importance"])}
        for key, group in pd.concat(renamed).groupby(keys, sort=False)
    ]
    return pd.DataFrame(rows)


def write_seeds(
    tables: Mapping[int, Tables],
    notes: Sequence[str],
    directory: Path,
    facts: Mapping[str, Any],
    ensembles: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write the tables and a page that leads to the seeds' reports; return the table of strategies.

    :param tables: by seed, whose run directory is ``directory/seed_N``
    :param notes: what a reader must know before believing a number
    :param facts: what the page's head says of the run, name -> value
    :param ensembles: table of the ensembles over these seeds, for the page; ``None``: there are none
    """
    strategies, regimes = (of(list(tables.values())) for of in (strategies_over_seeds, regimes_over_seeds))
    for name, table in (("strategies", strategies), ("regimes", regimes)):
        write_file(directory / SEEDS_TABLES[name], table.to_csv(index=False))
    page = Environment(
        loader=PackageLoader("moe_trader.evaluation", "."), autoescape=True, undefined=StrictUndefined
    ).get_template("seeds.html.j2")
    splits = list(reversed(strategies["split"].unique()))
    text = page.render(
        facts=facts,
        seeds=list(tables),
        notes=notes,
        verdicts=[line for rival in ("single_policy", "buy_and_hold") if (line := verdict(strategies, rival, "test"))],
        strategies={split: strategies[strategies["split"] == split].to_dict("records") for split in splits},
        regimes={split: _wide(regimes[regimes["split"] == split]) for split in splits},
        ensembles={} if ensembles is None else {split: ensembles[ensembles["split"] == split] for split in splits},
        signed=signed,
        number=number,
        with_interval=with_interval,
    )
    write_file(directory / REPORT, text)
    return strategies


def seeds_view(strategies: pd.DataFrame, split: str) -> Table:
    """Return the table of one split for rich to print."""
    shown = strategies[strategies["split"] == split].to_dict("records")
    table = Table(title=f"{split.capitalize()} split, {shown[0]['seeds']} seeds", title_style="bold")
    table.caption, table.caption_justify = "Brackets: 95 % t-interval over seeds, how much training varies", "left"
    table.add_column("strategy", no_wrap=True)
    for name in ("log return", "mixture minus it", "Sharpe"):
        table.add_column(name, justify="right", no_wrap=True)
    for at, row in enumerate(shown):
        if at and row["kind"] != shown[at - 1]["kind"]:
            table.add_section()
        cells = [signed(row, "log_return"), signed(row, "mixture_minus"), number(row["sharpe"], "{:+.2f}")]
        style = "bold" if row["strategy"] == "mixture" else None
        table.add_row(row["strategy"], *(cell.replace("[", r"\[") for cell in cells), style=style)
    return table


def verdict(strategies: pd.DataFrame, against: str, split: str) -> str:
    """Return one sentence on the mixture against another strategy, as strong as its interval allows."""
    rows = strategies[(strategies["split"] == split) & (strategies["strategy"] == against)].to_dict("records")
    if not rows:
        return ""
    (row,) = rows
    low, high = row["mixture_minus_low"], row["mixture_minus_high"]
    word = "beats" if low > 0 else "is beaten by" if high < 0 else "cannot be told from"
    gap = signed(row, "mixture_minus")
    return f"Over {row['seeds']} seeds the mixture {word} {against.replace('_', ' ')} on {split}: {gap} log return."


def signed(row: Mapping[str, Any], name: str) -> str:
    """Return a mean and its interval as text; a strategy that no seed changes has none."""
    mean, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    return f"{mean:+.3f}" if low == high else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _bounds(name: str, values: pd.Series) -> dict[str, float]:
    mean, half = t_interval(values.to_numpy(dtype=np.float64))
    if (values == values.iloc[0]).all():  # no seed changes it; the mean of equal numbers may be another one
        mean, half = float(values.iloc[0]), 0.0
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def _matched(tables: Sequence[Tables]) -> list[dict[str, str]]:
    return expert_names([table.by_regime for table in tables], ALIGNED_ON)


def _renamed(strategy: str, names: Mapping[str, str]) -> str:
    """Return a strategy's name with its expert's, ``without_expert_1`` too, as it is called over seeds."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found[0]], strategy)


def _wide(regimes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row a regime: expert -> importance with half its interval's width."""
    rows: dict[str, dict[str, Any]] = {}
    for row in regimes.to_dict("records"):
        half = (row["importance_high"] - row["importance_low"]) / 2
        shown = "-" if np.isnan(row["importance"]) else f"{row['importance']:.2f} ± {half:.2f}"
        rows.setdefault(row["regime"], {})[row["expert"]] = shown
    return [{"regime": regime, "experts": experts} for regime, experts in rows.items()]
