"""A process that trains one seed of several, and the parent's end of it.

The process starts by spawn, takes its :class:`~moe_trader.trainer.run.Run` from the parent, and sends back what it logs
and how it ended. It does not hear Ctrl-C: the parent passes every interrupt on, as one SIGTERM. Where the parent is
killed, the process writes its checkpoint and ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from multiprocessing import get_context, get_start_method, parent_process, set_start_method
from multiprocessing.connection import Connection, wait
from pickle import PicklingError
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch

from moe_trader import interrupt
from moe_trader.exhausted import explained
from moe_trader.finite import TrainingError
from moe_trader.lock import lock_directory
from moe_trader.option import ConfigError
from moe_trader.run_files import LOG
from moe_trader.terminal import SEED_PROCESS, file_handler, log_prefix

if TYPE_CHECKING:
    from moe_trader.trainer.run import Run

# What the process sends: a kind and a value. The last four say how it ended.
READY, LOGGED = "ready", "logged"
DONE, STOPPED, FAILED, MISTAKEN = "done", "stopped", "failed", "mistaken"

ORPHAN_PATIENCE = 30.0  # seconds until a process whose parent was killed ends at the latest
LOCK_PATIENCE = ORPHAN_PATIENCE + 10  # seconds to wait for such a process, which writes its checkpoint

log = logging.getLogger(__name__)


class SeedProcess:
    """The parent's end of a process that carries out a run of one seed.

    :param shown: warnings that were logged already, by seed: of several seeds, one shows it
    """

    def __init__(self, seed: int, run: Run, shown: dict[str, int]) -> None:
        self.seed = seed
        self.ending: tuple[str, str] | None = None
        """How the process ended and why; ``None`` while it is at work."""
        self._run, self._shown, self._is_stopped = run, shown, False
        context = get_context("spawn")
        self.connection, other_end = context.Pipe()
        self._process = context.Process(target=_main, args=(other_end,), name=f"{SEED_PROCESS}{seed}")
        with _ctrl_c_blocked(), _spawning():
            self._process.start()
        other_end.close()  # so that the connection ends with the process

    def receive(self) -> None:
        """Take one message: pass on what was logged, or note how the process ended."""
        try:
            kind, value = self.connection.recv()
            if kind == READY:
                self._send_run()
            elif kind == LOGGED:
                self._pass_on(value)
            else:
                self.ending = kind, value
        except (EOFError, OSError):  # the process ended, and said nothing
            self._process.join()
            reason = _died(self._process.exitcode)
            self.ending = (STOPPED, reason) if self._is_stopped else (FAILED, reason)

    def stop(self) -> None:
        """Ask the process to write its checkpoint and end."""
        self._is_stopped = True
        self._process.terminate()

    def join(self) -> None:
        """Wait for the end of a process that sent its last message."""
        self._process.join(ORPHAN_PATIENCE)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _send_run(self) -> None:
        try:
            self.connection.send(self._run)
        except (PicklingError, TypeError, AttributeError) as error:  # an object of a plugin that cannot be pickled
            self.stop()
            self.ending = (
                MISTAKEN,
                f"seeds: a part of the run cannot be sent to another process ({error}); make it picklable, or train "
                "each seed by itself: moe-train -m seed=0,1",
            )

    def _pass_on(self, record: logging.LogRecord) -> None:
        """Log a record of the process; a warning that another seed showed goes only to the log file."""
        if record.levelno == logging.WARNING and self._shown.setdefault(record.getMessage(), self.seed) != self.seed:
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        with log_prefix(f"seed {self.seed}"):
            logging.getLogger(record.name).handle(record)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Within, a Ctrl-C waits; a process that is started has it blocked for good."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _spawning() -> Iterator[None]:
    """Make spawn the start method, which a process inherits: a worker of joblib's has one that others do not know."""
    before = get_start_method(allow_none=True)
    set_start_method("spawn", force=True)
    try:
        yield
    finally:
        set_start_method(before, force=True)


def _died(status: int | None) -> str:
    if status is None or status >= 0:
        return f"its process ended with exit status {status}"
    reason = "; perhaps memory ran out" if -status == signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(-status).name}{reason}"


# --- in the process ---------------------------------------------------------------------------------------------------


def _main(connection: Connection) -> None:
    """Carry out the run that the parent sends, and say how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = 0
    try:
        interrupt.listen(once=True)
        Thread(target=_end_with_parent, daemon=True).start()
        connection.send((READY, ""))
        run: Run = connection.recv()
        connection.send(_ending(run, connection))
    except KeyboardInterrupt:
        status = 128 + signal.SIGTERM
    except (EOFError, OSError):  # the parent is gone
        status = 1
    except Exception as error:  # the run cannot be read here
        connection.send((FAILED, f"{type(error).__name__}: {error}"))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all files are closed; to take compiled code and torch apart takes seconds


def _end_with_parent() -> None:
    """Wait for the end of the parent, then end this process: after a checkpoint, at once if it was to stop already."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if not interrupt.requested():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_PATIENCE)
    os._exit(128 + signal.SIGTERM)


def _ending(run: Run, connection: Connection) -> tuple[str, str]:
    """Carry out a run; return how it ended and why."""
    torch.set_num_threads(run.settings.threads)
    run.directory.mkdir(parents=True, exist_ok=True)
    _log_to(run, connection)
    try:
        lock = lock_directory(run.directory, f"seed {run.settings.seed}", LOCK_PATIENCE)
        try:
            if not run.is_done():
                run.carry_out()
        finally:
            lock.release()
    except KeyboardInterrupt:
        return STOPPED, "it was interrupted"
    except ConfigError as error:
        return MISTAKEN, str(error)
    except Exception as error:
        if interrupt.requested():  # a signal within a compiled kernel comes out as an error of Python's
            return STOPPED, "it was interrupted"
        log.debug("Failed", exc_info=True)  # for the log file
        return FAILED, _explained(error, run)
    return DONE, ""


def _explained(error: Exception, run: Run) -> str:
    if isinstance(error, TrainingError):
        return str(error)
    line = explained(error, run.directory, "hydra.run.dir")
    return line or f"{type(error).__name__}: {error}; the traceback is in {run.directory / LOG}"


def _log_to(run: Run, connection: Connection) -> None:
    """Log everything to the run's log file, and to the parent."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.getLogger(__package__.partition(".")[0]).setLevel(logging.DEBUG)
    to_parent = _ToParent(connection)  # type: ignore[arg-type]
    to_parent.addFilter(lambda record: record.name != interrupt.__name__)  # the parent logs it for all
    root.handlers = [file_handler(run.directory / LOG), to_parent]


class _ToParent(QueueHandler):
    """Sends records, whose tracebacks are made text; nothing once the parent is gone."""

    queue: Any  # the connection

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record."""
        with suppress(OSError):
            self.queue.send((LOGGED, record))
