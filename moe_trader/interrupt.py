"""Ctrl-C and SIGTERM: training ends where it can go on from, everything else ends at once.

A signal raises KeyboardInterrupt (:class:`Terminated` for SIGTERM). Within :func:`deferred` it is only remembered, so
that training reaches the end of its update and writes a checkpoint; after :data:`GRACE` seconds it is raised wherever
the work stands. A second Ctrl-C ends the process at once. Python swallows an exception that a signal raises inside a
finaliser: :func:`check` raises it again.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 3.0  # seconds

log = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers and containers stop a run: it saves what a Ctrl-C saves."""


at_signal: list[Callable[[], None]] = []
"""Called at the first signal, before it is raised: what a process does about those that it started."""
_requested: KeyboardInterrupt | None = None
_is_deferred = False
_ignores_more = False


def listen(once: bool = False) -> None:
    """Raise :class:`Terminated` at SIGTERM and KeyboardInterrupt at Ctrl-C, and remember either for :func:`check`.

    A Ctrl-C that the process was started to ignore, as in the background of a shell, stays ignored.

    :param once: whether to ignore every SIGTERM after the first, which a parent and a scheduler may both send
    """
    global _requested, _ignores_more
    _requested, _ignores_more = None, once
    signal.signal(signal.SIGTERM, _signalled)
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _signalled):
        signal.signal(signal.SIGINT, _signalled)


def listen_in_job() -> None:
    """Listen in a process that runs jobs of a sweep one after the other; raise again what came during the last one."""
    if signal.getsignal(signal.SIGTERM) is _signalled:
        check()
    elif threading.current_thread() is threading.main_thread():
        listen()


@contextmanager
def deferred() -> Iterator[None]:
    """Within, a signal is raised by :func:`check`, or after :data:`GRACE` seconds."""
    global _is_deferred
    _is_deferred = True
    try:
        yield
    finally:
        _is_deferred = False
        if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _grace_is_over:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def exiting() -> Iterator[None]:
    """Exit with the status that shells have for a signal, where one interrupts what is done within."""
    try:
        yield
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def requested() -> bool:
    """Whether a signal came."""
    return _requested is not None


def check() -> None:
    """Raise what a signal asked for, if it was deferred or went nowhere."""
    if _requested is not None:
        raise _requested


def check_late() -> None:
    """As :func:`check`, but not while a signal is deferred."""
    if not _is_deferred:
        check()


def _signalled(number: int, _: FrameType | None) -> None:
    global _requested
    is_first = _requested is None
    if _ignores_more and not is_first:
        return
    _requested = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
    if signal.getsignal(signal.SIGINT) is _signalled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next one ends the process
    if is_first:
        for act in at_signal:
            act()
    if not _is_deferred:
        raise _requested
    if is_first:
        log.warning("Interrupted: ending this update and writing a checkpoint (Ctrl-C again to stop at once)")
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, _grace_is_over)
            signal.setitimer(signal.ITIMER_REAL, GRACE)


def _grace_is_over(_: int, __: FrameType | None) -> None:
    global _is_deferred
    _is_deferred = False
    check()
