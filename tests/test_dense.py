"""Compiled products, transposes, activations and elementary functions against NumPy's in double precision."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from moe_trader.fast.activation import RELU, TANH, activate, activate_back
from moe_trader.fast.elementary import exp32, log32
from moe_trader.fast.product import DEPTH, PACKED_ROWS, multiply, transpose
from moe_trader.fast.tiles import LANES, ROWS, VECTORS

WIDTH = VECTORS * LANES
# one row and column, less and more than a tile in either direction, and exactly one
SHAPES = [(1, 1, 1), (ROWS - 1, 5, LANES - 1), (ROWS, 3, WIDTH), (2 * ROWS + 1, 17, WIDTH + LANES + 3), (3, 0, 4)]
SHAPES.append((PACKED_ROWS + 1, DEPTH + 9, 2 * WIDTH + 3))  # copied panels, two of them deep


def draw(*shape):
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


@pytest.mark.parametrize(("m", "depth", "n"), SHAPES)
def test_a_product_is_the_product(m, depth, n):
    a, b, before = draw(m, depth), draw(depth, n), draw(m, n)
    expected = a.astype(float) @ b.astype(float)
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):  # of any strides
        for add in (False, True):
            found = before.copy()
            multiply(left, b, found, add)
            rounding = 2e-5 * max(1, depth / 100)  # of so many terms, added up one after the other
            np.testing.assert_allclose(found, expected + add * before, rtol=0, atol=rounding)


def test_a_product_leaves_what_stands_beside_it():
    right, around = draw(5, WIDTH + 9), np.full((ROWS + 4, WIDTH + 9), 7, np.float32)
    multiply(draw(ROWS + 2, 5), right[:, 3:-3], around[1:-1, 3:-3], False)
    assert (around[[0, -1]] == 7).all()
    assert (around[:, [0, 1, 2, -3, -2, -1]] == 7).all()
    assert (around[1:-1, 3:-3] != 7).all()


def test_a_state_gives_the_same_bits_whatever_stands_beside_it():
    weight, states = draw(2 * ROWS + 1, 40), draw(40, 3 * WIDTH + LANES + 5)
    together = np.empty((len(weight), states.shape[1]), np.float32)
    multiply(weight, states, together, False)
    for at in range(states.shape[1]):
        alone = np.empty((len(weight), 1), np.float32)
        multiply(weight, states[:, at : at + 1], alone, False)
        np.testing.assert_array_equal(alone[:, 0], together[:, at])


def test_no_number_is_lost_in_a_product():
    a, b, found = draw(ROWS, 4), draw(4, WIDTH), np.empty((ROWS, WIDTH), np.float32)
    a[2, 1], b[0, 7] = np.nan, np.inf
    multiply(a, b, found, False)
    assert np.isnan(found[2]).all()
    assert not np.isfinite(found[:, 7]).any()


@pytest.mark.parametrize("shape", [(1, 1), (LANES, LANES), (LANES - 1, 3 * LANES), (2 * LANES + 3, LANES + 5)])
def test_a_transpose_is_the_transpose(shape):
    a = draw(shape[0], shape[1] + 2)[:, 1:-1]
    found = np.empty(shape[::-1], np.float32)
    transpose(a, found)
    np.testing.assert_array_equal(found, a.T)


@pytest.mark.parametrize(
    ("name", "features"), [("haswell", "+avx,+avx2,+fma"), ("nehalem", "+sse4.2")], ids=["AVX2", "no vectors but SSE's"]
)
@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="names an x86 processor")
def test_a_lesser_processor_gets_the_same_product(name, features):
    this = "test_a_product_is_the_product or test_a_transpose_is_the_transpose or test_a_product_leaves"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", "-k", this, __file__],
        env={**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(("kind", "true"), [(TANH, np.tanh), (RELU, lambda x: np.maximum(x, 0))], ids=["tanh", "relu"])
def test_an_activation_is_what_it_is_called(kind, true):
    x = np.linspace(-20, 20, 40_001, dtype=np.float32).reshape(1, -1)
    x[0, :3] = np.nan, np.inf, -np.inf
    found = x.copy()
    activate(kind, found, np.array([0.25], np.float32))
    np.testing.assert_allclose(found, true(x.astype(float) + 0.25), rtol=1e-7, atol=4e-7)


SLOPES = {TANH: lambda y: 1 - y * y, RELU: lambda y: y > 0}


@pytest.mark.parametrize(("kind", "slope"), SLOPES.items(), ids=["tanh", "relu"])
def test_an_activations_gradient_and_its_biass(kind, slope):
    layer, d = np.tanh(draw(3, 70)), draw(3, 71)[:, 1:].copy()
    expected, d_bias = d * slope(layer.astype(float)), np.empty(3, np.float32)
    activate_back(kind, d, layer, d_bias)
    np.testing.assert_allclose(d, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(d_bias, expected.sum(1), rtol=0, atol=1e-5)


@njit
def _each(function, x):
    found = np.empty_like(x)
    for at in range(len(x)):
        found[at] = function(x[at])
    return found


def test_exp_and_log_are_right_to_the_last_digits():
    x = np.linspace(-87.3, 88.3, 100_003).astype(np.float32)
    found = _each(njit(lambda x: exp32(x)), x)
    np.testing.assert_allclose(found, np.exp(x.astype(float)), rtol=2e-7)
    np.testing.assert_allclose(
        _each(njit(lambda x: log32(x)), found), np.log(found.astype(float)), rtol=2e-7, atol=1e-7
    )


def test_exp_stops_where_a_float_does_and_keeps_what_is_no_number():
    x = np.array([-1e9, -np.inf, 1e9, np.nan], np.float32)
    least, also, most, none = _each(njit(lambda x: exp32(x)), x)
    assert 1e-38 < least == also < 2e-38
    assert 2e38 < most < np.inf
    assert np.isnan(none)
    assert np.isnan(_each(njit(lambda x: log32(x)), x[-1:])[0])
