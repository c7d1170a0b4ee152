"""Memory, asked for before it is taken: settings that are each in bounds may still multiply to more than there is."""

from __future__ import annotations

import os

from moe_trader.option import ConfigError

UNKNOWN = 2**36  # bytes, where the system does not say how much it has


def check_memory(settings: str, purpose: str, n_bytes: int) -> None:
    """Refuse what cannot fit in this machine's memory.

    :param settings: paths of the settings to lower
    :param purpose: of the memory
    :raises ConfigError: naming the settings, and the memory that is needed and there, in GB of 10^9 bytes
    """
    if n_bytes > (there := physical_memory()):
        raise ConfigError(
            f"{settings}: {purpose} would need about {n_bytes / 1e9:,.0f} GB of memory, and this machine has "
            f"{there / 1e9:,.0f} GB; lower one of them"
        )


def physical_memory() -> int:
    """Return the bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return UNKNOWN
