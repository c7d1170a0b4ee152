"""What the terminal shows at the end of a run."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from moe_trader.evaluation.tables import ALL

_COLUMNS = {
    "log_return": ("log return", "{:+.3f}"),
    "annual_return": ("per year", "{:+.1%}"),
    "volatility": ("volatility", "{:.1%}"),
    "sharpe": ("Sharpe", "{:+.2f}"),
    "sortino": ("Sortino", "{:+.2f}"),
    "max_drawdown": ("max drawdown", "{:.1%}"),
    "calmar": ("Calmar", "{:+.2f}"),
    "turnover": ("turnover", "{:,.0f}"),
    "trades": ("trades", "{:,.0f}"),
    "hit_rate": ("hit rate", "{:.0%}"),
    "exposure": ("exposure", "{:.0%}"),
    "margin_calls": ("margin calls", "{:,.0f}"),
}


_EQUAL = 1e-3  # difference of weights that is not worth a word
_MOST_NAMED = 4  # instruments whose weights fit into a line
_FIRST_TO_GO = ("exposure", "hit_rate", "calmar", "sortino", "turnover", "volatility", "annual_return")


def performance_view(experts: pd.DataFrame, split: str, width: int) -> Table:
    """Return the performance table of one split, pooled over instruments, for rich to print.

    :param width: of the terminal, in characters; columns that do not fit are left to ``evaluation/experts.csv``
    """
    shown = experts[(experts["split"] == split) & (experts["instrument"] == ALL)]
    names, rows = list(_COLUMNS), shown.to_dict("records")
    if not shown["margin_calls"].any():
        names.remove("margin_calls")
    possible = len(names)
    cells = {name: [_COLUMNS[name][0], *(_cell(row, name) for row in rows)] for name in names}
    cells["strategy"] = ["strategy", *(str(row["strategy"]) for row in rows)]
    for name in _FIRST_TO_GO:
        if sum(max(map(len, cells[n])) + 3 for n in ["strategy", *names]) + 1 <= width:
            break
        names.remove(name)
    weights = weights_of(experts, split)
    title = f"{split.capitalize()} split" + (", weighted means over instruments" if weights else "")
    table = Table(title=title, title_style="bold", caption_justify="left")
    lines = ["Sharpe in brackets: 95 % interval", *([f"Weights by time covered: {weights}"] if weights else [])]
    if len(names) < possible:
        lines.append("More columns in evaluation/experts.csv")
    if all(np.isnan(row["annual_return"]) for row in rows):
        lines.append("No annual figures: the split covers less than four weeks")
    table.caption = escape("\n".join(lines))
    table.add_column("strategy", no_wrap=True)
    for name in names:
        table.add_column(_COLUMNS[name][0], justify="right", no_wrap=True)
    for at, row in enumerate(rows):
        if at and row["kind"] != rows[at - 1]["kind"]:
            table.add_section()
        style = "bold" if row["strategy"] == "mixture" else None
        table.add_row(str(row["strategy"]), *(escape(cells[name][at + 1]) for name in names), style=style)
    return table


def weights_of(experts: pd.DataFrame, split: str) -> str:
    """Return the weights of a split's instruments as text, "COIN 50 %, STOCK 50 %"; empty for a single instrument."""
    rows = experts[(experts["split"] == split) & (experts["strategy"] == "mixture") & (experts["instrument"] != ALL)]
    weights = dict(zip(rows["instrument"], rows["weight"], strict=True))
    if len(weights) < 2:
        return ""
    if max(weights.values()) - min(weights.values()) < _EQUAL:
        return f"{len(weights)} instruments, equal"
    if len(weights) > _MOST_NAMED:
        return f"{len(weights)} instruments, {100 * min(weights.values()):.1f} to {100 * max(weights.values()):.1f} %"
    return ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in weights.items())


def _cell(row: dict[Hashable, Any], name: str) -> str:
    text = number(row[name], _COLUMNS[name][1])
    if name == "sharpe" and np.isfinite(row["sharpe_low"]):
        text += f" [{row['sharpe_low']:+.2f}, {row['sharpe_high']:+.2f}]"
    return text


def number(value: float, pattern: str) -> str:
    """Return a formatted number, or a dash for one that does not exist."""
    return pattern.format(value) if np.isfinite(value) else "-"


def verdict(comparisons: pd.DataFrame, against: str, split: str) -> str:
    """Return one sentence on the mixture against another strategy, as strong as its interval allows."""
    rows = comparisons[(comparisons["split"] == split) & (comparisons["against"] == against)]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    if row["bankrupt"]:
        return f"On the {split} split {row['bankrupt']} went bankrupt: nothing else is to be said of it."
    gap, low, high = row["log_return_difference"], row["low"], row["high"]
    word = "beats" if low > 0 else "is beaten by" if high < 0 else "cannot be told from"
    what = against.replace("_", " ")
    return f"On the {split} split the mixture {word} {what}: {gap:+.3f} log return [{low:+.3f}, {high:+.3f}]."
