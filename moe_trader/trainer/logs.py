"""SB3's logger of a run, which can go on where a checkpoint was taken: ``progress.csv`` and TensorBoard's events."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from moe_trader.durable import write_file
from moe_trader.run_files import PROGRESS


class RunLogger(Logger):
    """Writes ``progress.csv`` and TensorBoard's events into a directory.

    :param position: where an earlier logger stood, as :meth:`position` returned it; later rows are removed
    :param step: at which it stood; TensorBoard hides later events
    """

    def __init__(self, directory: Path, position: Mapping[str, Any] | None = None, step: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._csv = _Csv(directory / PROGRESS, position)
        super().__init__(str(directory), [self._csv, _TensorBoard(directory, step if position else None)])
        for name, value, excluded in position["recorded"] if position else ():
            self.record(name, value, exclude=tuple(excluded))

    def position(self) -> dict[str, Any]:
        """Return how many rows are written, their columns, and what is recorded for the next row; syncs the file."""
        self._csv.sync()
        recorded = [[name, _plain(value), self.name_to_excluded[name]] for name, value in self.name_to_value.items()]
        return {"rows": self._csv.rows, "columns": list(self._csv.keys), "recorded": recorded}


class _Csv(CSVOutputFormat):
    """SB3's format; it counts its rows."""

    def __init__(self, path: Path, position: Mapping[str, Any] | None) -> None:
        self.rows = 0
        if position is None:
            super().__init__(str(path))
            return
        self.rows, columns = position["rows"], position["columns"]
        write_file(path, _first_rows(path, self.rows, columns))
        self.file = path.open("r+", encoding="utf-8", newline="\n")
        self.file.seek(0, os.SEEK_END)
        self.keys, self.separator, self.quotechar = list(columns), ",", '"'

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        super().write(key_values, key_excluded, step)
        self.rows += 1

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())


def _first_rows(path: Path, n: int, columns: list[str]) -> str:
    """Return the first rows of a csv file, and of them the first columns: others were added later.

    :raises OSError: when the file is gone
    :raises ValueError: when it has fewer rows
    """
    if not columns:
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if (rows[:1] and rows[0][: len(columns)] != columns) or len(rows) < n + 1:
        raise ValueError(f"{path}: expected {n} rows that begin with the column {columns[0]}; it was altered")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(row[: len(columns)] for row in rows[: n + 1])
    return text.getvalue()


class _TensorBoard(TensorBoardOutputFormat):
    def __init__(self, directory: Path, step: int | None) -> None:
        self.writer = SummaryWriter(log_dir=str(directory), purge_step=None if step is None else step + 1)
        self._is_closed = False


def _plain(value: Any) -> Any:
    """Return a number as JSON holds it."""
    return value.item() if isinstance(value, np.generic) else value
