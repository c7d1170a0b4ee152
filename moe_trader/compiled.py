"""The one door to numba: kernels compile when they are first called, and are cached on disk where that is possible."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba

log = logging.getLogger(__name__)


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Like ``numba.njit(...)``, for kernels of types that their first call shows; importing compiles nothing.

    Two things are different with ``cache``. Numba raises while a module is imported if neither the package's folder nor
    the user's cache folder is writable; here the kernel is then not cached. And Numba looks only at a kernel's own
    source file to tell whether what it cached is outdated, not at those of the kernels that it calls; here that is any
    file of the folder.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        kernel = cast("Any", numba).njit(**options)(function)
        if cache:
            try:
                kernel.enable_caching()
            except RuntimeError as error:
                if "no locator available" not in str(error):
                    raise
                _warn_once()
            else:
                folder = Path(function.__code__.co_filename).parent
                kernel._cache._cache_file._source_stamp = _contents(folder)
                kernel._cache.save_overload = _or_warn(kernel._cache.save_overload)
        return kernel

    return compiled


def _or_warn(save: Callable[..., None]) -> Callable[..., None]:
    """Return a function that caches a kernel, or logs that the disk does not let it: the kernel is in memory."""

    def save_or_warn(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError as error:
            _warn_once(error.strerror)

    return save_or_warn


@functools.cache
def _contents(folder: Path) -> str:
    """Return a hash of the Python files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@functools.cache
def _warn_once(reason: str = "neither the package nor the home folder is writable") -> None:
    log.warning(
        "Compiled kernels cannot be cached: %s. Each command compiles them again (about 15 to 40 s). To cache them, "
        "set NUMBA_CACHE_DIR to a writable folder",
        reason,
    )
