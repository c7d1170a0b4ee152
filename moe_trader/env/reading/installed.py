"""Price files inside other packages' wheels, read where they are installed without importing these packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from moe_trader.env import MarketError


def installed_file(package: str, name: str, remedy: str) -> Path:
    """Return the path of the file called ``name`` in an installed package.

    :param remedy: the command that installs it
    :raises MarketError: the package is not there, or has no such file
    """
    try:
        found = [Path(str(entry.locate())) for entry in files(package) or () if entry.name == name]
    except PackageNotFoundError:
        raise MarketError(f"the package `{package}` is not installed: {remedy}") from None
    if not found or not found[0].is_file():
        raise MarketError(f"the installed package `{package}` has no {name}; install it again: {remedy}")
    return found[0]
