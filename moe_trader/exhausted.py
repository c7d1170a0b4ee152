"""Failures of the machine that one line explains: no disk, no permission, a directory that is gone, no memory."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory")


def explained(error: BaseException, directory: Path) -> str | None:
    """Return the setting, the reason and the way out in a line; ``None`` for any other error.

    :param directory: of the run
    """
    text = str(error).lower()
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(one in text for one in _NO_MEMORY)):
        return "out of memory; lower trainer.n_envs, expert.n_steps, expert.batch_size or expert.count"
    is_gone = not directory.is_dir()
    if is_gone and isinstance(error, OSError | RuntimeError | ValueError):
        return f"hydra.run.dir: {directory} was removed while the run was at work; run it again"
    if not isinstance(error, OSError):
        return None
    if error.errno in _FULL:
        return f"hydra.run.dir: no space left on the disk of {directory}; free some"
    if error.errno in _FORBIDDEN:
        return f"hydra.run.dir: {error.filename or directory} cannot be written ({error.strerror}); make it writable"
    return None
