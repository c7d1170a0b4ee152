"""Arguments of the Python API, checked where they come in: an error names the argument, what it takes and what came."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from moe_trader.option import shown

MOST = 2**63 - 1  # that PyTorch and NumPy hold


def check_types(**given: tuple[Any, Any]) -> None:
    """Refuse arguments of another type. :raises TypeError: naming the first such argument.

    :param given: name -> value, and its type or a union of types
    """
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            expected = getattr(kind, "__name__", str(kind))
            raise TypeError(f"{name}: expected {expected}, got {shown(value)}, of type {type(value).__name__}")


def whole_number(value: Any, name: str, least: int = 1, most: int = MOST) -> int:
    """Return a whole number of some type as an ``int``. :raises ValueError: for anything else, such as 1e5 or True."""
    try:
        found = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except (TypeError, ValueError):
        found = least - 1
    if not least <= found <= most:
        bounds = f", {least} or more" if most == MOST else f" from {least} to {most}"
        raise ValueError(f"{name}: expected a whole number{bounds}, got {shown(value)}")
    return found


def to_path(value: Any, name: str) -> Path:
    """Return a path. :raises TypeError: for what is none."""
    check_types(**{name: (value, str | os.PathLike)})
    return Path(value)
