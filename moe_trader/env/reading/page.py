"""One price table while it is read: its settings, the rows that are left out, and the notes on what was repaired."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.env import MarketError
from moe_trader.env.reading.columns import Column, Heading
from moe_trader.env.reading.ways import Way, offer

log = logging.getLogger(__name__)

Splits = Literal["refuse", "repair", "keep"]
Ranges = Literal["refuse", "widen"]
BadRows = Literal["refuse", "drop"]
Order = Literal["refuse", "sort"]
Decimal = Literal["point", "comma"]
Mask = NDArray[np.bool_]

_WAYS = 3  # that one refusal names
_MOST = 0.1  # share of rows that may be left out as bad
FILE_SETTINGS = frozenset(
    (
        "columns",
        "date_format",
        "time_zone",
        "decimal",
        "encoding",
        "adjust",
        "splits",
        "opens_are_real",
        "ranges",
        "bad_rows",
        "order",
    )
) | frozenset(("start", "end", "symbol", "symbols", "env.fill", "env.path"))


@dataclass(frozen=True)
class Reading:
    """How tables are read; ``conf/env/reading/standard.yaml`` explains each setting.

    :param settings: settings of ``env.market`` that a refusal may name: those that its source has
    """

    columns: Mapping[Column, Heading] = field(default_factory=dict)
    date_format: str | None = None
    time_zone: str | None = None
    decimal: Decimal | None = None
    encoding: str | None = None
    adjust: bool = True
    splits: Splits = "refuse"
    opens_are_real: bool | None = None
    ranges: Ranges = "refuse"
    bad_rows: BadRows = "refuse"
    order: Order = "refuse"
    start: datetime.date | None = None
    end: datetime.date | None = None
    settings: frozenset[str] = FILE_SETTINGS


class Page:
    """A table's name, row numbers, settings and notes; shared by all that read it.

    :param rows: number of each row, as the user counts them
    """

    def __init__(self, source: str, rows: pd.Index, reading: Reading) -> None:
        self.source = source
        self.rows = rows.to_numpy()
        self.reading = reading
        self.notes: list[str] = []
        self.time: NDArray[np.datetime64] = np.full(
            len(rows), np.datetime64("NaT", "us")
        )  # of each row, once it is known
        self.filled = np.zeros(len(rows), dtype=bool)  # rows whose open was missing, and is the close
        self.no_volume = np.zeros(len(rows), dtype=bool)  # rows whose volume of -1 stands for none
        self.bad = np.zeros(len(rows), dtype=bool)
        self.n_bad, self.n_all = 0, len(rows)
        self._first_bad = ""

    def warn(self, text: str) -> None:
        """Log a repair, and keep it for ``moe-data``."""
        log.warning("%s: %s", self.source, text)
        self.notes.append(text)

    def inform(self, text: str) -> None:
        """Log what was found out about the table, and keep it for ``moe-data``."""
        log.info("%s: %s", self.source, text)
        self.notes.append(text)

    def error(self, text: str, ways: Sequence[Way] = ()) -> MarketError:
        """Return a refusal of the table, with the settings that would read it."""
        return MarketError(f"{self.source}: {text}{offer(ways, self.reading.settings)}")

    def refuse(
        self, bad: Mask, describe: Callable[[int], str], ways: Sequence[Way] = (), last: Sequence[Way] = ()
    ) -> None:
        """Refuse rows, or mark them to be left out if ``bad_rows`` is ``drop``.

        :param describe: returns the message about the row at a place of the table
        :param ways: settings that read such rows
        :param last: settings to name if there are no others
        :raises MarketError: naming the first of them
        """
        bad = bad & ~self.bad
        if not bad.any():
            return
        at = int(bad.argmax())
        text = f"row {self.rows[at]}{describe(at)}"
        if self.reading.bad_rows == "refuse":
            drop: list[Way] = [({"bad_rows": "drop"}, "to leave such rows out")]
            drop = drop if self.may_leave_out(self.n_bad + int(bad.sum())) else []
            cuts = self._cuts(bad, round((1 - _MOST) * (len(bad) - int(bad.sum()))))
            found = [*ways, *(cuts or drop), *(drop if cuts else self._cuts(bad, len(bad) // 2))][:_WAYS]
            raise self.error(text, found or last or self._cuts(bad, 0))
        self._first_bad = self._first_bad or text
        self.bad |= bad

    def drop(self, outside: Mask | None = None) -> Mask:
        """Return the rows that stay: without the bad ones, and those ``outside`` of what the user wants.

        :raises MarketError: where more than a tenth of the rows is bad, or none stays
        """
        self.check_bad_rows()
        return self._choose(~self.bad if outside is None else ~(self.bad | outside))

    def check_bad_rows(self) -> None:
        """Count the bad rows. :raises MarketError: where more than a tenth of the rows is bad."""
        self.n_bad += int(self.bad.sum())
        if self.n_bad and not self.may_leave_out(self.n_bad):
            raise self.error(
                f"{self._first_bad}; {self.n_bad} of {self.n_all} rows are bad, and at most a tenth "
                "may be left out; repair the file"
            )

    def leave_out(self, rows: Mask) -> None:
        """Leave out rows that are no bars."""
        self._choose(~rows)

    def sort(self, order: NDArray[np.intp] | Mask) -> NDArray[np.intp] | Mask:
        """Put the rows in an order, and return it."""
        return self._choose(order)

    def note_bad_rows(self) -> None:
        """Log how many rows were left out as bad."""
        if self.n_bad:
            self.warn(f"{self.n_bad} bad rows left out (first: {self._first_bad})")

    def may_leave_out(self, n_bad: int) -> bool:
        """Whether so many rows may be left out as bad ones: a tenth at most, or one."""
        return n_bad < self.n_all and n_bad <= max(1, _MOST * self.n_all)

    def _choose(self, chosen: Any) -> Any:
        if chosen.dtype == bool and chosen.all():
            return chosen
        self.rows, self.time = self.rows[chosen], self.time[chosen]
        self.filled, self.no_volume = self.filled[chosen], self.no_volume[chosen]
        self.bad = np.zeros(len(self.rows), dtype=bool)
        return chosen

    def _cuts(self, bad: Mask, at_least: int) -> list[Way]:
        """Return the date bound that leaves the bad rows out, if that many rows stay, and two."""
        if np.isnat(self.time).any():
            return []
        first, last = self.time[bad].min(), self.time[bad].max()
        day = np.timedelta64(1, "D")
        after, before = last.astype("datetime64[D]") + day, first.astype("datetime64[D]")
        least = max(2, at_least)
        if (self.time >= after).sum() >= least:
            return [({"start": str(after)}, "to begin after them")]
        if (self.time < before).sum() >= least:
            return [({"end": str(before)}, "to end before them")]
        return []


def join_pages(pages: Sequence[Page], symbol: str) -> Page:
    """Return the page of one instrument: the only one, or several one after the other."""
    first = pages[0]
    if len(pages) == 1:
        return first
    whole = Page(f"{symbol} ({len(pages)} files)", pd.RangeIndex(0), first.reading)
    whole.rows = np.concatenate([[f"{row} of {page.source}" for row in page.rows] for page in pages])
    whole.time = np.concatenate([page.time for page in pages])
    whole.filled = np.concatenate([page.filled for page in pages])
    whole.inform(f"{len(pages)} files joined: {first.source} to {pages[-1].source}")
    for page in pages:  # what holds for a file as a whole is said once
        file, bracket, symbol = page.source.partition(" (") if page.source.endswith(")") else (page.source, "", "")
        called = f"{Path(file).name}{bracket}{symbol}"
        said = [f"{called}: {note}" if "row " in note else note for note in page.notes]
        whole.notes += [note for note in said if note not in whole.notes]
    return whole
