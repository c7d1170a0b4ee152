"""Failures of the machine that one line explains: no disk, no permission, a directory that is gone, no memory."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK = (errno.EROFS, errno.EIO)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
_NO_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory", "bad_alloc", "can't start new thread")


def explained(error: BaseException, directory: Path, setting: str) -> str | None:
    """Return the setting, the reason and the way out in a line; ``None`` for any other error.

    :param directory: that the command writes into
    :param setting: what named the directory
    """
    text = str(error).lower()
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(one in text for one in _NO_MEMORY)):
        return (
            "out of memory; free some, or train again with a lower trainer.n_envs, expert.n_steps, expert.batch_size "
            "or expert.count"
        )
    if not directory.is_dir() and isinstance(error, OSError | RuntimeError | ValueError):
        return f"{setting}: {directory} was removed during the run; run the command again"
    if not isinstance(error, OSError):
        return None
    file = Path(str(error.filename or directory))
    is_own = directory.absolute() in (file.absolute(), *file.absolute().parents)
    if error.errno in _FULL:
        return f"{setting + ': ' if is_own else ''}no space left for {file} ({error.strerror}); free some"
    if not is_own or (error.filename is None and error.errno not in _DISK):
        return None
    if error.errno in _GONE:
        while not file.parent.is_dir():
            file = file.parent
        return f"{setting}: {file} is missing; it was removed during the run"
    return f"{setting}: {file} cannot be used ({error.strerror}); make {directory} readable and writable"
