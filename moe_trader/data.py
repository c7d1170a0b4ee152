"""``moe-data``: what a market holds, in tables and a picture, and whether any feature looks ahead."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from moe_trader.command import run_directory, start
from moe_trader.config import to_plain

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from moe_trader.env import Instrument, Market
    from moe_trader.env.lookahead import Leak, LookAhead
    from moe_trader.env.task import PreparedTask, TradingTask

log = logging.getLogger("moe_trader.data")

MOST_PANELS = 100  # a picture of more is taller than its format allows


def run(task: TradingTask, look_ahead: LookAhead, panels: int, directory: Path) -> None:
    """Print the market, its splits, regimes and features, draw it, and check the features.

    :raises LookAheadError: naming every feature that looks ahead
    """
    from moe_trader.env.lookahead import LookAheadError, explain, unscaled
    from moe_trader.terminal import console

    market = task.market.load()
    width = console().width
    for view in market_views(market, width):  # before anything else can be refused: it shows what there is
        console().print(view)
    task = task.fitted(market)  # it is the fitted features that trade
    leaks = look_ahead.leaks(task.features, market)
    console().print(features_view(task, market, leaks, unscaled(task.features, market), width))
    if leaks:
        raise LookAheadError(explain(leaks))
    console().print(
        f"No feature was seen to look ahead: no row changed when the bars after it did ({look_ahead.cuts} moments over "
        "the market, and the first bars after the warm-ups).\n"
    )

    prepared = task.prepare(market=market)
    console().print(splits_view(prepared, width))
    console().print(regimes_view(prepared))
    drawn = draw(prepared, panels, directory / "market.png")
    console().print(f"\nLook at the picture:  {os.path.relpath(drawn)}", soft_wrap=True)


# Headings of the market's table, and of its halves where a terminal is narrow.
_ALL = ("bars", "first", "last", "gaps", "longest gap", "open = last close", "no volume", "repaired rows", "per year")
_HALVES = (
    ("bars", "first", "last", "open = last close", "no volume"),
    ("gaps", "longest gap", "repaired rows", "per year", "volatility"),
)
_READ = "found out, repaired, joined, ignored"
_TEXT = ("columns", _READ)  # headings of columns whose cells wrap
_NARROW = 7  # characters of a heading's line where the terminal is narrow
_WIDE = 140  # characters from which both halves fit side by side


def market_views(market: Market, width: int) -> list[Table]:
    """Return tables with a row for each instrument: one, or two where the terminal is narrow; and the notes."""
    from moe_trader.env.calendars import calendar_of

    title = (
        f"{market.name}: {len(market.instruments)} instrument{'s' if len(market.instruments) > 1 else ''}, "
        f"{calendar_of(market.instruments)} bars a year, opens {'real' if market.opens_are_real else 'not real'}"
    )
    explained = (
        "A gap: a step longer than 1.5 times the 99 % quantile of the steps. Repaired: rows changed or left out."
    )
    headings = [(*_ALL, "volatility")] if width >= _WIDE else list(_HALVES)
    views = [_table("" if place else title, ["instrument", *names], "", width) for place, names in enumerate(headings)]
    views[-1].caption = explained
    repaired = market.repaired or (0,) * len(market.instruments)
    for one, rows in zip(market.instruments, repaired, strict=True):
        cells = _cells(one, rows)
        for view, names in zip(views, headings, strict=True):
            view.add_row(one.symbol, *(cells[name] for name in names))
    if any(market.notes):
        views.append(_notes_view(market))
    return views


def _cells(one: Instrument, repaired: int) -> dict[str, str]:
    """Return what the tables say of an instrument, by heading."""
    from moe_trader.env.contents import contents

    held = contents(one)
    return {
        "bars": f"{held.bars:,}",
        "first": _stamp(held.first),
        "last": _stamp(held.last),
        "gaps": f"{held.gaps:,}",
        "longest gap": str(held.longest_gap.astype("timedelta64[s]").astype(object)).replace(", 0:00:00", ""),
        "open = last close": f"{held.stale_opens:.0%}",
        "no volume": f"{held.no_volume:,}",
        "repaired rows": f"{repaired:,}",
        "per year": f"{held.annual_return:+.1%}",
        "volatility": f"{held.annual_volatility:.1%}",
    }


def _notes_view(market: Market) -> Table:
    """Return a table of what was found out, repaired, joined and ignored while each instrument was read."""
    table = _table("How it was read", ["instrument", _READ], "")
    for one, notes in zip(market.instruments, market.notes, strict=True):
        for place, note in enumerate(notes):
            table.add_row("" if place else one.symbol, note)
    return table


def features_view(
    task: TradingTask, market: Market, leaks: list[Leak], unscaled: dict[str, str], width: int = _WIDE
) -> Table:
    """Return a table with a row for each feature; ``unscaled`` names those that are not scale-free, and a column."""
    import numpy as np

    from moe_trader.env.features import lookback

    table = _table(
        f"Features: {sum(len(one.columns()) for one in task.features.values())} columns; an observation uses "
        f"{lookback(task.features, task.window)} bars",
        ["feature", "columns", "warm-up", "seen by the gate", "scale-free", "looks ahead"],
        "A constant column never varies in this market: it tells an agent nothing. Scale-free: alike in any currency.",
        width,
    )
    leaking = {leak.feature: leak for leak in leaks}
    for name, feature in task.features.items():
        known = np.concatenate([feature.compute(one)[feature.warmup() :] for one in market.instruments])
        marked = [
            f"{column} (constant)" if len(np.unique(values.round(9))) == 1 else column
            for column, values in zip(feature.columns(), known.T, strict=True)
        ]
        verdict = f"[red]YES: {leaking[name].column}[/]" if name in leaking else "no"
        gate = "alone" if name in task.seen_by_gate_alone else "yes" if name in task.seen_by_gate else ""
        scale_free = f"[red]NO: {unscaled[name]}[/]" if name in unscaled else "yes"
        table.add_row(name, ", ".join(marked), f"{feature.warmup()}", gate, scale_free, verdict)
    return table


def splits_view(prepared: PreparedTask, width: int = _WIDE) -> Table:
    """Return a table with a row for each split."""
    from moe_trader.env import SPLITS

    table = _table(
        f"Splits ({type(prepared.task.split).__name__})",
        ["split", "instruments", "first decision", "last bar that pays", "decisions"],
        "A split's first decision falls on the close before its first bar; what its features need first is left out.",
        width,
    )
    for split in SPLITS:
        walked = prepared.evaluated(split)
        first, last = min(row.time[0] for row in walked), max(row.paid[-1] for row in walked)
        decisions = sum(map(len, walked))
        table.add_row(split, f"{len(walked)}", _stamp(first), _stamp(last), f"{decisions:,}")
    return table


def regimes_view(prepared: PreparedTask) -> Table:
    """Return a table of the share of each split's bars in each regime."""
    import numpy as np

    from moe_trader.env import SPLITS

    table = _table(
        f"Regimes ({type(prepared.task.regimes).__name__}): share of the decisions",
        ["regime", *SPLITS],
        "For the tables: experts never see a regime, nor does a gate, unless it is gating=rule or gating=oracle.",
    )
    names = prepared.labels.names
    shares = {}
    for split in SPLITS:
        labels = np.concatenate([row.regime for row in prepared.evaluated(split)])
        shares[split] = np.bincount(labels[labels >= 0], minlength=len(names)) / len(labels)
    for index, name in enumerate(names):
        table.add_row(name.replace("_", " "), *[f"{shares[split][index]:.1%}" for split in SPLITS])
    return table


