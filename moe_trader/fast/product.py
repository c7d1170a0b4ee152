"""Matrix products and transposes for compiled code; they check nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_trader.compiled import njit
from moe_trader.fast.tiles import (
    LANES,
    ROWS,
    VECTORS,
    full_row,
    full_tile,
    narrow_row,
    narrow_tile,
    transposed_square,
)

Array = np.ndarray[Any, Any]

_WIDTH = VECTORS * LANES
DEPTH = 512  # rows of ``b`` in a panel that stays in a fast cache
PACKED_ROWS = 128  # from so many rows of the result on it pays to copy a panel so that its rows lie together


def padded_columns(n_columns: int) -> int:
    """Return how many columns to give a matrix of so many: a few more where they are a multiple of a power of two.

    Rows that begin a large power of two apart share the same few lines of a cache, and push each other out.
    """
    vectors = -(-n_columns // LANES)
    return LANES * (vectors + (vectors % LANES == 0))


@njit(cache=True, nogil=True, error_model="numpy")
def multiply(a: Array, b: Array, c: Array, add: bool) -> None:
    """Write ``a @ b`` to ``c``, or add it; numbers of a row of ``b`` and of ``c`` must stand side by side.

    Every number of ``c`` is added up over the depth in order: it depends only on its row of ``a`` and its column of
    ``b``, not on where in the matrix they stand.
    """
    _multiply(a[::1, ::1], b[::1, ::1], c[::1, ::1], add)  # of any strides: compiled once for all


@njit(cache=True, nogil=True, error_model="numpy")
def _multiply(a: Array, b: Array, c: Array, add: bool) -> None:
    m, n = c.shape
    depth = len(b)
    is_packed = m >= PACKED_ROWS and n > _WIDTH
    packed = np.empty((DEPTH if is_packed else 0, _WIDTH), np.float32)[::1, ::1]
    column = 0
    while column < n:
        if n - column >= _WIDTH:
            result = c[::1, column : column + _WIDTH : 1]
            start = 0
            while is_packed and start < depth:
                end = min(start + DEPTH, depth)
                for at in range(start, end):
                    for lane in range(_WIDTH):
                        packed[at - start, lane] = b[at, column + lane]
                _multiply_panel(a[::1, start:end:1], packed[: end - start : 1], result, add or start > 0)
                start = end
            if not is_packed:
                _multiply_panel(a, b[::1, column : column + _WIDTH : 1], result, add)
            column += _WIDTH
        else:
            row, width = 0, min(LANES, n - column)
            while m - row >= ROWS:
                narrow_tile(a, b, c, row, column, width, add)
                row += ROWS
            while row < m:
                narrow_row(a, b, c, row, column, width, add)
                row += 1
            column += width


@njit(cache=True, nogil=True, error_model="numpy")
def _multiply_panel(a: Array, b: Array, c: Array, add: bool) -> None:
    """Multiply into a panel, as many columns as a tile has."""
    m, row = len(c), 0
    while m - row >= ROWS:
        full_tile(a, b, c, row, 0, 0, add)
        row += ROWS
    while row < m:
        full_row(a, b, c, row, 0, 0, add)
        row += 1


@njit(cache=True, nogil=True, error_model="numpy")
def transpose(a: Array, c: Array) -> None:
    """Write the transpose of ``a`` to ``c``; numbers of a row of either must stand side by side."""
    _transpose(a[::1, ::1], c[::1, ::1])


@njit(cache=True, nogil=True, error_model="numpy")
def _transpose(a: Array, c: Array) -> None:
    m, n = a.shape
    squares, across = m - m % LANES, n - n % LANES
    for column in range(0, across, LANES):
        for row in range(0, squares, LANES):
            transposed_square(a, c, row, column)
    for row in range(m):
        for column in range(across if row < squares else 0, n):
            c[column, row] = a[row, column]
