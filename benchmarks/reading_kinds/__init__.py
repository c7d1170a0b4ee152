"""Kinds of price files that people have, and the bars in each, written by hand; benchmarks/reading.py reads them.

Each module adds the kinds of one matter to ``KINDS``.
"""

import importlib

from reading_kinds.base import HEADER, KINDS, PRICES, STANDARD, Kind
from reading_kinds.cases import cases

for matter in ("layouts", "stamps", "clocks", "rows", "columns", "prices", "decimals", "files", "archives", "formats"):
    importlib.import_module(f"reading_kinds.{matter}")
for matter in ("vendors", "programs", "odd"):
    importlib.import_module(f"reading_kinds.{matter}")

__all__ = ["HEADER", "KINDS", "PRICES", "STANDARD", "Kind", "cases"]
