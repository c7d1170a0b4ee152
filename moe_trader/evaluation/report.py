"""``report.html``: one self-contained page that says what happened, how sure it is, and what the words mean."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from moe_trader.durable import write_file
from moe_trader.evaluation import disagreement, routing, specialisation
from moe_trader.evaluation.console import number, verdict, weights_of
from moe_trader.evaluation.evaluate import Tables
from moe_trader.evaluation.figures import save_figures
from moe_trader.evaluation.metrics import METRICS
from moe_trader.evaluation.tables import ALL
from moe_trader.evaluation.validation_curve import read_curves, save_validation, validation_lines
from moe_trader.run_files import FIGURES, PROGRESS, REPORT, SINGLE_POLICY

_PERCENT = {"annual_return", "volatility", "max_drawdown", "hit_rate", "exposure", "cost"}
_COUNTS = {"trades", "turnover", "margin_calls"}
_ATTRIBUTED = {"log_return": "{:+.3f}", "trades": "{:,.0f}", "turnover": "{:,.1f}", "cost": "{:.2%}"}
_RIVALS = ("single_policy", "uniform_gate", "shuffled_gate", "buy_and_hold", "flat")


def write_report(tables: Tables, directory: Path, facts: Mapping[str, Any], notes: list[str]) -> Path:
    """Draw the figures and write ``report.html`` into a run directory.

    :param facts: what the page's head says of the run, name -> value
    :param notes: what a reader must know before believing a number
    :return: the page's path
    """
    logs = {"mixture": directory / PROGRESS, "single policy": directory / SINGLE_POLICY / PROGRESS}
    curves = {title: pd.read_csv(file) for title, file in logs.items() if file.is_file()}
    mixture = tables.experts[(tables.experts["strategy"] == "mixture") & (tables.experts["instrument"] != ALL)]
    weights = mixture.set_index(["split", "instrument"])["weight"]
    drawn = (tables.steps, tables.equity, weights, tables.by_regime, tables.competence, tables.attribution)
    figures = save_figures(directory / FIGURES, *drawn, curves)
    validated = read_curves(directory)
    figures |= save_validation(directory / FIGURES, validated)
    page = Environment(
        loader=PackageLoader("moe_trader.evaluation", "."), autoescape=True, undefined=StrictUndefined
    ).get_template("report.html.j2")
    splits = list(reversed(tables.experts["split"].unique()))
    alone = sum(name.startswith("gate_") for name in tables.steps) == 1
    rivals = [rival for rival in _RIVALS if not (alone and rival.endswith("_gate"))]
    if shares := weights_of(tables.experts, splits[0]):
        facts = {**facts, f"weights on {splits[0]}": shares}
    text = page.render(
        facts=facts,
        notes=notes,
        verdicts=[line for rival in rivals if (line := verdict(tables.comparisons, rival, splits[0]))],
        figures={name: _inline(path) for name, path in figures.items()},
        performance={split: _performance_rows(tables.experts, split) for split in splits},
        metrics=METRICS,
        validated=validation_lines(validated),
        specialisation=None if alone else _specialisation_rows(tables.specialisation, splits),
        split=splits[0],
        worth=None if alone else _worth_rows(tables, splits[0]),
        disagreement=None if alone else _disagreement_rows(tables, splits[0]),
    )
    path = directory / REPORT
    write_file(path, text)
    return path


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _specialisation_rows(table: pd.DataFrame, splits: list[str]) -> list[dict[str, Any]]:
    """Return one row a measure: its name, what it says, and its value on each split."""
    rows = []
    for name, text in {**specialisation.MEASURES, **routing.MEASURES, **disagreement.MEASURES}.items():
        values = {}
        for split in splits:
            (found,) = table[(table["split"] == split) & (table["measure"] == name)].to_dict("records")
            shown = number(found["value"], "{:.3f}")
            if pd.notna(found["p_value"]):
                shown += f" (p = {found['p_value']:.3f})"
            if pd.notna(found["low"]):
                shown += f" [{found['low']:.2f}, {found['high']:.2f}]"
            values[split] = shown
        rows.append({"measure": name.replace("_", " "), "text": text, "values": values})
    return rows


def _worth_rows(tables: Tables, split: str) -> list[dict[str, str]]:
    """Return one row an expert, and the mixture's: return alone, Shapley value, and what was attributed."""
    attributed = tables.attribution[(tables.attribution["split"] == split) & (tables.attribution["regime"] == ALL)]
    whole = tables.experts[(tables.experts["split"] == split) & (tables.experts["instrument"] == ALL)]
    alone = whole.set_index("strategy")["log_return"]
    shapley = tables.shapley[tables.shapley["split"] == split].set_index("expert")
    rows = []
    for share in attributed.to_dict("records"):
        row = {"expert": str(share["expert"]).replace("_", " "), "alone": f"{alone[share['expert']]:+.3f}"}
        if len(shapley):
            value, low, high = shapley.loc[share["expert"], ["shapley", "low", "high"]]
            row["shapley"], row["interval"] = f"{value:+.3f}", f"[{low:+.2f}, {high:+.2f}]"
        rows.append(row | {name: pattern.format(share[name]) for name, pattern in _ATTRIBUTED.items()})
    total = {"expert": "mixture", "alone": f"{alone['mixture']:+.3f}"}
    if len(shapley):
        total |= {"shapley": f"{shapley['shapley'].sum():+.3f}", "interval": ""}
    return [*rows, total | {name: pattern.format(attributed[name].sum()) for name, pattern in _ATTRIBUTED.items()}]


def _disagreement_rows(tables: Tables, split: str) -> dict[str, dict[str, float | None]]:
    """Return expert x expert: the share of bars on which they would take different targets; None of itself."""
    pairs = tables.disagreement[tables.disagreement["split"] == split]
    share = {}
    for one, other, value in pairs[["expert", "other", "disagreement"]].itertuples(index=False):
        share[one, other] = share[other, one] = float(value)
    names = list(dict.fromkeys([*pairs["expert"], *pairs["other"]]))
    return {
        one.replace("_", " "): {other.replace("_", " "): share.get((one, other)) for other in names} for one in names
    }


def _performance_rows(experts: pd.DataFrame, split: str) -> list[dict[str, str]]:
    shown = experts[(experts["split"] == split) & (experts["instrument"] == ALL)]
    rows = []
    for record in shown.to_dict("records"):
        row = {"strategy": str(record["strategy"]).replace("_", " "), "kind": str(record["kind"])}
        for name in METRICS:
            pattern = "{:.1%}" if name in _PERCENT else "{:,.0f}" if name in _COUNTS else "{:+.3f}"
            row[name] = number(record[name], pattern)
        for name in ("log_return", "sharpe"):
            low, high = record[f"{name}_low"], record[f"{name}_high"]
            row[f"{name}_interval"] = f"[{low:+.2f}, {high:+.2f}]" if pd.notna(low) else ""
        rows.append(row)
    return rows