def draw(prepared: PreparedTask, panels: int, file: Path) -> Path:
    """Draw the first ``panels`` instruments, at least one of each split first, into a PNG file; return it."""
    import numpy as np

    from moe_trader.env import SPLITS
    from moe_trader.evaluation.price import Panel, market_figure

    market = prepared.market
    spans: dict[str, dict[str, tuple[np.datetime64, np.datetime64]]] = {one.symbol: {} for one in market.instruments}
    first_of_split = []
    for split in SPLITS:
        walked = prepared.evaluated(split)
        first_of_split.append(walked[0].instrument)
        for row in walked:
            spans[row.instrument][split] = (row.time[0], row.paid[-1])
    chosen = list(dict.fromkeys([*first_of_split, *spans]))[:panels]
    names = np.array([*prepared.labels.names, ""])  # -1, not known, is the last
    drawn = [
        Panel(f"{one.symbol}: close, coloured by regime", one.time, one.close, names[index], spans[one.symbol])
        for one, index in zip(market.instruments, prepared.labels.index, strict=True)
        if one.symbol in chosen
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    market_figure(drawn).savefig(file, dpi=130)
    return file


def _table(title: str, headings: list[str], caption: str, width: int = _WIDE) -> Table:
    """Return a table whose cells wrap in a column of text, and its headings where the terminal is narrow."""
    from rich.table import Table

    table = Table(title=title, title_style="bold", title_justify="left", caption=caption, caption_justify="left")
    for place, heading in enumerate(headings):
        wraps = heading in _TEXT
        shown = heading if width >= _WIDE or wraps else textwrap.fill(heading, _NARROW, break_long_words=False)
        folds = wraps or (place == 0 and width < _WIDE)
        table.add_column(shown, justify="left" if place == 0 or wraps else "right", no_wrap=not folds, overflow="fold")
    return table


def _stamp(time: np.datetime64) -> str:
    """Return a stamp as a day, or to the minute where it is not midnight."""
    text = str(time.astype("datetime64[m]"))
    return text.removesuffix("T00:00").replace("T", " ")


def chosen(plain: dict[str, Any]) -> tuple[TradingTask, LookAhead, int]:
    """Build what the command needs of a composed config: no network, so no PyTorch.

    :raises ConfigError: naming the path of the setting that cannot be used
    """
    from moe_trader.env.lookahead import LookAhead
    from moe_trader.env.task import TradingTask
    from moe_trader.option import ConfigError, build_option, shown

    plugins, panels = plain["plugins"], plain["panels"]
    if not isinstance(plugins, list):
        raise ConfigError(f"plugins: expected a list of packages, got {plugins!r}; write 'plugins=[your_package]'")
    if type(panels) is not int or not 1 <= panels <= MOST_PANELS:
        raise ConfigError(f"panels: expected a number of instruments to draw, 1 to {MOST_PANELS}, got {shown(panels)}")
    task = build_option(plain["env"], "env", TradingTask, plugins)
    return task, build_option(plain["look_ahead"], "look_ahead", LookAhead, plugins), panels


def _job(config: DictConfig) -> None:
    with run_directory(config, keep=False) as directory:  # a picture may be drawn again in the same place
        run(*chosen(to_plain(config)), directory)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``moe-data``; exit status 1: a feature looks ahead, or the data cannot be used."""
    start(_job, "data", sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
