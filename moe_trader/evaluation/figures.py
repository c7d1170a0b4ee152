"""The pictures of a run, drawn from its tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from moe_trader.evaluation.price import INK, PALETTE, draw_price

MIXTURE, SINGLE = INK, "#7B3294"
DPI = 130
_HOLD, _REFERENCE = "#8C8C8C", "#B8860B"
_MOST_WITH_INTERVALS = 6  # experts whose columns are wide enough for one


def expert_colours(experts: Sequence[str]) -> dict[str, str]:
    """Return one colour an expert, the same in every figure."""
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(experts)}


def save_figures(
    directory: Path,
    steps: pd.DataFrame,
    equity: pd.DataFrame,
    weights: pd.Series,
    by_regime: pd.DataFrame,
    competence: pd.DataFrame,
    attribution: pd.DataFrame,
    curves: dict[str, pd.DataFrame],
) -> dict[str, Path]:
    """Draw every figure into ``directory`` as PNG and return their paths by name.

    :param weights: of each instrument, by split and instrument
    :param curves: training logs (``progress.csv``) by title, the mixture's first
    """
    directory.mkdir(exist_ok=True)
    experts = [name.removeprefix("gate_") for name in steps if name.startswith("gate_")]
    drawn = {"equity": _equity(equity, weights, experts), "gate": _gate(steps, experts)}
    drawn["regimes"] = _heat_maps(by_regime, competence, attribution, experts)
    if curves:
        drawn["learning"] = _learning(curves, experts)
    paths = {}
    for name, figure in drawn.items():
        paths[name] = directory / f"{name}.png"
        figure.savefig(paths[name], dpi=DPI)
    return paths


def _equity(equity: pd.DataFrame, weights: pd.Series, experts: Sequence[str]) -> Figure:
    splits = list(equity["split"].unique())
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, len(splits), squeeze=False)[0]
    looks = {name: (colour, 0.9, "-") for name, colour in expert_colours(experts).items()}
    looks |= {"buy_and_hold": (_HOLD, 1.4, "--"), "single_policy": (SINGLE, 1.5, "-")}
    looks |= {"bayes_filter": (_REFERENCE, 1.4, ":"), "mixture": (MIXTURE, 2.2, "-")}
    for ax, split in zip(axes, splits, strict=True):
        part = equity[equity["split"] == split]
        n_instruments = part["instrument"].nunique()
        for name, (colour, width, style) in looks.items():
            if name not in part or part[name].isna().all():
                continue
            growth = pooled_growth(part, name, weights[split])
            ax.plot(growth.index, growth, color=colour, lw=width, ls=style, label=name.replace("_", " "))
        ax.axhline(1.0, color="0.8", lw=0.8, zorder=0)
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high / low < 30:  # less than a decade and a half: the powers of ten alone would leave the axis bare
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0)))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}x")
        mean = f", weighted geometric mean of {n_instruments} instruments" if n_instruments > 1 else ""
        ax.set_title(f"{split}: equity{mean}")
        dates = AutoDateLocator(minticks=3, maxticks=7)  # two charts share the width
        ax.xaxis.set_major_locator(dates)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(dates))
        tidy(ax)
    axes[0].legend(fontsize=8, frameon=True, framealpha=0.7, edgecolor="none", ncols=2)
    return figure


def pooled_growth(part: pd.DataFrame, name: str, weights: pd.Series) -> pd.Series:
    """Return growth of a strategy's equity over instruments at each time stamp; its log ends at the pooled log return.

    Before its first bar an instrument has grown by nothing, after its last it stays where it ended.

    :param part: equity of one split
    :param weights: by instrument
    """
    start = float(part["flat"].iloc[0])  # of every account: flat never moves
    levels = np.log(part.pivot_table(name, "time", "instrument") / start).ffill().fillna(0.0)
    return np.exp(levels @ weights[levels.columns])


def _gate(steps: pd.DataFrame, experts: Sequence[str]) -> Figure:
    test = steps[steps["split"] == steps["split"].iloc[-1]]
    one = test[test["instrument"] == test["instrument"].iloc[0]]
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    price, weights = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1])
    time = one["time"].to_numpy()
    names = sorted(one["regime"].unique())
    draw_price(price, time, one["close"].to_numpy(), one["regime"].to_numpy(), names)
    price.set_title(f"{one['split'].iloc[0]}: {one['instrument'].iloc[0]} close, coloured by regime")
    stack = [one[f"gate_{name}"].to_numpy() for name in experts]
    palette = expert_colours(experts)
    weights.stackplot(
        time, stack, labels=[_words(name) for name in experts], colors=[palette[n] for n in experts], lw=0
    )
    weights.set_ylim(0, 1)
    weights.set_title("gate weights")
    weights.legend(fontsize=8, frameon=True, framealpha=0.8, ncols=len(experts), loc="lower left")
    weights.margins(x=0)
    for ax in (price, weights):
        tidy(ax)
    return figure


def _heat_maps(
    by_regime: pd.DataFrame, competence: pd.DataFrame, attribution: pd.DataFrame, experts: Sequence[str]
) -> Figure:
    split = by_regime["split"].iloc[-1]
    part = by_regime[by_regime["split"] == split]
    use, low, high = (
        _by_expert(part, column, experts) for column in ("importance", "importance_low", "importance_high")
    )
    use = use.dropna(how="all")
    bars = part.drop_duplicates("regime").set_index("regime")["bars"]
    earned = competence[competence["split"] == split].set_index("regime")[list(experts)].reindex(use.index)
    shared = _by_expert(attribution[attribution["split"] == split], "log_return", experts).reindex(use.index)
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(use)), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    labels = [f"{_words(name)}\n{bars[name]:,} bars" for name in use.index]
    pairs = zip(low.reindex(use.index).to_numpy().ravel(), high.reindex(use.index).to_numpy().ravel(), strict=True)
    ends = np.array([f"{a:.2f} to {b:.2f}" for a, b in pairs]).reshape(use.shape)
    few = len(experts) <= _MOST_WITH_INTERVALS
    _heat(left, use.to_numpy(), experts, labels, "Blues", (0.0, 1.0), "{:.2f}", ends if few else None)
    left.set_title(f"{split}: importance, 95 % interval", fontsize=10)
    for ax, values, pattern in ((middle, earned, "{:+.1f}"), (right, 100 * shared, "{:+.1f}")):
        bound = float(np.nanquantile(np.abs(values.to_numpy()), 0.9)) or 1.0
        _heat(ax, values.to_numpy(), experts, None, "RdBu", (-bound, bound), pattern)
    middle.set_title(f"{split}: competence (bp per bar, forced)", fontsize=10)
    right.set_title(f"{split}: attributed log return (%)", fontsize=10)
    return figure


def _by_expert(table: pd.DataFrame, column: str, experts: Sequence[str]) -> pd.DataFrame:
    found = table.pivot_table(index="regime", columns="expert", values=column, sort=False, dropna=False)
    return found.reindex(columns=list(experts))


def _heat(
    ax: Axes,
    values: np.ndarray,
    experts: Sequence[str],
    rows: Sequence[str] | None,
    colours: str,
    bounds: tuple[float, float],
    pattern: str,
    below: NDArray[np.str_] | None = None,
) -> None:
    """Draw a matrix with its numbers; ``below`` is a smaller line of text in each cell."""
    image = ax.imshow(values, cmap=colours, vmin=bounds[0], vmax=bounds[1], aspect="auto")
    ax.set_xticks(range(len(experts)), [_words(name) for name in experts], fontsize=8)
    ax.set_yticks(range(len(values)), rows if rows is not None else [""] * len(values), fontsize=8)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = sum(image.cmap(image.norm(value))[:3]) < 1.5
            look: dict[str, Any] = {"ha": "center", "color": "w" if dark else "k"}
            if below is None:
                ax.text(column, row, pattern.format(value), va="center", fontsize=8, **look)
            else:
                ax.text(column, row, pattern.format(value), va="bottom", fontsize=8, **look)
                ax.text(column, row, str(below[row, column]), va="top", fontsize=5.5, **look)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _learning(curves: dict[str, pd.DataFrame], experts: Sequence[str]) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    reward, gate, shares = figure.subplots(1, 3)
    for title, colour in zip(curves, (MIXTURE, SINGLE), strict=False):
        log = curves[title]
        _curve(reward, log, "rollout/ep_rew_mean", colour, title)
    reward.set_title("log profit per training episode", fontsize=10)
    _legend(reward)
    mixture = next(iter(curves.values()))
    _curve(gate, mixture, "mixture/gate_entropy", PALETTE[0], "gate entropy")
    _curve(gate, mixture, "mixture/disagreement", PALETTE[5], "disagreement")
    gate.set_ylim(bottom=0)
    gate.set_title("nats", fontsize=10)
    _legend(gate)
    for name, colour in expert_colours(experts).items():
        _curve(shares, mixture, f"importance/{name}", colour, _words(name))
    shares.set_ylim(0, 1)
    shares.set_title("importance of each expert", fontsize=10)
    _legend(shares)
    for ax in (reward, gate, shares):
        ax.set_xlabel("steps", fontsize=8)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
        tidy(ax)
    return figure


def _curve(ax: Axes, log: pd.DataFrame, column: str, colour: str, label: str) -> None:
    if column in log:
        known = log[["time/total_timesteps", column]].dropna()
        ax.plot(known["time/total_timesteps"], known[column], color=colour, lw=1.4, label=label)


def _words(name: str) -> str:
    return name.replace("_", " ")


def tidy(ax: Axes) -> None:
    """Remove the frame above and to the right, and set the sizes of text."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.title.set_fontsize(10)


def _legend(ax: Axes) -> None:
    """Name the curves, where a run was long enough to have any."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, frameon=False)
