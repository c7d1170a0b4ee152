"""Kinds of price files that people have, and the bars in each, written by hand; benchmarks/reading.py reads them.

Each module adds the kinds of one matter to ``KINDS``.
"""

from reading_kinds import archives, columns, files, formats, layouts, odd, prices, programs, rows, stamps, vendors  # noqa: F401 - they add kinds
from reading_kinds.base import HEADER, KINDS, PRICES, STANDARD, Kind
from reading_kinds.cases import cases

__all__ = ["HEADER", "KINDS", "PRICES", "STANDARD", "Kind", "cases"]
