"""What the terminal shows at the end of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
}


def performance_view(experts: pd.DataFrame, split: str) -> Table:
    """Return the performance table of one split, pooled over instruments, for rich to print."""
    shown = experts[(experts["split"] == split) & (experts["instrument"] == ALL)]
    several = (experts[experts["split"] == split]["instrument"].nunique()) > 2
    title = f"{split.capitalize()} split" + (", means over instruments" if several else "")
    table = Table(title=title, title_style="bold", caption="Sharpe in brackets: 95 % interval", caption_justify="left")
    table.add_column("strategy", no_wrap=True)
    for heading, _ in _COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for row in shown.to_dict("records"):
        if previous not in (None, row["kind"]):
            table.add_section()
        previous = row["kind"]
        cells = [number(row[name], pattern) for name, (_, pattern) in _COLUMNS.items()]
        if np.isfinite(row["sharpe_low"]):
            place = list(_COLUMNS).index("sharpe")
            cells[place] += f" [{row['sharpe_low']:+.2f}, {row['sharpe_high']:+.2f}]"
        table.add_row(str(row["strategy"]), *cells, style="bold" if row["strategy"] == "mixture" else None)
    return table


def number(value: float, pattern: str) -> str:
    """Return a formatted number, or a dash for one that does not exist."""
    return pattern.format(value) if np.isfinite(value) else "-"


def verdict(comparisons: pd.DataFrame, against: str, split: str) -> str:
    """Return one sentence on the mixture against another strategy, as strong as its interval allows."""
    rows = comparisons[(comparisons["split"] == split) & (comparisons["against"] == against)]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    gap, low, high = row["log_return_difference"], row["low"], row["high"]
    word = "beats" if low > 0 else "is beaten by" if high < 0 else "cannot be told from"
    what = against.replace("_", " ")
    return f"On the {split} split the mixture {word} {what}: {gap:+.3f} log return [{low:+.3f}, {high:+.3f}]."
