"""SB3's logger of a run, which can go on where a checkpoint was taken: ``progress.csv`` and TensorBoard's events."""

from __future__ import annotations

import csv
import io
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat, filter_excluded_keys
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from moe_trader.durable import write_file
from moe_trader.run_files import PROGRESS

_FILE_VERSION = "brain.Event:2"

log = logging.getLogger(__name__)


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

    def close(self) -> None:
        """Close both files; every row was flushed when it was written, so that no failure is news."""
        for one in self.output_formats:
            with suppress(OSError):
                one.close()


class _Csv(CSVOutputFormat):
    """SB3's format; it counts its rows, and whenever it is killed, the rows before are whole."""

    def __init__(self, path: Path, position: Mapping[str, Any] | None) -> None:
        self._path = path
        self.separator, self.quotechar = ",", '"'
        columns = list(position["columns"]) if position else []
        self._rewrite(columns, _first_rows(path, position["rows"], columns) if position else [])

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        shown = filter_excluded_keys(key_values, key_excluded, "csv")
        if new := [key for key in shown if key not in self.keys]:
            columns = self.keys  # SB3 writes a longer header over the file, which a kill leaves in pieces
            self.file.close()
            rows = _first_rows(self._path, self.rows, columns)
            self._rewrite([*columns, *new], [row + [""] * len(new) for row in rows])
        super().write(key_values, key_excluded, step)
        self.rows += 1

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def _rewrite(self, columns: list[str], rows: list[list[str]]) -> None:
        """Write the file in one piece, and open it to add rows."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows] if columns else [])
        write_file(self._path, text.getvalue())
        self.file = self._path.open("r+", encoding="utf-8", newline="\n")
        self.file.seek(0, os.SEEK_END)
        self.keys, self.rows = columns, len(rows)


def _first_rows(path: Path, n: int, columns: list[str]) -> list[list[str]]:
    """Return the first rows of a csv file, and of them the first columns: others were added later.

    Training does not depend on these rows. Where they were altered or deleted, that is logged; those that are left are
    returned, and a file with other columns is kept under another name.
    """
    if not columns:
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except FileNotFoundError:
        log.warning("%s was deleted: its %d rows are lost, the rows of later updates go on", path, n)
        return []
    except (ValueError, csv.Error):  # empty, or not text
        header, rows = [], []
    if header[: len(columns)] != columns:
        kept = path.with_name(f"{path.stem}.altered{path.suffix}")
        path.replace(kept)
        log.warning(
            "%s was altered: its columns are not those of the run; it is kept as %s, and begun again", path, kept
        )
        return []
    if len(rows) < n:
        log.warning("%s was altered: it has %d of %d rows; the rows of later updates go on", path, len(rows), n)
    width = len(columns)
    return [(row + [""] * width)[:width] for row in rows[:n]]


class _TensorBoard(TensorBoardOutputFormat):
    def __init__(self, directory: Path, step: int | None) -> None:
        self.writer = _Events(log_dir=str(directory), purge_step=None if step is None else step + 1)
        self._is_closed = False


class _Events(SummaryWriter):
    """Writes each event at once: TensorBoard's thread prints a traceback where it cannot write."""

    file_writer: FileWriter | None  # type: ignore[assignment]
    all_writers: dict[str, FileWriter] | None  # type: ignore[assignment]

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is not None:
            return self.file_writer
        made: FileWriter = _EventWriter(self.log_dir)
        self.file_writer, self.all_writers = made, {self.log_dir: made}
        if (step := self.purge_step) is not None:
            made.add_event(Event(step=step, file_version=_FILE_VERSION))
            made.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
            self.purge_step = None
        return made

    def close(self) -> None:
        for writer in (self.all_writers or {}).values():
            writer.close()
        self.file_writer = self.all_writers = None


class _EventWriter(FileWriter):
    def __init__(self, directory: str) -> None:
        self.event_writer = _EventFile(Path(directory))


class _EventFile:
    """What PyTorch's ``FileWriter`` needs of TensorBoard's ``EventFileWriter``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        place = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._file = (directory / f"events.out.tfevents.{place}").open("xb")
        self._records = RecordWriter(self._file)
        self.add_event(Event(wall_time=time.time(), file_version=_FILE_VERSION))

    def get_logdir(self) -> str:
        return str(self._directory)

    def add_event(self, event: Event) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    """Return a number as JSON holds it."""
    return value.item() if isinstance(value, np.generic) else value
