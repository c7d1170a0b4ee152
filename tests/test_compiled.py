"""Kernels where nothing can be cached, as in a read-only image: they compile in each process, with one line."""

import logging
import re
from pathlib import Path

import numba.core.caching
import pytest

import moe_trader
from moe_trader import compiled


@pytest.fixture
def read_only(monkeypatch, caplog):
    """A machine on which numba finds no folder to cache in."""
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(numba.core.config, "CACHE_LOCATOR_CLASSES", "")
    compiled._warn_once.cache_clear()
    caplog.set_level(logging.INFO, logger="moe_trader")
    return caplog


def test_kernels_compile_without_a_cache_and_one_line_says_so(read_only):
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(lambda x: x)

    @compiled.njit(cache=True)
    def double(x):
        return 2 * x

    @compiled.njit("float64(float64)", cache=True, error_model="numpy")
    def half(x):
        return x / 2

    assert (double(2), half(2.0)) == (4, 1.0)
    (line,) = [one.getMessage() for one in read_only.records]
    assert line.startswith("Compiled kernels cannot be cached: neither the package nor the home folder is writable.")
    assert line.endswith("set NUMBA_CACHE_DIR to a writable folder")


def test_other_failures_of_numba_are_not_hidden(monkeypatch):
    def broken(*signature, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "njit", broken)
    with pytest.raises(RuntimeError, match="something else"):
        compiled.njit(cache=True)(lambda x: x)


def test_every_kernel_goes_through_this_door():
    package = Path(moe_trader.__file__).parent
    for file in package.rglob("*.py"):
        if file.name != "compiled.py":
            assert not re.search(r"from numba import .*\bjit|from numba import .*\bnjit|numba\.n?jit", file.read_text())
