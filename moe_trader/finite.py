"""Finite numbers: nothing acts on, or learns from, a number that is missing or infinite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT32 = np.dtype(np.float32)
MOST_NAMED = 8  # columns in a message


class TrainingError(ValueError):
    """Training met a number that is not finite. The agent keeps the last weights whose outputs were finite."""


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers as float32; those beyond its range become infinite, without a warning."""
    if array.dtype == FLOAT32:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def checked_observations(given: Any, size: int, names: Sequence[str] = ()) -> NDArray[np.float32]:
    """Return observations as writeable float32, shape ``(n, size)``, or ``(size,)`` for one of that shape.

    :param given: an array, a CPU tensor or a sequence of numbers; a masked number counts as missing
    :param names: of the first columns, as far as they are known
    :raises ValueError: for another shape, another type than real numbers, or numbers that are not finite in float32;
        the message names the columns and the first row
    """
    is_ready = type(given) is np.ndarray and given.dtype == FLOAT32 and given.flags.writeable
    # Evaluation asks at every bar: where the sum of squares is finite, so is every number, found in one quick pass.
    if is_ready and given.ndim in (1, 2) and given.shape[-1] == size and math.isfinite(np.vdot(given, given)):
        ready: NDArray[np.float32] = given
        return ready
    if not isinstance(given, np.ndarray):
        given = _array(given)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"observations: expected real numbers, got dtype {given.dtype}")
    if isinstance(given, np.ma.MaskedArray):
        given = np.where(np.ma.getmaskarray(given), np.nan, given.data)
    if given.ndim not in (1, 2) or given.shape[-1] != size:
        raise ValueError(f"observations: expected shape (n, {size}), got {given.shape}")
    found = as_float32(given)
    if not np.isfinite(found).all():
        rows, columns = np.nonzero(~np.isfinite(np.atleast_2d(found)))
        raise ValueError(
            f"observations: expected finite numbers, got {np.atleast_2d(found)[rows[0], columns[0]]} in row {rows[0]}; "
            f"not finite: {named_columns(np.unique(columns).tolist(), names)}"
        )
    return found if found.flags.writeable else found.copy()


def named_columns(columns: Sequence[int], names: Sequence[str]) -> str:
    """Return columns as text: ``columns 3 (trend_21), 70``."""
    shown = [f"{one} ({names[one]})" if one < len(names) else str(one) for one in columns[:MOST_NAMED]]
    more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(shown)}{more}"


def _array(given: Any) -> NDArray[Any]:
    if isinstance(given, dict):
        raise ValueError("observations: expected an array of numbers, got a dict")
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict):
        raise ValueError("observations: got (observation, info), as env.reset() returns it; give the observation only")
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged rows, a tensor with a gradient or on a GPU
        raise ValueError(f"observations: expected an array of numbers, got {type(given).__name__} ({error})") from None
