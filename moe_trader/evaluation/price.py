"""Prices coloured by regime: in the report's gate figure, and in the picture of a market that `moe-data` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers too.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
INK = "#111111"
_NAMED = {"falling": "#C0392B", "sideways": "#7F8C8D", "rising": "#27AE60"}
_SHADES = {"calm": 0.30, "normal": 0.60, "wild": 1.0}
_SPLITS = {"train": "#4D4D4D", "validation": "#E69F00", "test": "#0072B2"}
_MOST_POINTS = 4000  # drawn; more would take minutes and show no more


@dataclass(frozen=True)
class Panel:
    """One instrument of a picture.

    :param title: above it
    :param time: of each bar, shape ``(n,)``
    :param close: of each bar
    :param regime: name of each bar's regime; empty: not known
    :param splits: name of a split -> close of the first and of the last bar it pays
    """

    title: str
    time: np.ndarray
    close: np.ndarray
    regime: np.ndarray
    splits: Mapping[str, tuple[np.datetime64, np.datetime64]]


def regime_colours(regimes: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Return one colour a regime: hue for the trend and depth for the volatility where names tell them."""
    colours = {}
    for index, name in enumerate(regimes):
        trend, _, volatility = name.partition("_")
        if trend in _NAMED and volatility in _SHADES:
            depth = _SHADES[volatility]
            red, green, blue = (1 - depth * (1 - part) for part in to_rgb(_NAMED[trend]))
            colours[name] = (red, green, blue)
        else:
            colours[name] = to_rgb(PALETTE[(index + 2) % len(PALETTE)])
    return colours


def draw_price(ax: Axes, time: np.ndarray, close: np.ndarray, regime: np.ndarray, names: Sequence[str]) -> None:
    """Draw a price on a log axis over its regimes, with their legend; ``names`` fixes the colours."""
    ax.plot(time, close, color=INK, lw=1.0)
    ax.set_yscale("log")
    top = "{x:,.0f}" if np.median(close) >= 10 else "{x:,.4g}"
    ax.yaxis.set_major_formatter(top)
    ax.yaxis.set_minor_formatter(top)
    ax.tick_params(axis="y", which="minor", labelsize=7)
    colours = regime_colours(names)
    starts = np.flatnonzero(np.r_[True, regime[1:] != regime[:-1]])
    for start, stop in zip(starts, [*starts[1:], len(time) - 1], strict=True):
        if regime[start] in colours:
            ax.axvspan(time[start], time[stop], color=colours[regime[start]], alpha=0.45, lw=0)
    handles = [
        ax.axvspan(time[0], time[0], color=colours[name], alpha=0.45, label=name.replace("_", " ")) for name in names
    ]
    ax.legend(handles=handles, fontsize=7, frameon=True, framealpha=0.9, ncols=3, loc="upper left")


def market_figure(panels: Sequence[Panel]) -> Figure:
    """Draw each instrument's price coloured by regime, its splits as bars below; what lies between them is unused."""
    figure = Figure(figsize=(11, 0.4 + 3.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    names = sorted({str(name) for panel in panels for name in np.unique(panel.regime) if name})
    for ax, panel in zip(axes, panels, strict=True):
        step = -(-len(panel.time) // _MOST_POINTS)
        draw_price(ax, panel.time[::step], panel.close[::step], panel.regime[::step], names)
        for split, (first, last) in panel.splits.items():
            ax.axvspan(first, last, 0.0, 0.05, color=_SPLITS[split], lw=0)
            middle = first + (last - first) / 2
            ax.text(
                middle,
                0.025,
                split,
                color="w",
                fontsize=7,
                ha="center",
                va="center",
                transform=ax.get_xaxis_transform(),
            )
            ax.axvline(first, color=_SPLITS[split], lw=0.9)
            ax.axvline(last, color=_SPLITS[split], lw=0.9, ls=":")
        ax.margins(x=0)
        ax.set_title(panel.title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure
