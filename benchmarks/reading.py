"""Read every kind of price file, compare with the bars written by hand, and follow what each refusal suggests.

    python benchmarks/reading.py
    python benchmarks/reading.py --product     # also separators x date formats x orders x compressions

Suggestions are taken from the refusal as a user would: split by a shell's rules and composed by Hydra. A kind is
`read`, `repaired` (with a warning), `refused with a way out` (a setting that reads it, or the line that converts it) or
`refused without`. It fails where a value differs from the one written by hand, or where there is no way out.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import itertools
import json
import logging
import re
import shlex
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from reading_kinds import HEADER, KINDS, PRICES, STANDARD, Kind, cases

from moe_trader.config import config_directory, to_plain
from moe_trader.env import Market, MarketError, MarketSource
from moe_trader.option import build_option

NUMBERS = ("open", "high", "low", "close", "volume")
SETTING = re.compile(r"(?<!\S)('env\.(?:[^']|'\"'\"')*'|env\.[\w.]+=(?!HEADING)[^\s';]+?)(?=[;,]?(?:\s|$))")
AS_IT_IS = "closes only|kept as the market's own|volume is read from column"  # warnings of bars that nothing changed
FOLLOWED = 3  # suggestions in a row


@dataclass
class Result:
    """What became of one kind, and what is wrong about it."""

    name: str
    outcome: str
    suggested: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def composed(overrides: list[str]) -> dict[str, Any]:
    """Return the plain config of ``moe-data``, composed as the command line does."""
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        return to_plain(compose("data", overrides=["env=csv", *overrides]))


def load(overrides: list[str]) -> Market:
    """Return the market that settings read, as they are pasted."""
    return build_option(composed(overrides)["env"]["market"], "env.market", MarketSource).load()


def suggestions(message: str) -> list[str]:
    """Return the settings that a refusal names; those one after the other belong together."""
    found: list[str] = []
    end = -1
    for match in SETTING.finditer(message):
        if found and message[end : match.start()].strip() == "":
            found[-1] += f" {match[1]}"
        else:
            found.append(match[1])
        end = match.end()
    return found


def expected(text: str) -> tuple[pd.DataFrame, int]:
    """Return bars written by hand, and how many there are with those left out."""
    lines = text.strip().splitlines()
    rows = [line.split() for line in lines if not line.startswith("...")]
    table = pd.DataFrame(rows, columns=["time", *NUMBERS]).astype(dict.fromkeys(NUMBERS, float))
    counts = [int(line.split()[1]) for line in lines if line.startswith("...")]
    return table.assign(time=[np.datetime64(stamp, "us") for stamp in table["time"]]), counts[0] if counts else len(
        rows
    )


def differences(market: Market, bars: Mapping[str, str]) -> list[str]:
    """Return in what a market differs from the bars written by hand."""
    held = {one.symbol: one for one in market.instruments}
    if set(held) != set(bars):
        return [f"instruments {sorted(held)}, not {sorted(bars)}"]
    wrong = []
    for symbol, text in bars.items():
        one = held[symbol]
        table, count = expected(text)
        if len(one) != count:
            wrong.append(f"{symbol}: {len(one)} bars, not {count}")
            continue
        first = len(table) if count == len(table) else text.strip().splitlines().index(f"... {count}")
        places = [*range(first), *range(count - len(table) + first, count)]
        if not (one.time[places] == table["time"].to_numpy()).all():
            wrong.append(f"{symbol}: time is {one.time[places]}")
        for name in NUMBERS:
            if not np.allclose(getattr(one, name)[places], table[name], rtol=1e-12, atol=0):
                wrong.append(f"{symbol}: {name} is {getattr(one, name)[places]}")
    return wrong


@contextlib.contextmanager
def warnings_logged() -> Iterator[list[str]]:
    """Collect the warnings that are logged, and keep them from the terminal."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("moe_trader")
    log.addHandler(handler)
    propagates, log.propagate = log.propagate, False
    try:
        yield found
    finally:
        log.removeHandler(handler)
        log.propagate = propagates


def written(kind: Kind, folder: Path) -> Path:
    """Write the files of a kind below a folder; return the path that reads them."""
    for name, content in kind.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(file)
        elif isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content, encoding="utf-8")
    return folder / kind.path


def judge(kind: Kind, folder: Path) -> Result:
    """Read a kind as it is and, where it is refused, with each suggestion of the refusal."""
    path = written(kind, folder)
    given = [f"env.path='{path}'", *kind.settings]
    with warnings_logged() as warned:
        try:
            market = load(given)
        except MarketError as error:
            return refused(kind, given, str(error), path)
    changed = any(market.repaired) or any(not re.search(AS_IT_IS, text) for text in warned)
    return Result(kind.name, "repaired" if changed else "read", wrong=differences(market, kind.bars))


