"""The lock on a run directory: one process at a time works in it. It ends with the process, however that ends."""

from __future__ import annotations

import logging
from pathlib import Path

from filelock import FileLock, Timeout

from moe_trader.option import ConfigError
from moe_trader.run_files import CLAIM

AT_WORK = "is claimed by another run, which is at work; wait for it, or choose another directory"

log = logging.getLogger(__name__)


def lock_directory(directory: Path, setting: str, patience: float = 0) -> FileLock:
    """Lock a directory for this process.

    :param setting: what named the directory, for the message
    :param patience: seconds to wait for another process that is at work there; waiting is logged
    :raises ConfigError: when another process is at work there, or the directory cannot be used
    """
    lock = FileLock(directory / CLAIM, timeout=0, thread_local=False)
    try:
        try:
            lock.acquire()
        except Timeout:
            if not patience:
                raise
            log.warning("Waiting up to %d s for another process that is at work in %s", patience, directory)
            lock.acquire(timeout=patience)
    except Timeout:
        raise ConfigError(f"{setting}: {directory} {AT_WORK}") from None
    except OSError as error:
        raise unusable(directory, setting, error) from None
    return lock


def is_locked(directory: Path) -> bool:
    """Whether a process is at work in a directory that was claimed."""
    lock = FileLock(directory / CLAIM, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a directory that cannot be written is refused in other words
        return False
    lock.release()
    return False


def unusable(directory: Path, setting: str, error: Exception) -> ConfigError:
    """Return the error for a directory that cannot be used."""
    reason = "not a directory" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or error
    return ConfigError(f"{setting}: {directory} cannot be used ({reason}); choose another directory")
