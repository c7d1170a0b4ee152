"""Kernels where nothing can be cached, as in a read-only image: they compile in each process, with one line."""

import logging
import os
import re
import subprocess
import sys
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

    @compiled.njit(cache=True, error_model="numpy")
    def half(x):
        return x / 2

    assert (double(2), half(2.0)) == (4, 1.0)
    (line,) = [one.getMessage() for one in read_only.records]
    assert line.startswith("Compiled kernels cannot be cached: neither the package nor the home folder is writable.")
    assert line.endswith("set NUMBA_CACHE_DIR to a writable folder")


def test_a_kernel_that_cannot_be_written_to_the_cache_is_used_all_the_same(caplog, monkeypatch):
    """The disk is full: that is no reason for a run to end."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    compiled._warn_once.cache_clear()
    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)

    @compiled.njit(cache=True)
    def thrice(x):
        return 3 * x

    assert thrice(2) == 6
    assert thrice(2.0) == 6.0
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith("Compiled kernels cannot be cached: No space left on device. Each command compiles them")


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


def test_a_kernel_is_compiled_again_when_one_that_it_calls_has_changed(tmp_path):
    folder = tmp_path / "kernels"
    folder.mkdir()
    inner = "from moe_trader.compiled import njit\n@njit(cache=True)\ndef inner(x):\n    return x + {}\n"
    outer = "from kernels.inner import inner\nfrom moe_trader.compiled import njit\n"
    outer += "@njit(cache=True)\ndef outer(x):\n    return 10 * inner(x)\n"
    (folder / "__init__.py").touch()
    (folder / "outer.py").write_text(outer)
    code = "from kernels.outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    def outcome():
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    (folder / "inner.py").write_text(inner.format(1))
    assert [outcome(), outcome()] == [["20", "0"], ["20", "1"]]
    (folder / "inner.py").write_text(inner.format(2))
    assert [outcome(), outcome()] == [["30", "0"], ["30", "1"]]


def test_importing_compiles_nothing(tmp_path):
    code = "import moe_trader.fast.update, moe_trader.env.lanes, moe_trader.env.synthetic"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.rglob("*.nb?"))