def refused(kind: Kind, given: list[str], message: str, path: Path) -> Result:
    """Return what the suggestions of a refusal lead to; the first must give the bars written by hand."""
    result = Result(kind.name, "refused with a way out", suggestions(message))
    if kind.remedy is not None:
        if kind.remedy not in message:
            result.outcome, result.wrong = "refused without", [message]
        elif kind.bars:
            result.wrong = differences(converted(kind.remedy, path), kind.bars)
        return result
    if not result.suggested:
        result.outcome, result.wrong = "refused without", [message]
    for place, words in enumerate(result.suggested):
        try:
            market = followed([*given, *shlex.split(words)])
        except Exception as error:  # whatever a suggestion leads to counts against it
            result.wrong.append(f"{words}: {type(error).__name__}: {error}")
            continue
        if place == 0:
            result.wrong += differences(market, kind.bars)
    return result


def followed(given: list[str]) -> Market:
    """Read a file that has several faults, with the first suggestion of each refusal."""
    for _ in range(FOLLOWED):
        try:
            with warnings_logged():
                return load(given)
        except MarketError as error:
            more = suggestions(str(error))
            if not more:
                raise
            given = [*given, *shlex.split(more[0])]
    return load(given)


def converted(line: str, path: Path) -> Market:
    """Run the line of Python that a refusal gives, in the file's folder, and read what it writes."""
    with contextlib.chdir(path.parent):
        exec(line, {"pd": pd, "json": json, "sqlite3": sqlite3, "Path": Path})
    with warnings_logged():
        return load([f"env.path='{path.parent / 'x.parquet'}'"])


def product() -> Iterator[Kind]:
    """Yield the standard bars with every separator, date format, order and compression."""
    days = pd.to_datetime(pd.Series(["2018-12-27", "2018-12-28", "2018-12-31"]))
    layouts = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%b-%Y", "%b %d %Y")
    orders = {"oldest first": (0, 1, 2), "newest first": (2, 1, 0), "no order": (0, 2, 1)}
    for separator, layout, order, ending in itertools.product(
        (",", ";", "\t", "|"), (*layouts, "%m/%d/%y", "s", "ms", "ns"), orders, ("", ".gz", ".bz2", ".xz", ".zip")
    ):
        if layout.startswith("%"):
            stamps = days.dt.strftime(layout)
        else:
            stamps = days.dt.as_unit(layout).astype(np.int64).astype(str)
        rows = [f"{stamps[place]},{PRICES[place]}" for place in orders[order]]
        lines = "\n".join([HEADER, *rows]).replace(",", separator) + "\n"

        def save(path: Path, lines: str = lines) -> None:
            with pd.io.common.get_handle(path, "w", compression="infer") as handle:
                handle.handle.write(lines)

        name = f"x.csv{ending}"
        yield Kind(f"{separator!r}, {layout}, {order}, {ending or 'plain'}", {name: save}, {"x": STANDARD}, path=name)


def show(results: list[Result], title: str) -> bool:
    """Print the table of outcomes and all that is wrong; return whether nothing is."""
    counts = collections.Counter(result.outcome for result in results)
    print(f"{title}: {len(results)}")
    for outcome in ("read", "repaired", "refused with a way out", "refused without"):
        print(f"  {outcome:24} {counts[outcome]:5}")
    wrong = [result for result in results if result.wrong]
    print(f"  {'values or ways wrong':24} {len(wrong):5}")
    for result in wrong:
        print(f"- {result.name}: {result.outcome}; {'; '.join(result.wrong)}", file=sys.stderr)
    return not wrong and not counts["refused without"]


def main() -> None:
    """Print what became of each kind; exit with status 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", action="store_true", help="also every combination of four properties")
    parser.add_argument("--all", action="store_true", help="print a line for each kind")
    options = parser.parse_args()
    began, sound = time.perf_counter(), True
    groups = {"kinds": KINDS, "reported files": cases()} | (
        {"combinations": list(product())} if options.product else {}
    )
    for title, kinds in groups.items():
        results = []
        for kind in kinds:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                results.append(judge(kind, Path(folder)))
            if kind.outcome not in results[-1].outcome and title != "combinations":
                results[-1].wrong.append(f"expected it to be {kind.outcome}")
        if options.all:
            for result in results:
                print(f"{result.outcome:24} {result.name}: {' | '.join(result.suggested)}")
        sound &= show(results, title)
    print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
