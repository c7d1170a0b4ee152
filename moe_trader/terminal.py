"""The one terminal that logs, progress bars and tables share, so that they do not write over each other."""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> Console:
    """Return the shared console; away from a terminal it is wide, so that tables are not cut."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=180, highlight=False)


def log_handler() -> logging.Handler:
    """Return the handler for the terminal: rich's on a terminal, plain lines in a pipe or a file."""
    if not sys.stdout.isatty():
        plain = logging.StreamHandler(sys.stdout)
        plain.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        return plain
    from rich.logging import RichHandler

    return RichHandler(console=console(), show_path=False, log_time_format="%H:%M:%S", rich_tracebacks=True)


def say(text: str) -> None:
    """Print plain text as it is: paths hold brackets, and commands are to be copied."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)
