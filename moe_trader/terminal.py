"""The one terminal that logs, progress bars and tables share, so that they do not write over each other."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
"""The format of log files."""
SEED_PROCESS = "seed "
"""How the names of processes begin that train one seed of several."""


@cache
def console() -> Console:
    """Return the shared console; away from a terminal it is wide, so that tables are not cut."""
    from rich.console import Console

    if _shared() and sys.stdout.isatty():
        return Console(force_interactive=False)
    return Console() if sys.stdout.isatty() else Console(width=180, highlight=False)


def _shared() -> bool:
    """Whether this is one of several runs at once, where live lines would write over each other."""
    return in_parallel_sweep() or current_process().name.startswith(SEED_PROCESS)


def in_parallel_sweep() -> bool:
    """Whether this process carries out jobs of a parallel sweep."""
    return current_process().name.startswith("LokyProcess")


def log_handler() -> logging.Handler:
    """Return the handler for the terminal: rich's on a terminal, plain lines in a pipe or a file."""
    if _shared() or not sys.stdout.isatty():
        plain = _Terminal(sys.stdout)
        who = f"{current_process().name.removeprefix('Loky')}: " if in_parallel_sweep() else ""
        plain.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s", "%H:%M:%S"))
        return plain
    from rich.logging import RichHandler

    return RichHandler(console=console(), show_path=False, log_time_format="%H:%M:%S", rich_tracebacks=True)


class _Quiet(logging.Handler):
    """Logs on where a line cannot be written: the first failure is a line on stderr, not a traceback for each."""

    _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # a file that cannot be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            place = getattr(self, "baseFilename", "standard output")
            with suppress(OSError):
                print(f"{place}: cannot be written ({error.strerror}); the log is incomplete there", file=sys.stderr)


class _Terminal(_Quiet, logging.StreamHandler):
    pass


class LogFile(_Quiet, logging.FileHandler):
    """The log file of a run."""


def file_handler(path: str | Path) -> logging.Handler:
    """Return the handler for a run's log file, which the first line opens."""
    handler = LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(LINE))
    return handler


@contextmanager
def log_prefix(text: str) -> Iterator[None]:
    """Put a text before every line that is logged."""
    token = _PREFIX.set(text)
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(_prefixed)  # once, however often it is asked
    try:
        yield
    finally:
        _PREFIX.reset(token)


_PREFIX: ContextVar[str] = ContextVar("prefix", default="")


def current_prefix() -> str:
    """Return the text of :func:`log_prefix`; empty if there is none."""
    return _PREFIX.get()


def _prefixed(record: logging.LogRecord) -> bool:
    if _PREFIX.get() and not hasattr(record, "prefix"):
        record.prefix, record.msg = _PREFIX.get(), f"{_PREFIX.get()}: {record.msg}"
    return True


def say(text: str) -> None:
    """Print plain text as it is: paths hold brackets, and commands are to be copied."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)
