"""The one terminal that logs, progress bars and tables share, so that they do not write over each other."""

from __future__ import annotations

import logging
import sys
from functools import cache
from multiprocessing import current_process
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> Console:
    """Return the shared console; away from a terminal it is wide, so that tables are not cut."""
    from rich.console import Console

    if _shared() and sys.stdout.isatty():
        return Console(force_interactive=False)
    return Console() if sys.stdout.isatty() else Console(width=180, highlight=False)


def _shared() -> bool:
    """Whether this is one of several runs of a parallel sweep, where live lines would write over each other."""
    return current_process().name.startswith("LokyProcess")


def log_handler() -> logging.Handler:
    """Return the handler for the terminal: rich's on a terminal, plain lines in a pipe or a file."""
    if _shared() or not sys.stdout.isatty():
        plain = logging.StreamHandler(sys.stdout)
        who = f"{current_process().name.removeprefix('Loky')}: " if _shared() else ""
        plain.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s", "%H:%M:%S"))
        return plain
    from rich.logging import RichHandler

    return RichHandler(console=console(), show_path=False, log_time_format="%H:%M:%S", rich_tracebacks=True)


def say(text: str) -> None:
    """Print plain text as it is: paths hold brackets, and commands are to be copied."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)
