"""The one door to numba: kernels are cached on disk where that is possible, and compiled in each process elsewhere."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, cast

import numba

log = logging.getLogger(__name__)


def njit(*signature: Any, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Like ``numba.njit(...)``, but a cache that cannot be written is done without.

    Numba raises while a module is imported if neither the package's folder nor the user's cache folder is writable.
    """
    jit = cast("Any", numba).njit

    def compiled(function: Callable[..., Any]) -> Any:
        if cache:
            try:
                return jit(*signature, cache=True, **options)(function)
            except RuntimeError as error:
                if "no locator available" not in str(error):
                    raise
                _warn_once()
        return jit(*signature, **options)(function)

    return compiled


@functools.cache
def _warn_once() -> None:
    log.warning(
        "Compiled kernels cannot be cached: neither the package nor the home folder is writable. Each command compiles "
        "them again (about 15 to 40 s). To cache them, set NUMBA_CACHE_DIR to a writable folder"
    )
