"""Arguments of the Python API, checked where they come in: an error names the argument, what it takes and what came."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from moe_trader.option import shown


def check_type(value: Any, kind: type | tuple[type, ...], name: str, expected: str = "") -> None:
    """Refuse a value of another type. :raises TypeError: naming the argument.

    :param expected: in words, with an article; by default the name of the type
    """
    if not isinstance(value, kind):
        expected = expected or f"a {kind.__name__ if isinstance(kind, type) else kind[0].__name__}"
        raise TypeError(f"{name}: expected {expected}, got {shown(value)}, of type {type(value).__name__}")


def whole_number(value: Any, name: str, least: int = 1, most: int = 2**63 - 1) -> int:
    """Return a whole number of some type as an ``int``. :raises ValueError: for anything else, such as 1e5 or True."""
    try:
        found = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except (TypeError, ValueError):
        found = least - 1
    if not least <= found <= most:
        upper = "or more" if most == 2**63 - 1 else f"to {most}"
        raise ValueError(f"{name}: expected a whole number, {least} {upper}, got {shown(value)}")
    return found


def to_path(value: Any, name: str) -> Path:
    """Return a path. :raises TypeError: for what is none."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {shown(value)}, of type {type(value).__name__}")
    return Path(value)
