"""Ctrl-C and SIGTERM that are not lost: Python swallows an exception that a signal raises inside a finaliser."""

from __future__ import annotations

import signal
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers and containers stop a run: it saves what a Ctrl-C saves."""


_requested: KeyboardInterrupt | None = None


def listen() -> None:
    """Raise :class:`Terminated` at SIGTERM and KeyboardInterrupt at Ctrl-C, and remember either for :func:`check`.

    A Ctrl-C that the process was started to ignore, as in the background of a shell, stays ignored.
    """
    global _requested
    _requested = None
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _raise):
        signal.signal(signal.SIGINT, _raise)


def check() -> None:
    """Raise again what a signal raised, if it went nowhere; called at every step of training."""
    if _requested is not None:
        raise _requested


def _raise(number: int, _: FrameType | None) -> None:
    global _requested
    _requested = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
    raise _requested
