"""The curve of the validations while an agent trained: its charts, and one sentence an agent for the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from moe_trader.evaluation.console import number
from moe_trader.evaluation.figures import DPI, MIXTURE, SINGLE, tidy
from moe_trader.run_files import SINGLE_POLICY, VALIDATION

_CHARTS = {"sharpe": "validation: Sharpe ratio", "log_return": "validation: log return"}


def read_curves(directory: Path) -> dict[str, pd.DataFrame]:
    """Return what a run directory has of ``validation.csv``, by title: ``mixture``, ``single policy``."""
    files = {"mixture": directory / VALIDATION, "single policy": directory / SINGLE_POLICY / VALIDATION}
    return {title: pd.read_csv(file) for title, file in files.items() if file.is_file()}


def save_validation(directory: Path, curves: Mapping[str, pd.DataFrame]) -> dict[str, Path]:
    """Draw a chart a metric into ``directory`` as PNG and return their paths by name.

    A metric that no validation has is left out.
    """
    directory.mkdir(exist_ok=True)
    paths = {}
    for name, title in _CHARTS.items():
        if any(curve[name].notna().any() for curve in curves.values()):
            paths[f"validation_{name}"] = directory / f"validation_{name}.png"
            _chart(curves, name, title).savefig(paths[f"validation_{name}"], dpi=DPI)
    return paths


def validation_lines(curves: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say of each agent which weights the run keeps, and where its validations were best."""
    lines = []
    for title, curve in curves.items():
        kept = curve[curve["selected"] == 1]
        line = f"{title.capitalize()}: {len(curve)} validation{'s' * (len(curve) > 1)}."
        if len(kept):  # a run that was interrupted selected nothing
            row = kept.iloc[0]
            sharpe, log_return = number(row["sharpe"], "{:+.2f}"), number(row["log_return"], "{:+.3f}")
            line += f" The run keeps the weights of step {row['step']:,.0f} (Sharpe {sharpe}, log return {log_return})."
        if curve["sharpe"].notna().any():
            best = curve.loc[curve["sharpe"].idxmax()]
            line += f" The highest Sharpe was {best['sharpe']:+.2f}, at step {best['step']:,.0f}."
        lines.append(line)
    return lines


def _chart(curves: Mapping[str, pd.DataFrame], name: str, title: str) -> Figure:
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.axhline(0.0, color="0.8", lw=0.8, zorder=0)
    for label, colour in (("mixture", MIXTURE), ("single policy", SINGLE)):
        if label not in curves:
            continue
        curve = curves[label]
        ax.plot(curve["step"], curve[name], color=colour, lw=1.6, marker="o", ms=3.5, label=label)
        if name == "log_return":
            ax.plot(curve["step"], curve["lower_bound"], color=colour, lw=1.0, ls=":")
        kept = curve[curve["selected"] == 1]
        ax.plot(kept["step"], kept[name], color=colour, ls="", marker="o", ms=10, mfc="none", mew=1.6)
    if name == "log_return":
        ax.plot([], [], color="0.4", lw=1.0, ls=":", label="lower end, 95 %")
    ax.plot([], [], color="0.4", ls="", marker="o", ms=9, mfc="none", mew=1.6, label="weights of the run")
    ax.set_xlim(left=0)
    ax.margins(y=0.12)
    ax.set_title(title)
    ax.set_xlabel("training steps", fontsize=9)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,g}k")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    tidy(ax)
    return figure
