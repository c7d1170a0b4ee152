"""Every tower of every expert, forward and backward: compiled for a CPU.

Arrays are of float32. ``weights`` are laid out as in :class:`~moe_trader.mixture.stacked.StackedBank`. ``widths`` are
those of a tower's layers: inputs, hidden layers. Towers come in pairs, each expert's actor before its critic.
``hidden`` has a row for each unit, layer by layer, a column for each state, and unused columns at the right
(:func:`~moe_trader.fast.product.padded_columns`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moe_trader.compiled import njit
from moe_trader.fast.activation import activate, activate_back
from moe_trader.fast.product import multiply, transpose

Array = np.ndarray[Any, Any]


@njit(cache=True, nogil=True, error_model="numpy")
def _matrix(vector: Array, at: int, rows: int, columns: int) -> Array:
    return vector[at : at + rows * columns].reshape(rows, columns)


@njit(cache=True, nogil=True, error_model="numpy")
def _run_hidden(
    kind: int, weights: Array, widths: Array, n_towers: int, each: int, observations: Array, hidden: Array
) -> int:
    """Write the hidden layers, and return where in ``weights`` the heads begin.

    :param each: 1: of all towers; 2: of the actors
    :param observations: shape ``(batch, n_inputs)``
    """
    n = len(observations)
    hidden[:, n:] = 0  # whatever numbers they are later multiplied with zeros: none may be NaN
    inputs = np.empty((widths[0], hidden.shape[1]), np.float32)
    transpose(observations, inputs[:, :n])
    at, row = 0, 0
    for layer in range(1, len(widths)):
        wide, deep = widths[layer], widths[layer - 1]
        bias = at + n_towers * wide * deep
        units, below = hidden[row : row + n_towers * wide], inputs
        if layer == 1 and each == 1:
            multiply(_matrix(weights, at, n_towers * wide, deep), inputs[:, :n], units[:, :n], False)
            activate(kind, units, weights[bias : bias + n_towers * wide])
        else:
            for tower in range(0, n_towers, each):
                if layer > 1:
                    start = row - (n_towers - tower) * deep
                    below = hidden[start : start + deep]
                weight = _matrix(weights, at + tower * wide * deep, wide, deep)
                made = units[tower * wide : (tower + 1) * wide]
                multiply(weight, below[:, :n], made[:, :n], False)
                activate(kind, made, weights[bias + tower * wide : bias + (tower + 1) * wide])
        at, row = bias + n_towers * wide, row + n_towers * wide
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _run_head(weights: Array, at: int, first: int, last: Array, outputs: Array) -> int:
    """Write the outputs of one head of every expert, and return where the next one begins.

    :param first: 0: the actors' head; 1: the critics'
    :param last: last hidden layer, ``n_towers * width`` rows of ``hidden``
    :param outputs: shape ``(K, n_outputs, batch)``
    """
    n_experts, n_outputs, n = outputs.shape
    width = len(last) // (2 * n_experts)
    bias = at + n_experts * n_outputs * width
    for k in range(n_experts):
        for output in range(n_outputs):
            outputs[k, output, :] = weights[bias + k * n_outputs + output]
        tower = last[(2 * k + first) * width : (2 * k + first + 1) * width]
        multiply(_matrix(weights, at + k * n_outputs * width, n_outputs, width), tower[:, :n], outputs[k], True)
    return bias + n_experts * n_outputs


@njit(cache=True, nogil=True, error_model="numpy")
def run(
    kind: int, weights: Array, widths: Array, observations: Array, hidden: Array, scores: Array, values: Array
) -> None:
    """Write hidden layers, scores ``(K, n_actions, batch)`` and values ``(K, 1, batch)``."""
    n_towers = 2 * len(scores)
    at = _run_hidden(kind, weights, widths, n_towers, 1, observations, hidden)
    last = hidden[len(hidden) - n_towers * widths[-1] :]
    at = _run_head(weights, at, 0, last, scores)
    _run_head(weights, at, 1, last, values)


@njit(cache=True, nogil=True, error_model="numpy")
def act(kind: int, weights: Array, widths: Array, observations: Array, hidden: Array, scores: Array) -> None:
    """Write the scores that :func:`run` writes, to the last bit, without a critic."""
    n_towers = 2 * len(scores)
    at = _run_hidden(kind, weights, widths, n_towers, 2, observations, hidden)
    _run_head(weights, at, 0, hidden[len(hidden) - n_towers * widths[-1] :], scores)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})  # else it would add one by one
def _dot(a: Array, b: Array) -> np.float32:
    total = np.float32(0)
    for at in range(len(a)):
        total += a[at] * b[at]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _run_head_back(
    weights: Array, at: int, first: int, last: Array, d_outputs: Array, d_last: Array, gradient: Array
) -> int:
    """Write the gradient of one head of every expert and of the towers below it; return where the next head begins."""
    n_experts, n_outputs, n = d_outputs.shape
    width = len(last) // (2 * n_experts)
    bias = at + n_experts * n_outputs * width
    for k in range(n_experts):
        units = slice((2 * k + first) * width, (2 * k + first + 1) * width)
        start = at + k * n_outputs * width
        for output in range(n_outputs):
            d_output = d_outputs[k, output]
            gradient[bias + k * n_outputs + output] = d_output.sum()
            for unit in range(width):
                gradient[start + output * width + unit] = _dot(d_output, last[units][unit])
        multiply(_matrix(weights, start, n_outputs, width).T, d_outputs[k], d_last[units][:, :n], False)
    return bias + n_experts * n_outputs


@njit(cache=True, nogil=True, error_model="numpy")
def run_back(
    kind: int,
    weights: Array,
    widths: Array,
    observations: Array,
    hidden: Array,
    d_scores: Array,
    d_values: Array,
    gradient: Array,
) -> None:
    """Write the gradient of the weights from those of scores and values, as :func:`run` gave them."""
    n, n_towers, n_layers = len(observations), 2 * len(d_scores), len(widths) - 1
    at = 0
    for layer in range(1, n_layers + 1):
        at += n_towers * widths[layer] * (widths[layer - 1] + 1)
    row = len(hidden) - n_towers * widths[-1]
    d = np.empty((n_towers * widths[-1], hidden.shape[1]), np.float32)
    d[:, n:] = 0
    following = _run_head_back(weights, at, 0, hidden[row:], d_scores, d, gradient)
    _run_head_back(weights, following, 1, hidden[row:], d_values, d, gradient)
    for layer in range(n_layers, 0, -1):
        wide, deep = widths[layer], widths[layer - 1]
        bias = at - n_towers * wide
        at = bias - n_towers * wide * deep
        activate_back(kind, d, hidden[row : row + n_towers * wide], gradient[bias : bias + n_towers * wide])
        if layer == 1:
            multiply(d[:, :n], observations, _matrix(gradient, at, n_towers * wide, deep), False)
            return
        row -= n_towers * deep
        below, d_below = np.empty((n, deep), np.float32), np.empty((n_towers * deep, hidden.shape[1]), np.float32)
        d_below[:, n:] = 0
        for tower in range(n_towers):
            units, under = slice(tower * wide, (tower + 1) * wide), slice(tower * deep, (tower + 1) * deep)
            start = at + tower * wide * deep
            transpose(hidden[row : row + n_towers * deep][under][:, :n], below)
            multiply(d[units][:, :n], below, _matrix(gradient, start, wide, deep), False)
            multiply(_matrix(weights, start, wide, deep).T, d[units][:, :n], d_below[under][:, :n], False)
        d = d_below


def are_compiled() -> bool:
    """Whether an earlier run left compiled code for this one; otherwise the first minibatch waits for it."""
    where = run.stats.cache_path
    return where is not None and any(Path(where).glob("towers.run-*.nbi"))
