"""The types of settings that are numbers: bounded on both sides, and neither booleans nor text.

Bounds lie far beyond honest use. They keep a typing error, or the config of somebody else's bundle, from filling the
memory or running for ever; :mod:`moe_trader.memory` checks products of them. Whole numbers are written whole
(400_000, not 4e5).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Whole = Annotated[int, Field(strict=True)]
"""Not a boolean, a text or 3.0; to be bounded where it is used."""
Real = Annotated[float, Field(strict=True)]
"""Not a boolean or a text; to be bounded where it is used."""

MOST_SEEDS = 2**31
MOST_BARS = 10_000_000
MOST_THREADS = 1_024
WIDEST = 65_536

Count = Annotated[Whole, Field(gt=0, le=1_024)]
"""Of experts, seeds, threads, starting points: things that are few."""
Times = Annotated[Whole, Field(gt=0, le=100_000)]
"""Of repetitions: epochs, iterations, cuts."""
Seed = Annotated[Whole, Field(ge=0, lt=MOST_SEEDS)]
Width = Annotated[Whole, Field(gt=0, le=WIDEST)]
"""Of a layer."""
Widths = Annotated[list[Width], Field(max_length=32)]
Bars = Annotated[Whole, Field(gt=0, le=MOST_BARS)]
BarsOrNone = Annotated[Whole, Field(ge=0, le=MOST_BARS)]
TwoBars = Annotated[Whole, Field(ge=2, le=MOST_BARS)]
"""Two or more: of what one bar has none, such as a deviation."""

Position = Annotated[Whole, Field(gt=-16_384, lt=16_384)]
"""Of a column in a table; one that is not there is refused when the table is read."""

Fraction = Annotated[Real, Field(ge=0, le=1)]
BelowOne = Annotated[Real, Field(ge=0, lt=1)]
Probability = Annotated[Real, Field(gt=0, lt=1)]
Positive = Annotated[Real, Field(gt=0, le=1e9)]
NonNegative = Annotated[Real, Field(ge=0, le=1e9)]
AnyReal = Annotated[Real, Field(ge=-1e9, le=1e9)]
Scale = Annotated[Real, Field(ge=1e-6, le=1e9)]
"""By which something is divided: a temperature, a regularisation."""
LearningRate = Annotated[Real, Field(gt=0, le=1e38)]
"""As far as float32 reaches: a rate that is too large for a problem ends in a TrainingError that names it."""
Exposure = Annotated[Real, Field(ge=0, le=1_000)]
"""Absolute position, as a multiple of equity."""
AnnualRate = Annotated[Real, Field(ge=0, le=100)]
"""Fraction per year."""
Fee = Annotated[Real, Field(ge=0, le=1e12)]
"""Currency."""
