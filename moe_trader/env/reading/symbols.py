"""Which instruments a market is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _different(symbols: list[str]) -> list[str]:
    if len(set(symbols)) < len(symbols):
        raise ValueError(f"symbols: expected different ones, got {symbols}")
    return symbols


Symbols = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), AfterValidator(_different)]
